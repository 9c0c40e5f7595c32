-- Browsers that were remembered. Each use of one makes a new secret: a copy that is used shows.
CREATE TABLE remembered_devices (
    id          TEXT    NOT NULL PRIMARY KEY,
    user_id     TEXT    NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    epoch       BIGINT NOT NULL,                 -- of the account: what voids a sign-in under way voids it too
    counter     BIGINT NOT NULL,
    hash        BYTEA   NOT NULL,                 -- of the secret of this counter
    hash_before BYTEA,                          -- of the one before, good for seconds
    evidence    TEXT    NOT NULL,                 -- JSON: what was shown when it was remembered
    created_at  BIGINT NOT NULL,
    used_at     BIGINT NOT NULL,                 -- when the counter went on
    expires_at  BIGINT NOT NULL,
    address     TEXT    NOT NULL,
    user_agent  TEXT    NOT NULL
);
CREATE INDEX remembered_devices_user ON remembered_devices (user_id);
CREATE INDEX remembered_devices_expiry ON remembered_devices (expires_at);
