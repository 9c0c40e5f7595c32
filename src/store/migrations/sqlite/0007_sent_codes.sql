-- A code on its way to a person: the newest only, for one ceremony.
CREATE TABLE sent_codes (
    id         TEXT    NOT NULL PRIMARY KEY,
    user_id    TEXT    NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    kind       TEXT    NOT NULL,
    scope      TEXT    NOT NULL,                  -- the ceremony or the session that asked for it
    hash       BLOB    NOT NULL,                  -- keyed: six digits are searched in no time
    tries      INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    UNIQUE (user_id, kind)
) STRICT;
CREATE INDEX sent_codes_expiry ON sent_codes (expires_at);
