-- Browsers that were remembered. Each use of one makes a new secret: a copy that is used shows.
CREATE TABLE remembered_devices (
    id          TEXT    NOT NULL PRIMARY KEY,
    user_id     TEXT    NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    epoch       INTEGER NOT NULL,                 -- of the account: what voids a sign-in under way voids it too
    counter     INTEGER NOT NULL,
    hash        BLOB   NOT NULL,                 -- of the secret of this counter
    hash_before BLOB,                          -- of the one before, good for seconds
    evidence    TEXT    NOT NULL,                 -- JSON: what was shown when it was remembered
    created_at  INTEGER NOT NULL,
    used_at     INTEGER NOT NULL,                 -- when the counter went on
    expires_at  INTEGER NOT NULL,
    address     TEXT    NOT NULL,
    user_agent  TEXT    NOT NULL
) STRICT;
CREATE INDEX remembered_devices_user ON remembered_devices (user_id);
CREATE INDEX remembered_devices_expiry ON remembered_devices (expires_at);
