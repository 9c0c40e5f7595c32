-- How careful all gates on this state are: what somebody said last. No row is `normal`.
CREATE TABLE posture (
    id       INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    posture  TEXT    NOT NULL,
    until_at INTEGER,               -- from then on it is `normal` again
    why      TEXT    NOT NULL,
    set_by   TEXT    NOT NULL,
    set_at   INTEGER NOT NULL
) STRICT;
