-- How the password of somebody who was imported is hashed, until their first sign-in; NULL where the hash is ours.
ALTER TABLE users ADD COLUMN password_scheme TEXT;
CREATE INDEX users_password_scheme ON users (password_scheme) WHERE password_scheme IS NOT NULL;
