-- +goose Up
-- Which of its outputs a job derived from values that need not be trusted.
ALTER TABLE jobs ADD COLUMN tainted TEXT NOT NULL DEFAULT 'null';
