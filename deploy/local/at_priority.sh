#!/usr/bin/env bash
# at_priority.sh NICENESS COMMAND...: runs a command with a smaller share of the processors. This script must lead a session,
# for example because setsid started it.
#
# Linux divides the processors among sessions first, by the niceness of the session's group, and uses the niceness of a
# process only within its session (sched(7), "The autogroup feature").
set -euo pipefail
niceness=$1
shift
if [ -w /proc/self/autogroup ]; then echo "$niceness" > /proc/self/autogroup || true; fi
exec nice -n "$niceness" "$@"
