#!/bin/sh
# answers one request on standard input
read -r method path
case "$method $path" in
  'GET /health') echo "200 ok" ;;
  *) echo "404 not found" ;;
esac
