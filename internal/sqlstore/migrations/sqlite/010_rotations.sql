-- +goose Up
-- How secrets are rotated at their source, what is on its way, and which job was lent which version.
ALTER TABLE secrets ADD COLUMN account TEXT NOT NULL DEFAULT '';
CREATE TABLE rotation_rules (
  project     TEXT NOT NULL REFERENCES projects (id),
  environment TEXT NOT NULL,
  name        TEXT NOT NULL,
  rule        TEXT NOT NULL,
  admin       BLOB            NOT NULL,
  PRIMARY KEY (project, environment, name)
);
CREATE TABLE rotations (
  id          TEXT NOT NULL PRIMARY KEY,
  project     TEXT NOT NULL REFERENCES projects (id),
  environment TEXT NOT NULL,
  name        TEXT NOT NULL,
  seq         BIGINT           NOT NULL,
  ended       BOOLEAN          NOT NULL,
  rotation    TEXT NOT NULL,
  old_sealed  BLOB            NOT NULL,
  new_sealed  BLOB            NOT NULL
);
CREATE UNIQUE INDEX rotations_one ON rotations (project, environment, name) WHERE NOT ended;
CREATE INDEX rotations_of ON rotations (project, environment, name, id);
CREATE TABLE secret_leases (
  job         TEXT NOT NULL REFERENCES jobs (id),
  attempt     BIGINT           NOT NULL,
  project     TEXT NOT NULL,
  environment TEXT NOT NULL,
  name        TEXT NOT NULL,
  version     TEXT NOT NULL,
  run         TEXT NOT NULL,
  runner      TEXT NOT NULL,
  at          BIGINT           NOT NULL,
  PRIMARY KEY (job, attempt, version)
);
CREATE INDEX secret_leases_version ON secret_leases (version, at);
