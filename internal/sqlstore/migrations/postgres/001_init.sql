-- +goose Up
-- Ids are UUIDv7 as text, times are unix microseconds (0: never), JSON is text.
-- COLLATE "C" orders text by its bytes, as SQLite does.

CREATE TABLE projects (
  id             TEXT COLLATE "C" NOT NULL PRIMARY KEY,
  name           TEXT COLLATE "C" NOT NULL UNIQUE,
  default_branch TEXT COLLATE "C" NOT NULL,
  created_at     BIGINT  NOT NULL
);

CREATE TABLE refs (
  project   TEXT COLLATE "C" NOT NULL REFERENCES projects (id),
  name      TEXT COLLATE "C" NOT NULL,
  commit_id TEXT COLLATE "C" NOT NULL,
  PRIMARY KEY (project, name)
);

CREATE TABLE series (
  project TEXT COLLATE "C" NOT NULL REFERENCES projects (id),
  name    TEXT COLLATE "C" NOT NULL,
  last    BIGINT NOT NULL,
  PRIMARY KEY (project, name)
);

CREATE TABLE pushes (
  id            TEXT COLLATE "C" NOT NULL PRIMARY KEY,
  project       TEXT COLLATE "C" NOT NULL REFERENCES projects (id),
  event         TEXT COLLATE "C" NOT NULL,
  action        TEXT COLLATE "C" NOT NULL,
  ref           TEXT COLLATE "C" NOT NULL,
  before_commit TEXT COLLATE "C" NOT NULL,
  commit_id     TEXT COLLATE "C" NOT NULL,
  actor         TEXT COLLATE "C" NOT NULL,
  tier          TEXT COLLATE "C" NOT NULL,
  key           TEXT COLLATE "C" NOT NULL,
  at            BIGINT NOT NULL,
  payload       BYTEA  NOT NULL,
  inputs        BYTEA  NOT NULL,
  UNIQUE (project, key)
);

CREATE TABLE runs (
  id                 TEXT COLLATE "C" NOT NULL PRIMARY KEY,
  project            TEXT COLLATE "C" NOT NULL REFERENCES projects (id),
  push               TEXT COLLATE "C" NOT NULL REFERENCES pushes (id),
  number             BIGINT  NOT NULL,
  workflow           TEXT COLLATE "C" NOT NULL,
  name               TEXT COLLATE "C" NOT NULL,
  title              TEXT COLLATE "C" NOT NULL,
  event              TEXT COLLATE "C" NOT NULL,
  ref                TEXT COLLATE "C" NOT NULL,
  commit_id          TEXT COLLATE "C" NOT NULL,
  tier               TEXT COLLATE "C" NOT NULL,
  actor              TEXT COLLATE "C" NOT NULL,
  plan_digest        TEXT COLLATE "C" NOT NULL,
  status             TEXT COLLATE "C" NOT NULL,
  conclusion         TEXT COLLATE "C" NOT NULL,
  cause              TEXT COLLATE "C" NOT NULL,
  cancel             TEXT COLLATE "C" NOT NULL,
  grp                TEXT COLLATE "C" NOT NULL,
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
  run  TEXT COLLATE "C" NOT NULL PRIMARY KEY REFERENCES runs (id),
  plan BYTEA NOT NULL
);

CREATE TABLE jobs (
  id          TEXT COLLATE "C" NOT NULL PRIMARY KEY,
  run         TEXT COLLATE "C" NOT NULL REFERENCES runs (id),
  position    BIGINT  NOT NULL,
  key         TEXT COLLATE "C" NOT NULL,
  cell        BIGINT  NOT NULL,
  name        TEXT COLLATE "C" NOT NULL,
  matrix      TEXT COLLATE "C" NOT NULL,
  needs       TEXT COLLATE "C" NOT NULL,
  labels      TEXT COLLATE "C" NOT NULL,
  status      TEXT COLLATE "C" NOT NULL,
  conclusion  TEXT COLLATE "C" NOT NULL,
  cause       TEXT COLLATE "C" NOT NULL,
  attempt     BIGINT  NOT NULL,
  runner      TEXT COLLATE "C" NOT NULL,
  outputs     TEXT COLLATE "C" NOT NULL,
  expanded    BOOLEAN NOT NULL,
  cancel      TEXT COLLATE "C" NOT NULL,
  lent        BOOLEAN NOT NULL,
  tolerated   BOOLEAN NOT NULL,
  grp         TEXT COLLATE "C" NOT NULL,
  isolation   TEXT COLLATE "C" NOT NULL,
  steps       TEXT COLLATE "C" NOT NULL,
  created_at  BIGINT  NOT NULL,
  started_at  BIGINT  NOT NULL,
  finished_at BIGINT  NOT NULL,
  UNIQUE (run, position),
  UNIQUE (run, key, cell)
);
CREATE INDEX jobs_in_group ON jobs (grp) WHERE grp <> '' AND status <> 'completed';

