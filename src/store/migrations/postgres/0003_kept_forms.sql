-- What was posted when more had to be shown first. Each waits some minutes for its person.
CREATE TABLE kept_forms (
    id           TEXT    NOT NULL PRIMARY KEY,
    browser_hash BYTEA   NOT NULL,
    host         TEXT    NOT NULL,
    session_id   TEXT    REFERENCES sessions (id) ON DELETE CASCADE, -- NULL where none was live
    user_id      TEXT    REFERENCES users (id) ON DELETE CASCADE,    -- NULL where nobody was known
    owner        TEXT    NOT NULL,                -- whose share it counts against
    size         BIGINT  NOT NULL,
    sealed       BYTEA   NOT NULL,                -- empty once it was sent
    created_at   BIGINT  NOT NULL,
    expires_at   BIGINT  NOT NULL,
    renewals     BIGINT  NOT NULL,
    sent_at      BIGINT 
);
CREATE INDEX kept_forms_owner ON kept_forms (owner);
CREATE INDEX kept_forms_session ON kept_forms (session_id);
CREATE INDEX kept_forms_user ON kept_forms (user_id);
CREATE INDEX kept_forms_expiry ON kept_forms (expires_at);
