-- Mail that is to be sent. What it says is sealed: it holds links and codes.
CREATE TABLE outbox (
    id           TEXT    NOT NULL PRIMARY KEY,
    user_id      TEXT    NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    kind         TEXT    NOT NULL,
    sealed       BYTEA   NOT NULL,
    created_at   BIGINT  NOT NULL,
    next_at      BIGINT  NOT NULL,                -- not tried before
    give_up_at   BIGINT  NOT NULL,
    tries        BIGINT  NOT NULL,
    lease        TEXT,                            -- who is sending it
    leased_until BIGINT  NOT NULL
);
CREATE INDEX outbox_next ON outbox (next_at);
CREATE INDEX outbox_user ON outbox (user_id);

-- What people were told, and the hash of the link by which they say that it was not them.
CREATE TABLE notices (
    id         TEXT    NOT NULL PRIMARY KEY,
    hash       BYTEA   NOT NULL UNIQUE,
    user_id    TEXT    NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    kind       TEXT    NOT NULL,
    event      TEXT    NOT NULL,                  -- JSON, as in the trail
    created_at BIGINT  NOT NULL,
    expires_at BIGINT  NOT NULL,
    denied_at  BIGINT
);
CREATE INDEX notices_user ON notices (user_id, kind, created_at);
CREATE INDEX notices_expiry ON notices (expires_at);

-- What somebody said was not them; open until an operator has looked into it.
CREATE TABLE incidents (
    id        TEXT    NOT NULL PRIMARY KEY,
    user_id   TEXT    NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    kind      TEXT    NOT NULL,
    event     TEXT    NOT NULL,                   -- JSON, as in the trail
    opened_at BIGINT  NOT NULL,
    closed_at BIGINT,
    closed_by TEXT,
    note      TEXT
);
CREATE INDEX incidents_user ON incidents (user_id);
CREATE INDEX incidents_open ON incidents (closed_at);
