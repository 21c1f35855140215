-- +goose Up
-- How secrets are rotated at their source, what is on its way, and which job was lent which version.
ALTER TABLE secrets ADD COLUMN account TEXT COLLATE "C" NOT NULL DEFAULT '';
CREATE TABLE rotation_rules (
  project     TEXT COLLATE "C" NOT NULL REFERENCES projects (id),
  environment TEXT COLLATE "C" NOT NULL,
  name        TEXT COLLATE "C" NOT NULL,
  rule        TEXT COLLATE "C" NOT NULL,
  admin       BYTEA            NOT NULL,
  PRIMARY KEY (project, environment, name)
);
CREATE TABLE rotations (
  id          TEXT COLLATE "C" NOT NULL PRIMARY KEY,
  project     TEXT COLLATE "C" NOT NULL REFERENCES projects (id),
  environment TEXT COLLATE "C" NOT NULL,
  name        TEXT COLLATE "C" NOT NULL,
  seq         BIGINT           NOT NULL,
  ended       BOOLEAN          NOT NULL,
  rotation    TEXT COLLATE "C" NOT NULL,
  old_sealed  BYTEA            NOT NULL,
  new_sealed  BYTEA            NOT NULL
);
CREATE UNIQUE INDEX rotations_one ON rotations (project, environment, name) WHERE NOT ended;
CREATE INDEX rotations_of ON rotations (project, environment, name, id);
CREATE TABLE secret_leases (
  job         TEXT COLLATE "C" NOT NULL REFERENCES jobs (id),
  attempt     BIGINT           NOT NULL,
  project     TEXT COLLATE "C" NOT NULL,
  environment TEXT COLLATE "C" NOT NULL,
  name        TEXT COLLATE "C" NOT NULL,
  version     TEXT COLLATE "C" NOT NULL,
  run         TEXT COLLATE "C" NOT NULL,
  runner      TEXT COLLATE "C" NOT NULL,
  at          BIGINT           NOT NULL,
  PRIMARY KEY (job, attempt, version)
);
CREATE INDEX secret_leases_version ON secret_leases (version, at);
