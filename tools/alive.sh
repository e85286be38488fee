#!/bin/sh
# Runs a command that says nothing for long, and shows every 5 s that it is alive.
# Usage: tools/alive.sh WHAT COMMAND [ARGUMENT ...]. The command's output is shown only if it fails.
set -u
what=$1
shift
log=$(mktemp)
trap 'rm -f "$log"' EXIT
began=$(date +%s)
"$@" >"$log" 2>&1 &
pid=$!
trap 'kill "$pid" 2>/dev/null; exit 130' INT TERM
ticks=0
while kill -0 "$pid" 2>/dev/null; do
  sleep 1
  ticks=$((ticks + 1))
  if [ $((ticks % 5)) -eq 0 ]; then
    echo "$what: $(($(date +%s) - began)) s"
  fi
done
wait "$pid"
status=$?
if [ "$status" -ne 0 ]; then
  cat "$log"
  echo "$what: failed with exit code $status" >&2
else
  echo "$what: done after $(($(date +%s) - began)) s"
fi
exit "$status"
