-- The folder in which a service makes the file of an upload, and in which way.
ALTER TABLE upload_session ADD COLUMN place TEXT NOT NULL DEFAULT '';
