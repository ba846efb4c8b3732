-- Frames say which policy could veto their leader: a digest, empty for none. Rows of before, and what an older worker
-- writes, have none.
ALTER TABLE frames ADD COLUMN policy text NOT NULL DEFAULT '';
ALTER TABLE frame_history ADD COLUMN policy text NOT NULL DEFAULT '';
