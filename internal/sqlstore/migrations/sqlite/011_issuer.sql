-- +goose Up
-- When the keys of ID tokens sign and are published; the keys are in the key service.
CREATE TABLE issuer_keys (
  id         TEXT NOT NULL PRIMARY KEY,
  kid        TEXT NOT NULL,
  algorithm  TEXT NOT NULL,
  made_at    BIGINT NOT NULL,
  signs_from BIGINT NOT NULL,
  gone_at    BIGINT NOT NULL
);
