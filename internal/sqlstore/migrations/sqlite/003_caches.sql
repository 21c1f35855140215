-- +goose Up
-- What jobs saved for later runs, and what jobs did with it.
CREATE TABLE caches (
  id         TEXT NOT NULL PRIMARY KEY,
  project    TEXT NOT NULL REFERENCES projects (id),
  key        TEXT NOT NULL,
  version    TEXT NOT NULL,
  ref        TEXT NOT NULL,
  tier       TEXT NOT NULL,
  digest     TEXT NOT NULL,
  size       BIGINT NOT NULL,
  run        TEXT NOT NULL,
  job        TEXT NOT NULL,
  signature  BLOB NOT NULL,
  created_at BIGINT NOT NULL,
  used_at    BIGINT NOT NULL,
  UNIQUE (project, ref, tier, version, key)
);
CREATE INDEX caches_by_use ON caches (project, used_at, id);
CREATE INDEX caches_by_age ON caches (project, id);

CREATE TABLE cache_uses (
  run     TEXT NOT NULL REFERENCES runs (id),
  job     TEXT NOT NULL,
  attempt BIGINT NOT NULL,
  outcome TEXT NOT NULL,
  cache   TEXT NOT NULL,
  entry   TEXT NOT NULL,
  at      BIGINT NOT NULL,
  PRIMARY KEY (job, attempt, cache, outcome)
);
CREATE INDEX cache_uses_by_run ON cache_uses (run, at);
