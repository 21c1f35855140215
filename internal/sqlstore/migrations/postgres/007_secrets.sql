-- +goose Up
-- Secrets for jobs, sealed: what is here opens nothing without the key service.
CREATE TABLE secrets (
  project     TEXT COLLATE "C" NOT NULL REFERENCES projects (id),
  environment TEXT COLLATE "C" NOT NULL,
  name        TEXT COLLATE "C" NOT NULL,
  version     TEXT COLLATE "C" NOT NULL,
  sealed      BYTEA NOT NULL,
  set_at      BIGINT NOT NULL,
  set_by      TEXT COLLATE "C" NOT NULL,
  PRIMARY KEY (project, environment, name)
);
