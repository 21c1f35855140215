-- +goose Up
-- Jobs of called workflows: the cells of one job may each call the same jobs, so
-- that a job is known by its parent too. SQLite changes a table's keys by copying it.
CREATE TABLE jobs_with_calls (
  id             TEXT    NOT NULL PRIMARY KEY,
  run            TEXT    NOT NULL REFERENCES runs (id),
  position       BIGINT  NOT NULL,
  parent         TEXT    NOT NULL DEFAULT '',
  key            TEXT    NOT NULL,
  cell           BIGINT  NOT NULL,
  name           TEXT    NOT NULL,
  matrix         TEXT    NOT NULL,
  needs          TEXT    NOT NULL,
  labels         TEXT    NOT NULL,
  status         TEXT    NOT NULL,
  conclusion     TEXT    NOT NULL,
  cause          TEXT    NOT NULL,
  attempt        BIGINT  NOT NULL,
  runner         TEXT    NOT NULL,
  outputs        TEXT    NOT NULL,
  expanded       BOOLEAN NOT NULL,
  cancel         TEXT    NOT NULL,
  lent           BOOLEAN NOT NULL,
  tolerated      BOOLEAN NOT NULL,
  uses           TEXT    NOT NULL DEFAULT '',
  inputs         TEXT    NOT NULL DEFAULT '',
  tainted_inputs TEXT    NOT NULL DEFAULT 'null',
  grp            TEXT    NOT NULL,
  call_grp       TEXT    NOT NULL DEFAULT '',
  ready_at       BIGINT  NOT NULL DEFAULT 0,
  admitted       BOOLEAN NOT NULL DEFAULT FALSE,
  environment    TEXT    NOT NULL DEFAULT 'null',
  isolation      TEXT    NOT NULL,
  steps          TEXT    NOT NULL,
  created_at     BIGINT  NOT NULL,
  started_at     BIGINT  NOT NULL,
  finished_at    BIGINT  NOT NULL,
  tainted        TEXT    NOT NULL DEFAULT 'null',
  UNIQUE (run, position),
  UNIQUE (run, parent, key, cell)
);
INSERT INTO jobs_with_calls (
  id, run, position, key, cell, name, matrix, needs, labels, status, conclusion, cause, attempt, runner,
  outputs, expanded, cancel, lent, tolerated, grp, isolation, steps, created_at, started_at, finished_at, tainted)
SELECT
  id, run, position, key, cell, name, matrix, needs, labels, status, conclusion, cause, attempt, runner,
  outputs, expanded, cancel, lent, tolerated, grp, isolation, steps, created_at, started_at, finished_at, tainted
FROM jobs;
DROP TABLE jobs;
ALTER TABLE jobs_with_calls RENAME TO jobs;
CREATE INDEX jobs_in_group ON jobs (grp) WHERE grp <> '' AND status <> 'completed';
CREATE INDEX jobs_in_call_group ON jobs (call_grp) WHERE call_grp <> '' AND status <> 'completed';
-- Jobs on their way have their place already.
UPDATE jobs SET admitted = TRUE, ready_at = created_at WHERE expanded AND status <> 'waiting';