-- A piece of work is leased while it has a token. Work that is done is deleted.
CREATE TABLE work (
  id           TEXT COLLATE "C" NOT NULL PRIMARY KEY,
  queue        TEXT COLLATE "C" NOT NULL,
  key          TEXT COLLATE "C" NOT NULL,
  subject      TEXT COLLATE "C" NOT NULL,
  labels       TEXT COLLATE "C" NOT NULL,
  run_at       BIGINT NOT NULL,
  attempt      BIGINT NOT NULL,
  max_attempts BIGINT NOT NULL,
  owner        TEXT COLLATE "C" NOT NULL,
  token        TEXT COLLATE "C" NOT NULL,
  lease_until  BIGINT NOT NULL,
  last_error   TEXT COLLATE "C" NOT NULL,
  created_at   BIGINT NOT NULL,
  UNIQUE (queue, key)
);
CREATE INDEX work_free ON work (queue, run_at, id) WHERE token = '';
CREATE INDEX work_leased ON work (queue, lease_until) WHERE token <> '';
CREATE INDEX work_by_subject ON work (queue, subject);

CREATE TABLE artifacts (
  id         TEXT COLLATE "C" NOT NULL PRIMARY KEY,
  project    TEXT COLLATE "C" NOT NULL REFERENCES projects (id),
  run        TEXT COLLATE "C" NOT NULL REFERENCES runs (id),
  job        TEXT COLLATE "C" NOT NULL,
  name       TEXT COLLATE "C" NOT NULL,
  filename   TEXT COLLATE "C" NOT NULL,
  media_type TEXT COLLATE "C" NOT NULL,
  digest     TEXT COLLATE "C" NOT NULL,
  size       BIGINT NOT NULL,
  tier       TEXT COLLATE "C" NOT NULL,
  created_at BIGINT NOT NULL,
  files      TEXT COLLATE "C" NOT NULL,
  UNIQUE (run, name)
);
CREATE INDEX artifacts_by_project ON artifacts (project, id);
CREATE INDEX artifacts_by_digest ON artifacts (project, digest);

CREATE TABLE statements (
  id             TEXT COLLATE "C" NOT NULL PRIMARY KEY,
  project        TEXT COLLATE "C" NOT NULL REFERENCES projects (id),
  run            TEXT COLLATE "C" NOT NULL,
  subjects       TEXT COLLATE "C" NOT NULL,
  predicate_type TEXT COLLATE "C" NOT NULL,
  identity       TEXT COLLATE "C" NOT NULL,
  log_index      BIGINT NOT NULL,
  bundle_digest  TEXT COLLATE "C" NOT NULL,
  created_at     BIGINT NOT NULL,
  bundle         BYTEA  NOT NULL
);
CREATE INDEX statements_by_run ON statements (run, created_at);

CREATE TABLE statement_subjects (
  project   TEXT COLLATE "C" NOT NULL,
  digest    TEXT COLLATE "C" NOT NULL,
  statement TEXT COLLATE "C" NOT NULL REFERENCES statements (id),
  PRIMARY KEY (project, digest, statement)
);

