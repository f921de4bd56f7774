# shellcheck shell=bash
# Console output: progress lines, waits that name their condition, and failures that name a remedy.

heading() { printf '\n== %s\n' "$*"; }
say() { printf '   %s\n' "$*"; }
warn() { printf '!! %s\n' "$*" >&2; }
fail() {
  warn "$@"
  exit 1
}

progress_interval_s=5

# Waits until a check succeeds, and prints the condition every few seconds.
# Returns 1 after SECONDS_MAX, and 2 as soon as the watched process has ended.
wait_until() { # WHAT SECONDS_MAX WATCHED CHECK...; WATCHED is NAME:PID, or - for none
  local what=$1 seconds_max=$2 watched=$3 started=$SECONDS said=$SECONDS
  shift 3
  until "$@"; do
    if [ "$watched" != - ] && ! is_still_ours "${watched%%:*}" "${watched#*:}"; then return 2; fi
    if [ $((SECONDS - started)) -ge "$seconds_max" ]; then return 1; fi
    if [ $((SECONDS - said)) -ge $progress_interval_s ]; then
      said=$SECONDS
      say "waiting for $what ($((SECONDS - started)) s, at most $seconds_max s)"
    fi
    sleep 0.1
  done
}

# Runs a command with its output in a file, prints every few seconds that it still runs, and shows the end of the file
# if it fails.
run_quietly() { # WHAT LOG COMMAND...
  local what=$1 log=$2 started=$SECONDS said=$SECONDS pid
  shift 2
  "$@" > "$log" 2>&1 < /dev/null &
  pid=$!
  while kill -0 "$pid" 2> /dev/null; do
    if [ $((SECONDS - said)) -ge $progress_interval_s ]; then
      said=$SECONDS
      say "$what ($((SECONDS - started)) s)"
    fi
    sleep 0.2
  done
  if ! wait "$pid"; then
    tail -n 20 "$log" >&2
    warn "$what failed; its whole output is in $log"
    return 1
  fi
}
