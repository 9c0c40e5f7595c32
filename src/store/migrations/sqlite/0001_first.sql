-- Times are milliseconds since the Unix epoch. Identifiers are UUIDs as text, hashes are bytes.
CREATE TABLE users (
    id                TEXT    NOT NULL PRIMARY KEY,
    name              TEXT    UNIQUE,              -- NULL once removed: the name is free, the id never is
    display           TEXT    NOT NULL,
    email             TEXT,
    groups_json       TEXT    NOT NULL,
    status            TEXT    NOT NULL CHECK (status IN ('active', 'disabled', 'removed')),
    password          TEXT,                        -- a PHC string
    password_at       INTEGER,
    created_at        INTEGER NOT NULL,
    first_login_until INTEGER,
    ever_enrolled     INTEGER NOT NULL DEFAULT 0,
    removed_at        INTEGER
) STRICT;

CREATE TABLE links (
    hash       BLOB    NOT NULL PRIMARY KEY,
    user_id    TEXT    NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    kind       TEXT    NOT NULL CHECK (kind IN ('sign_up', 'access_pass')),
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT;
CREATE INDEX links_user ON links (user_id);
CREATE INDEX links_expiry ON links (expires_at);

CREATE TABLE credentials (
    id           TEXT    NOT NULL PRIMARY KEY,
    user_id      TEXT    NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    kind         TEXT    NOT NULL,
    label        TEXT    NOT NULL,
    secret       BLOB    NOT NULL,                 -- sealed
    last_step    INTEGER NOT NULL,
    failures     INTEGER NOT NULL,
    created_at   INTEGER NOT NULL,
    last_used_at INTEGER,
    disabled_at  INTEGER
) STRICT;
CREATE INDEX credentials_user ON credentials (user_id);

CREATE TABLE backup_sets (
    user_id    TEXT    NOT NULL PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE,
    salt       BLOB    NOT NULL,
    made       INTEGER NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE backup_codes (
    user_id TEXT NOT NULL REFERENCES backup_sets (user_id) ON DELETE CASCADE,
    hash    BLOB NOT NULL,
    PRIMARY KEY (user_id, hash)
) STRICT;

CREATE TABLE attempts (
    key           TEXT    NOT NULL PRIMARY KEY,
    count         INTEGER NOT NULL,
    started_at    INTEGER NOT NULL,
    blocked_until INTEGER NOT NULL,
    expires_at    INTEGER NOT NULL
) STRICT;
CREATE INDEX attempts_expiry ON attempts (expires_at);

CREATE TABLE sessions (
    id           TEXT    NOT NULL PRIMARY KEY,
    user_id      TEXT    NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    created_at   INTEGER NOT NULL,
    last_seen_at INTEGER NOT NULL,
    expires_at   INTEGER NOT NULL,
    address      TEXT    NOT NULL,
    user_agent   TEXT    NOT NULL,
    ended_at     INTEGER,
    end_reason   TEXT
) STRICT;
CREATE INDEX sessions_user ON sessions (user_id);
CREATE INDEX sessions_ended ON sessions (ended_at);
CREATE INDEX sessions_expiry ON sessions (expires_at);

CREATE TABLE tokens (
    hash          BLOB    NOT NULL PRIMARY KEY,
    session_id    TEXT    NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    host          TEXT    NOT NULL,
    evidence      TEXT    NOT NULL,                -- JSON; never updated: what stands behind an id never grows
    created_at    INTEGER NOT NULL,
    superseded_at INTEGER
) STRICT;
CREATE INDEX tokens_session ON tokens (session_id);

-- AUTOINCREMENT: a number that was used never comes back, for pollers remember numbers.
CREATE TABLE revocations (
    seq    INTEGER PRIMARY KEY AUTOINCREMENT,
    kind   TEXT    NOT NULL CHECK (kind IN ('session', 'user', 'all')),
    target TEXT,
    at     INTEGER NOT NULL                        -- by the database's clock, not a replica's
) STRICT;
CREATE INDEX revocations_at ON revocations (at);

CREATE TABLE flows (
    id           TEXT    NOT NULL PRIMARY KEY,
    secret_hash  BLOB    NOT NULL,
    browser_hash BLOB    NOT NULL,
    user_id      TEXT    NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    version      INTEGER NOT NULL,
    state        TEXT    NOT NULL,
    created_at   INTEGER NOT NULL,
    expires_at   INTEGER NOT NULL
) STRICT;
CREATE INDEX flows_user ON flows (user_id);
CREATE INDEX flows_expiry ON flows (expires_at);

CREATE TABLE handovers (
    code_hash  BLOB    NOT NULL PRIMARY KEY,
    session_id TEXT    NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    host       TEXT    NOT NULL,
    nonce_hash BLOB    NOT NULL,
    evidence   TEXT    NOT NULL,
    target     TEXT    NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT;
CREATE INDEX handovers_session ON handovers (session_id);
CREATE INDEX handovers_expiry ON handovers (expires_at);

-- payload is the event as it was hashed; at, action, actor and subject repeat parts of it for searching.
CREATE TABLE audit_log (
    seq     INTEGER NOT NULL PRIMARY KEY,
    at      INTEGER NOT NULL,
    action  TEXT    NOT NULL,
    actor   TEXT,
    subject TEXT,
    payload TEXT    NOT NULL,
    prev    BLOB    NOT NULL,
    hash    BLOB    NOT NULL
) STRICT;
CREATE INDEX audit_log_at ON audit_log (at);
CREATE INDEX audit_log_actor ON audit_log (actor, seq);
CREATE INDEX audit_log_subject ON audit_log (subject, seq);

CREATE TABLE audit_head (
    id   INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    seq  INTEGER NOT NULL,
    hash BLOB    NOT NULL,
    mac  BLOB    NOT NULL
) STRICT;
