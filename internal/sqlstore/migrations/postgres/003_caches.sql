-- +goose Up
-- What jobs saved for later runs, and what jobs did with it.
CREATE TABLE caches (
  id         TEXT COLLATE "C" NOT NULL PRIMARY KEY,
  project    TEXT COLLATE "C" NOT NULL REFERENCES projects (id),
  key        TEXT COLLATE "C" NOT NULL,
  version    TEXT COLLATE "C" NOT NULL,
  ref        TEXT COLLATE "C" NOT NULL,
  tier       TEXT COLLATE "C" NOT NULL,
  digest     TEXT COLLATE "C" NOT NULL,
  size       BIGINT NOT NULL,
  run        TEXT COLLATE "C" NOT NULL,
  job        TEXT COLLATE "C" NOT NULL,
  signature  BYTEA NOT NULL,
  created_at BIGINT NOT NULL,
  used_at    BIGINT NOT NULL,
  UNIQUE (project, ref, tier, version, key)
);
CREATE INDEX caches_by_use ON caches (project, used_at, id);
CREATE INDEX caches_by_age ON caches (project, id);

CREATE TABLE cache_uses (
  run     TEXT COLLATE "C" NOT NULL REFERENCES runs (id),
  job     TEXT COLLATE "C" NOT NULL,
  attempt BIGINT NOT NULL,
  outcome TEXT COLLATE "C" NOT NULL,
  cache   TEXT COLLATE "C" NOT NULL,
  entry   TEXT COLLATE "C" NOT NULL,
  at      BIGINT NOT NULL,
  PRIMARY KEY (job, attempt, cache, outcome)
);
CREATE INDEX cache_uses_by_run ON cache_uses (run, at);
