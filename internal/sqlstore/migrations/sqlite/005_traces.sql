-- +goose Up
-- What was seen of a job from outside its room, by digest.
ALTER TABLE jobs ADD COLUMN trace TEXT NOT NULL DEFAULT '';
