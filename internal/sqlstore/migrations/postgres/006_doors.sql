-- +goose Up
-- What the doors of jobs' rooms have seen, as runners handed it in.
CREATE TABLE door_records (
  run     TEXT   NOT NULL REFERENCES runs (id),
  job     TEXT   NOT NULL,
  attempt BIGINT NOT NULL,
  seq     BIGINT NOT NULL,
  record  TEXT   NOT NULL,
  size    BIGINT NOT NULL,
  at      BIGINT NOT NULL,
  PRIMARY KEY (job, attempt, seq)
);
CREATE INDEX door_records_by_run ON door_records (run);
