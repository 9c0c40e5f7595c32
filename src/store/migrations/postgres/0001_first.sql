-- Times are milliseconds since the Unix epoch. Identifiers are UUIDs as text, hashes are bytes.
CREATE TABLE users (
    id                TEXT    NOT NULL PRIMARY KEY,
    name              TEXT    UNIQUE,              -- NULL once removed: the name is free, the id never is
    display           TEXT    NOT NULL,
    email             TEXT,
    groups_json       TEXT    NOT NULL,
    status            TEXT    NOT NULL CHECK (status IN ('active', 'disabled', 'removed')),
    password          TEXT,                        -- a PHC string
    password_at       BIGINT,
    created_at        BIGINT  NOT NULL,
    first_login_until BIGINT,
    ever_enrolled     BIGINT  NOT NULL DEFAULT 0,
    removed_at        BIGINT
);

CREATE TABLE links (
    hash       BYTEA   NOT NULL PRIMARY KEY,
    user_id    TEXT    NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    kind       TEXT    NOT NULL CHECK (kind IN ('sign_up', 'access_pass')),
    created_at BIGINT  NOT NULL,
    expires_at BIGINT  NOT NULL
);
CREATE INDEX links_user ON links (user_id);
CREATE INDEX links_expiry ON links (expires_at);

CREATE TABLE credentials (
    id           TEXT    NOT NULL PRIMARY KEY,
    user_id      TEXT    NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    kind         TEXT    NOT NULL,
    label        TEXT    NOT NULL,
    secret       BYTEA   NOT NULL,                 -- sealed
    last_step    BIGINT  NOT NULL,
    failures     BIGINT  NOT NULL,
    created_at   BIGINT  NOT NULL,
    last_used_at BIGINT,
    disabled_at  BIGINT
);
CREATE INDEX credentials_user ON credentials (user_id);

CREATE TABLE backup_sets (
    user_id    TEXT    NOT NULL PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE,
    salt       BYTEA   NOT NULL,
    made       BIGINT  NOT NULL,
    created_at BIGINT  NOT NULL
);

CREATE TABLE backup_codes (
    user_id TEXT NOT NULL REFERENCES backup_sets (user_id) ON DELETE CASCADE,
    hash    BYTEA NOT NULL,
    PRIMARY KEY (user_id, hash)
);

CREATE TABLE attempts (
    key           TEXT    NOT NULL PRIMARY KEY,
    count         BIGINT  NOT NULL,
    started_at    BIGINT  NOT NULL,
    blocked_until BIGINT  NOT NULL,
    expires_at    BIGINT  NOT NULL
);
CREATE INDEX attempts_expiry ON attempts (expires_at);

CREATE TABLE sessions (
    id           TEXT    NOT NULL PRIMARY KEY,
    user_id      TEXT    NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    created_at   BIGINT  NOT NULL,
    last_seen_at BIGINT  NOT NULL,
    expires_at   BIGINT  NOT NULL,
    address      TEXT    NOT NULL,
    user_agent   TEXT    NOT NULL,
    ended_at     BIGINT,
    end_reason   TEXT
);
CREATE INDEX sessions_user ON sessions (user_id);
CREATE INDEX sessions_ended ON sessions (ended_at);
CREATE INDEX sessions_expiry ON sessions (expires_at);

CREATE TABLE tokens (
    hash          BYTEA   NOT NULL PRIMARY KEY,
    session_id    TEXT    NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    host          TEXT    NOT NULL,
    evidence      TEXT    NOT NULL,                -- JSON; never updated: what stands behind an id never grows
    created_at    BIGINT  NOT NULL,
    superseded_at BIGINT
);
CREATE INDEX tokens_session ON tokens (session_id);

CREATE TABLE revocations (
    seq    BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind   TEXT    NOT NULL CHECK (kind IN ('session', 'user', 'all')),
    target TEXT,
    at     BIGINT  NOT NULL                        -- by the database's clock, not a replica's
);
CREATE INDEX revocations_at ON revocations (at);

CREATE TABLE flows (
    id           TEXT    NOT NULL PRIMARY KEY,
    secret_hash  BYTEA   NOT NULL,
    browser_hash BYTEA   NOT NULL,
    user_id      TEXT    NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    version      BIGINT  NOT NULL,
    state        TEXT    NOT NULL,
    created_at   BIGINT  NOT NULL,
    expires_at   BIGINT  NOT NULL
);
CREATE INDEX flows_user ON flows (user_id);
CREATE INDEX flows_expiry ON flows (expires_at);

CREATE TABLE handovers (
    code_hash  BYTEA   NOT NULL PRIMARY KEY,
    session_id TEXT    NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    host       TEXT    NOT NULL,
    nonce_hash BYTEA   NOT NULL,
    evidence   TEXT    NOT NULL,
    target     TEXT    NOT NULL,
    expires_at BIGINT  NOT NULL
);
CREATE INDEX handovers_session ON handovers (session_id);
CREATE INDEX handovers_expiry ON handovers (expires_at);

-- payload is the event as it was hashed; at, action, actor and subject repeat parts of it for searching.
CREATE TABLE audit_log (
    seq     BIGINT  NOT NULL PRIMARY KEY,
    at      BIGINT  NOT NULL,
    action  TEXT    NOT NULL,
    actor   TEXT,
    subject TEXT,
    payload TEXT    NOT NULL,
    prev    BYTEA   NOT NULL,
    hash    BYTEA   NOT NULL
);
CREATE INDEX audit_log_at ON audit_log (at);
CREATE INDEX audit_log_actor ON audit_log (actor, seq);
CREATE INDEX audit_log_subject ON audit_log (subject, seq);

CREATE TABLE audit_head (
    id   BIGINT  NOT NULL PRIMARY KEY CHECK (id = 1),
    seq  BIGINT  NOT NULL,
    hash BYTEA   NOT NULL,
    mac  BYTEA   NOT NULL
);