CREATE TABLE verdicts (
  id            TEXT COLLATE "C" NOT NULL PRIMARY KEY,
  project       TEXT COLLATE "C" NOT NULL REFERENCES projects (id),
  run           TEXT COLLATE "C" NOT NULL,
  gate          TEXT COLLATE "C" NOT NULL,
  environment   TEXT COLLATE "C" NOT NULL,
  subject       TEXT COLLATE "C" NOT NULL,
  artifact      TEXT COLLATE "C" NOT NULL,
  decision      TEXT COLLATE "C" NOT NULL,
  reasons       TEXT COLLATE "C" NOT NULL,
  policy_digest TEXT COLLATE "C" NOT NULL,
  input_digest  TEXT COLLATE "C" NOT NULL,
  at            BIGINT NOT NULL,
  policy        BYTEA  NOT NULL,
  input         BYTEA  NOT NULL
);
CREATE INDEX verdicts_by_project ON verdicts (project, id);
CREATE INDEX verdicts_by_subject ON verdicts (project, subject);

CREATE TABLE releases (
  id          TEXT COLLATE "C" NOT NULL PRIMARY KEY,
  project     TEXT COLLATE "C" NOT NULL REFERENCES projects (id),
  run         TEXT COLLATE "C" NOT NULL,
  artifact    TEXT COLLATE "C" NOT NULL,
  artifact_id TEXT COLLATE "C" NOT NULL,
  digest      TEXT COLLATE "C" NOT NULL,
  commit_id   TEXT COLLATE "C" NOT NULL,
  verdict     TEXT COLLATE "C" NOT NULL,
  created_at  BIGINT NOT NULL
);
CREATE INDEX releases_by_project ON releases (project, id);

CREATE TABLE deployments (
  id          TEXT COLLATE "C" NOT NULL PRIMARY KEY,
  project     TEXT COLLATE "C" NOT NULL REFERENCES projects (id),
  environment TEXT COLLATE "C" NOT NULL,
  release     TEXT COLLATE "C" NOT NULL,
  digest      TEXT COLLATE "C" NOT NULL,
  commit_id   TEXT COLLATE "C" NOT NULL,
  number      BIGINT NOT NULL,
  state       TEXT COLLATE "C" NOT NULL,
  cause       TEXT COLLATE "C" NOT NULL,
  rollback_of TEXT COLLATE "C" NOT NULL,
  actor       TEXT COLLATE "C" NOT NULL,
  weight      BIGINT NOT NULL,
  spec        TEXT COLLATE "C" NOT NULL,
  created_at  BIGINT NOT NULL,
  started_at  BIGINT NOT NULL,
  finished_at BIGINT NOT NULL,
  UNIQUE (project, environment, number)
);
CREATE INDEX deployments_by_project ON deployments (project, id);
CREATE INDEX deployments_by_environment ON deployments (project, environment, id);
CREATE INDEX deployments_unfinished ON deployments (created_at, id) WHERE state IN ('pending', 'applying', 'watching');

CREATE TABLE environments (
  project  TEXT COLLATE "C" NOT NULL REFERENCES projects (id),
  name     TEXT COLLATE "C" NOT NULL,
  url      TEXT COLLATE "C" NOT NULL,
  live     TEXT COLLATE "C" NOT NULL,
  previous TEXT COLLATE "C" NOT NULL,
  at       BIGINT NOT NULL,
  PRIMARY KEY (project, name)
);

CREATE TABLE audit (
  seq       BIGINT NOT NULL PRIMARY KEY,
  at        BIGINT NOT NULL,
  actor     TEXT COLLATE "C" NOT NULL,
  action    TEXT COLLATE "C" NOT NULL,
  object    TEXT COLLATE "C" NOT NULL,
  detail    TEXT COLLATE "C" NOT NULL,
  salt      BYTEA  NOT NULL,
  log_index BIGINT NOT NULL
);
CREATE INDEX audit_unlogged ON audit (seq) WHERE log_index < 0;
CREATE INDEX audit_by_actor ON audit (actor, seq);
CREATE INDEX audit_by_object ON audit (object, seq);

CREATE TABLE tokens (
  id         TEXT COLLATE "C" NOT NULL PRIMARY KEY,
  name       TEXT COLLATE "C" NOT NULL,
  hash       TEXT COLLATE "C" NOT NULL,
  kind       TEXT COLLATE "C" NOT NULL,
  principal  TEXT COLLATE "C" NOT NULL,
  created_at BIGINT NOT NULL,
  expires_at BIGINT NOT NULL,
  used_at    BIGINT NOT NULL,
  UNIQUE (kind, hash)
);
