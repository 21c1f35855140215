-- +goose Up
-- Jobs of called workflows: the cells of one job may each call the same jobs, so
-- that a job is known by its parent too.
ALTER TABLE jobs
  ADD COLUMN parent         TEXT    NOT NULL DEFAULT '',
  ADD COLUMN uses           TEXT    NOT NULL DEFAULT '',
  ADD COLUMN inputs         TEXT    NOT NULL DEFAULT '',
  ADD COLUMN tainted_inputs TEXT    NOT NULL DEFAULT 'null',
  ADD COLUMN call_grp       TEXT    NOT NULL DEFAULT '',
  ADD COLUMN ready_at       BIGINT  NOT NULL DEFAULT 0,
  ADD COLUMN admitted       BOOLEAN NOT NULL DEFAULT FALSE,
  ADD COLUMN environment    TEXT    NOT NULL DEFAULT 'null',
  DROP CONSTRAINT jobs_run_key_cell_key,
  ADD UNIQUE (run, parent, key, cell);
CREATE INDEX jobs_in_call_group ON jobs (call_grp) WHERE call_grp <> '' AND status <> 'completed';
-- Jobs on their way have their place already.
UPDATE jobs SET admitted = TRUE, ready_at = created_at WHERE expanded AND status <> 'waiting';
