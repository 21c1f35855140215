-- +goose Up
-- Ids are UUIDv7 as text, times are unix microseconds (0: never), JSON is text.

CREATE TABLE projects (
  id             TEXT    NOT NULL PRIMARY KEY,
  name           TEXT    NOT NULL UNIQUE,
  default_branch TEXT    NOT NULL,
  created_at     BIGINT  NOT NULL
);

CREATE TABLE refs (
  project   TEXT NOT NULL REFERENCES projects (id),
  name      TEXT NOT NULL,
  commit_id TEXT NOT NULL,
  PRIMARY KEY (project, name)
);

CREATE TABLE series (
  project TEXT   NOT NULL REFERENCES projects (id),
  name    TEXT   NOT NULL,
  last    BIGINT NOT NULL,
  PRIMARY KEY (project, name)
);

CREATE TABLE pushes (
  id            TEXT   NOT NULL PRIMARY KEY,
  project       TEXT   NOT NULL REFERENCES projects (id),
  event         TEXT   NOT NULL,
  action        TEXT   NOT NULL,
  ref           TEXT   NOT NULL,
  before_commit TEXT   NOT NULL,
  commit_id     TEXT   NOT NULL,
  actor         TEXT   NOT NULL,
  tier          TEXT   NOT NULL,
  key           TEXT   NOT NULL,
  at            BIGINT NOT NULL,
  payload       BLOB   NOT NULL,
  inputs        BLOB   NOT NULL,
  UNIQUE (project, key)
);

CREATE TABLE runs (
  id                 TEXT    NOT NULL PRIMARY KEY,
  project            TEXT    NOT NULL REFERENCES projects (id),
  push               TEXT    NOT NULL REFERENCES pushes (id),
  number             BIGINT  NOT NULL,
  workflow           TEXT    NOT NULL,
  name               TEXT    NOT NULL,
  title              TEXT    NOT NULL,
  event              TEXT    NOT NULL,
  ref                TEXT    NOT NULL,
  commit_id          TEXT    NOT NULL,
  tier               TEXT    NOT NULL,
  actor              TEXT    NOT NULL,
  plan_digest        TEXT    NOT NULL,
  status             TEXT    NOT NULL,
  conclusion         TEXT    NOT NULL,
  cause              TEXT    NOT NULL,
  cancel             TEXT    NOT NULL,
  grp                TEXT    NOT NULL,
  cancel_in_progress BOOLEAN NOT NULL,
  created_at         BIGINT  NOT NULL,
  started_at         BIGINT  NOT NULL,
  finished_at        BIGINT  NOT NULL,
  UNIQUE (project, number)
);
CREATE INDEX runs_by_project ON runs (project, id);
CREATE INDEX runs_by_push ON runs (push, id);
CREATE INDEX runs_by_status ON runs (status, id);
CREATE INDEX runs_unfinished ON runs (created_at, id) WHERE status <> 'completed';
CREATE INDEX runs_in_group ON runs (project, grp, number) WHERE status <> 'completed';

CREATE TABLE plans (
  run  TEXT NOT NULL PRIMARY KEY REFERENCES runs (id),
  plan BLOB NOT NULL
);

CREATE TABLE jobs (
  id          TEXT    NOT NULL PRIMARY KEY,
  run         TEXT    NOT NULL REFERENCES runs (id),
  position    BIGINT  NOT NULL,
  key         TEXT    NOT NULL,
  cell        BIGINT  NOT NULL,
  name        TEXT    NOT NULL,
  matrix      TEXT    NOT NULL,
  needs       TEXT    NOT NULL,
  labels      TEXT    NOT NULL,
  status      TEXT    NOT NULL,
  conclusion  TEXT    NOT NULL,
  cause       TEXT    NOT NULL,
  attempt     BIGINT  NOT NULL,
  runner      TEXT    NOT NULL,
  outputs     TEXT    NOT NULL,
  expanded    BOOLEAN NOT NULL,
  cancel      TEXT    NOT NULL,
  lent        BOOLEAN NOT NULL,
  tolerated   BOOLEAN NOT NULL,
  grp         TEXT    NOT NULL,
  isolation   TEXT    NOT NULL,
  steps       TEXT    NOT NULL,
  created_at  BIGINT  NOT NULL,
  started_at  BIGINT  NOT NULL,
  finished_at BIGINT  NOT NULL,
  UNIQUE (run, position),
  UNIQUE (run, key, cell)
);
CREATE INDEX jobs_in_group ON jobs (grp) WHERE grp <> '' AND status <> 'completed';

-- A piece of work is leased while it has a token. Work that is done is deleted.
CREATE TABLE work (
  id           TEXT   NOT NULL PRIMARY KEY,
  queue        TEXT   NOT NULL,
  key          TEXT   NOT NULL,
  subject      TEXT   NOT NULL,
  labels       TEXT   NOT NULL,
  run_at       BIGINT NOT NULL,
  attempt      BIGINT NOT NULL,
  max_attempts BIGINT NOT NULL,
  owner        TEXT   NOT NULL,
  token        TEXT   NOT NULL,
  lease_until  BIGINT NOT NULL,
  last_error   TEXT   NOT NULL,
  created_at   BIGINT NOT NULL,
  UNIQUE (queue, key)
);
CREATE INDEX work_free ON work (queue, run_at, id) WHERE token = '';
CREATE INDEX work_leased ON work (queue, lease_until) WHERE token <> '';
CREATE INDEX work_by_subject ON work (queue, subject);

