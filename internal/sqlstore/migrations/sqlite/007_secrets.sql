-- +goose Up
-- Secrets for jobs, sealed: what is here opens nothing without the key service.
CREATE TABLE secrets (
  project     TEXT NOT NULL REFERENCES projects (id),
  environment TEXT NOT NULL,
  name        TEXT NOT NULL,
  version     TEXT NOT NULL,
  sealed      BLOB NOT NULL,
  set_at      BIGINT NOT NULL,
  set_by      TEXT NOT NULL,
  PRIMARY KEY (project, environment, name)
);
