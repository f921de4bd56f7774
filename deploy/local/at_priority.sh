#!/usr/bin/env bash
# at_priority.sh NICENESS COMMAND...: runs a command, which must lead a session, with less of the processors.
#
# Linux divides the processors among sessions first, by the niceness of the session's group, and uses the niceness of a
# process only within its session (sched(7), "The autogroup feature").
set -euo pipefail
niceness=$1
shift
if [ -w /proc/self/autogroup ]; then echo "$niceness" > /proc/self/autogroup || true; fi
exec nice -n "$niceness" "$@"