CREATE TABLE artifacts (
  id         TEXT   NOT NULL PRIMARY KEY,
  project    TEXT   NOT NULL REFERENCES projects (id),
  run        TEXT   NOT NULL REFERENCES runs (id),
  job        TEXT   NOT NULL,
  name       TEXT   NOT NULL,
  filename   TEXT   NOT NULL,
  media_type TEXT   NOT NULL,
  digest     TEXT   NOT NULL,
  size       BIGINT NOT NULL,
  tier       TEXT   NOT NULL,
  created_at BIGINT NOT NULL,
  files      TEXT   NOT NULL,
  UNIQUE (run, name)
);
CREATE INDEX artifacts_by_project ON artifacts (project, id);
CREATE INDEX artifacts_by_digest ON artifacts (project, digest);

CREATE TABLE statements (
  id             TEXT   NOT NULL PRIMARY KEY,
  project        TEXT   NOT NULL REFERENCES projects (id),
  run            TEXT   NOT NULL,
  subjects       TEXT   NOT NULL,
  predicate_type TEXT   NOT NULL,
  identity       TEXT   NOT NULL,
  log_index      BIGINT NOT NULL,
  bundle_digest  TEXT   NOT NULL,
  created_at     BIGINT NOT NULL,
  bundle         BLOB   NOT NULL
);
CREATE INDEX statements_by_run ON statements (run, created_at);

CREATE TABLE statement_subjects (
  project   TEXT NOT NULL,
  digest    TEXT NOT NULL,
  statement TEXT NOT NULL REFERENCES statements (id),
  PRIMARY KEY (project, digest, statement)
);

CREATE TABLE verdicts (
  id            TEXT   NOT NULL PRIMARY KEY,
  project       TEXT   NOT NULL REFERENCES projects (id),
  run           TEXT   NOT NULL,
  gate          TEXT   NOT NULL,
  environment   TEXT   NOT NULL,
  subject       TEXT   NOT NULL,
  artifact      TEXT   NOT NULL,
  decision      TEXT   NOT NULL,
  reasons       TEXT   NOT NULL,
  policy_digest TEXT   NOT NULL,
  input_digest  TEXT   NOT NULL,
  at            BIGINT NOT NULL,
  policy        BLOB   NOT NULL,
  input         BLOB   NOT NULL
);
CREATE INDEX verdicts_by_project ON verdicts (project, id);
CREATE INDEX verdicts_by_subject ON verdicts (project, subject);

CREATE TABLE releases (
  id          TEXT   NOT NULL PRIMARY KEY,
  project     TEXT   NOT NULL REFERENCES projects (id),
  run         TEXT   NOT NULL,
  artifact    TEXT   NOT NULL,
  artifact_id TEXT   NOT NULL,
  digest      TEXT   NOT NULL,
  commit_id   TEXT   NOT NULL,
  verdict     TEXT   NOT NULL,
  created_at  BIGINT NOT NULL
);
CREATE INDEX releases_by_project ON releases (project, id);

CREATE TABLE deployments (
  id          TEXT   NOT NULL PRIMARY KEY,
  project     TEXT   NOT NULL REFERENCES projects (id),
  environment TEXT   NOT NULL,
  release     TEXT   NOT NULL,
  digest      TEXT   NOT NULL,
  commit_id   TEXT   NOT NULL,
  number      BIGINT NOT NULL,
  state       TEXT   NOT NULL,
  cause       TEXT   NOT NULL,
  rollback_of TEXT   NOT NULL,
  actor       TEXT   NOT NULL,
  weight      BIGINT NOT NULL,
  spec        TEXT   NOT NULL,
  created_at  BIGINT NOT NULL,
  started_at  BIGINT NOT NULL,
  finished_at BIGINT NOT NULL,
  UNIQUE (project, environment, number)
);
CREATE INDEX deployments_by_project ON deployments (project, id);
CREATE INDEX deployments_by_environment ON deployments (project, environment, id);
CREATE INDEX deployments_unfinished ON deployments (created_at, id) WHERE state IN ('pending', 'applying', 'watching');

CREATE TABLE environments (
  project  TEXT   NOT NULL REFERENCES projects (id),
  name     TEXT   NOT NULL,
  url      TEXT   NOT NULL,
  live     TEXT   NOT NULL,
  previous TEXT   NOT NULL,
  at       BIGINT NOT NULL,
  PRIMARY KEY (project, name)
);

CREATE TABLE audit (
  seq       INTEGER NOT NULL PRIMARY KEY, -- the rowid
  at        BIGINT NOT NULL,
  actor     TEXT   NOT NULL,
  action    TEXT   NOT NULL,
  object    TEXT   NOT NULL,
  detail    TEXT   NOT NULL,
  salt      BLOB   NOT NULL,
  log_index BIGINT NOT NULL
);
CREATE INDEX audit_unlogged ON audit (seq) WHERE log_index < 0;
CREATE INDEX audit_by_actor ON audit (actor, seq);
CREATE INDEX audit_by_object ON audit (object, seq);

CREATE TABLE tokens (
  id         TEXT   NOT NULL PRIMARY KEY,
  name       TEXT   NOT NULL,
  hash       TEXT   NOT NULL,
  kind       TEXT   NOT NULL,
  principal  TEXT   NOT NULL,
  created_at BIGINT NOT NULL,
  expires_at BIGINT NOT NULL,
  used_at    BIGINT NOT NULL,
  UNIQUE (kind, hash)
);
