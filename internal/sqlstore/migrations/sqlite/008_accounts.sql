-- +goose Up
-- People, bots and agents that are known apart from their credentials; and the
-- operator's policies of who may do what, each as it was set.
CREATE TABLE accounts (
  id         TEXT    NOT NULL PRIMARY KEY,
  kind       TEXT    NOT NULL,
  name       TEXT    NOT NULL,
  sponsor    TEXT    NOT NULL,
  teams      TEXT    NOT NULL,
  admin      BOOLEAN NOT NULL,
  projects   TEXT    NOT NULL,
  created_at BIGINT  NOT NULL,
  removed_at BIGINT  NOT NULL
);
CREATE TABLE access_files (
  number BIGINT NOT NULL PRIMARY KEY,
  digest TEXT   NOT NULL,
  source TEXT   NOT NULL,
  actor  TEXT   NOT NULL,
  at     BIGINT NOT NULL
);
