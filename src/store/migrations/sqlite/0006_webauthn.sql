-- The SHA-256 of a security key's own credential id: unique over all accounts.
ALTER TABLE credentials ADD COLUMN external_hash BLOB;
CREATE UNIQUE INDEX credentials_external ON credentials (external_hash);

-- Questions to security keys that were answered. The question itself stands sealed in the page, so
-- that a stranger who only looks leaves no row; its answer counts for whoever writes this one.
CREATE TABLE spent_questions (
    hash       BLOB    NOT NULL PRIMARY KEY,
    expires_at INTEGER NOT NULL
) STRICT;
CREATE INDEX spent_questions_expiry ON spent_questions (expires_at);
