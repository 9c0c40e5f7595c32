-- A code on its way to a person: the newest only, for one ceremony.
CREATE TABLE sent_codes (
    id         TEXT    NOT NULL PRIMARY KEY,
    user_id    TEXT    NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    kind       TEXT    NOT NULL,
    scope      TEXT    NOT NULL,                  -- the ceremony or the session that asked for it
    hash       BYTEA   NOT NULL,                  -- keyed: six digits are searched in no time
    tries      BIGINT  NOT NULL,
    created_at BIGINT  NOT NULL,
    expires_at BIGINT  NOT NULL,
    UNIQUE (user_id, kind)
);
CREATE INDEX sent_codes_expiry ON sent_codes (expires_at);
