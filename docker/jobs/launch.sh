#!/usr/bin/env bash
# torchrun for batch systems: passes their signal on to the training, and exits with the code of the training.
#   launch.sh --standalone --nproc-per-node 8 -m sarmae pretrain --config vit_base --data DATA --out OUT
# Exit code: that of the first rank that failed or stopped, 85 for `saved, queue me again`; 0 when done.
#
# Why not torchrun alone (torch 2.13, measured):
# - it exits with 1, whatever the codes of its ranks; a rank therefore leaves its code in the file $SARMAE_EXIT_FILE;
# - SIGUSR1 kills it and orphans the ranks; a second SIGTERM makes it leave before they have saved; after one SIGTERM
#   it kills them within 30 s. It is therefore kept from both, and the ranks get their signal directly.
set -u
folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT
export SARMAE_EXIT_FILE=$folder/exit
export PET_SIGNALS_TO_HANDLE=SIGHUP,SIGQUIT

asked=
trap 'asked=1' TERM USR1 INT

(
  trap '' TERM USR1 INT # inherited by torchrun, and by a rank until it installs its own handlers
  exec torchrun "$@"
) &
agent=$!

signal_ranks() {
  local status pid
  for status in $(grep -ls "^PPid:[[:space:]]*$agent\$" /proc/[0-9]*/status); do
    pid=${status#/proc/}
    kill -USR1 "${pid%/status}" 2>/dev/null
  done
}

wait "$agent" # comes back early when a signal arrives
code=$?
while [ -n "$asked" ] && kill -0 "$agent" 2>/dev/null; do
  signal_ranks # repeated, since a rank that is still starting does not handle it yet
  sleep 1
done
if [ -n "$asked" ]; then
  wait "$agent"
  code=$?
fi
if [ "$code" -ne 0 ] && [ -s "$SARMAE_EXIT_FILE" ]; then
  code=$(cat "$SARMAE_EXIT_FILE")
fi
exit "$code"
