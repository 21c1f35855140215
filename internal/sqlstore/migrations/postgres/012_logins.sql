-- +goose Up
-- Which account a person of a provider of identities has.
CREATE TABLE logins (
  issuer     TEXT   NOT NULL,
  subject    TEXT   NOT NULL,
  account    TEXT   NOT NULL,
  created_at BIGINT NOT NULL,
  PRIMARY KEY (issuer, subject),
  UNIQUE (issuer, account)
);
