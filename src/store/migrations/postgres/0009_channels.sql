-- By what a message leaves the house: mail, or a text message.
ALTER TABLE outbox ADD COLUMN channel TEXT NOT NULL DEFAULT 'mail';
