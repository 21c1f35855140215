-- +goose Up
-- Requests, grants and stops do not change: what happened to one is an event, and
-- its state follows from those. Body is the noun as it was made, JSON. Numbers say
-- what came first also when a clock went back.
CREATE TABLE requests (
  id          TEXT   NOT NULL PRIMARY KEY,
  number      BIGINT NOT NULL UNIQUE,
  kind        TEXT   NOT NULL,
  project     TEXT   NOT NULL,
  environment TEXT   NOT NULL,
  subject     TEXT   NOT NULL,
  created_at  BIGINT NOT NULL,
  body        TEXT   NOT NULL
);
CREATE INDEX requests_project ON requests (project, id);
CREATE INDEX requests_environment ON requests (project, environment, number);
CREATE INDEX requests_subject ON requests (subject, number);
CREATE TABLE grants (
  id          TEXT   NOT NULL PRIMARY KEY,
  request     TEXT   NOT NULL UNIQUE REFERENCES requests (id),
  ends_at     BIGINT NOT NULL,
  body        TEXT   NOT NULL
);
CREATE TABLE stops (
  id          TEXT   NOT NULL PRIMARY KEY,
  at          BIGINT NOT NULL,
  body        TEXT   NOT NULL
);
CREATE TABLE access_events (
  number      BIGINT NOT NULL PRIMARY KEY,
  subject     TEXT   NOT NULL,
  kind        TEXT   NOT NULL,
  key         TEXT   NOT NULL,
  word        TEXT   NOT NULL,
  at          BIGINT NOT NULL,
  body        TEXT   NOT NULL,
  UNIQUE (subject, kind, key)
);
