#!/bin/sh
# does what it is told on standard input
while read -r job; do
  echo "done: $job"
done
