-- Counts the moments after which nothing that a person showed before may become a session.
ALTER TABLE users ADD COLUMN epoch INTEGER NOT NULL DEFAULT 0;
ALTER TABLE flows ADD COLUMN epoch INTEGER NOT NULL DEFAULT 0;
