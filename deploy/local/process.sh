# shellcheck shell=bash
# Which processes are ours, and how they are stopped. A number in a pid file proves nothing (it may be of an earlier
# boot, and given to somebody else since), so a process counts as ours only if its command line or its environment names
# the folder that it works in. Nothing here ever signals a process that was not proved to be ours.

# Text that only our process of that name carries, and a word of its command line to look it up by.
process_markers() { # NAME; one a line
  case $1 in
    serve) echo "DEV_PROCESS=$stack_dir/serve" ;;
    postgres)
      echo "-D $stack_dir/postgres/db"
      echo "-D $(postgres_folder_elsewhere)/db"
      ;;
    *) echo "-Ddaybook.server=$stack_dir/$1" ;;
  esac
}
process_word() {
  case $1 in
    serve) echo 'daybook serve' ;;
    postgres) echo 'postgres -D' ;;
    *) echo 'daybook.server=' ;;
  esac
}

is_ours() { # NAME PID
  local text marker
  [[ $2 =~ ^[0-9]+$ ]] || return 1
  # The process may end at any moment, which reads as an empty text.
  text=$({ cat "/proc/$2/cmdline"; echo; cat "/proc/$2/environ"; } 2> /dev/null | tr '\0' ' ' || true)
  while read -r marker; do
    # The blank behind the marker keeps `.../kafka` apart from `.../kafka2`.
    if [[ $text == *"$marker "* ]]; then return 0; fi
  done < <(process_markers "$1")
  return 1
}

is_gone() { ! is_ours "$1" "$2"; } # NAME PID

running_pid() { # NAME; prints the pid, or fails when nothing of ours runs under the pid file
  local pid
  pid=$(cat "$stack_dir/$1/pid" 2> /dev/null) || return 1
  is_ours "$1" "$pid" && echo "$pid"
}

# Ours without a pid file: the script was killed between the start and the note, or the state folder was deleted under
# a running server.
orphan_pids() { # NAME
  local pid noted
  noted=$(running_pid "$1" || true)
  for pid in $(pgrep -f -- "$(process_word "$1")" || true); do
    if [ "$pid" != "$noted" ] && is_ours "$1" "$pid"; then echo "$pid"; fi
  done
}

# Postgres: INT is its fast shutdown; TERM would wait for every client to leave.
declare -A stop_signal=([kafka]=TERM [registry]=TERM [postgres]=INT [cassandra]=TERM [serve]=TERM)
declare -A stop_seconds_max=([kafka]=40 [registry]=20 [postgres]=20 [cassandra]=40 [serve]=15)

stop_pid() { # NAME PID SIGNAL SECONDS_MAX
  local name=$1 pid=$2 signal=$3 seconds_max=$4
  kill -s "$signal" "$pid" 2> /dev/null || true
  if ! wait_until "$name (pid $pid) to stop" "$seconds_max" - is_gone "$name" "$pid"; then
    warn "$name (pid $pid) does not stop within $seconds_max s: killed"
    kill -s KILL "$pid" 2> /dev/null || true
    wait_until "$name (pid $pid) to be gone" 10 - is_gone "$name" "$pid" || fail "$name (pid $pid) cannot be killed"
  fi
}

stop_orphans() { # NAME
  local pid
  for pid in $(orphan_pids "$1"); do
    say "$1: stopping pid $pid, which an interrupted start left behind"
    stop_pid "$1" "$pid" "${stop_signal[$1]}" "${stop_seconds_max[$1]}"
  done
}

# Detached from this terminal and from our locks (file descriptors 7 to 9): it outlives us and must hold nothing of ours.
launch() { # NAME COMMAND...; writes the pid file and sets launched_pid
  local name=$1 directory=$stack_dir/$1 log_bytes_max=10000000
  shift
  if [ -f "$directory/log" ] && [ "$(stat -c %s "$directory/log")" -gt $log_bytes_max ]; then
    mv "$directory/log" "$directory/log.old"
  fi
  (cd "$directory" && exec setsid "$@") >> "$directory/log" 2>&1 < /dev/null 7>&- 8>&- 9>&- &
  launched_pid=$!
  # Not a job of this shell: should it be killed, bash would print a line of its own in the middle of ours.
  disown "$launched_pid"
  echo "$launched_pid" > "$directory/pid"
}

# One `./dev up` and one `./dev test` at a time. The lock is file descriptor 9 and lasts as long as this process.
take_lock() { # NAME SECONDS_MAX
  local lock=$state_dir/$1.lock
  mkdir -p "$state_dir"
  exec 9>> "$lock"
  if ! flock -w "$2" 9; then
    fail "another ./dev $1 is running (pid $(cat "$lock" 2> /dev/null)); wait for it, or stop it first"
  fi
  echo $$ > "$lock"
}

# For a subshell: what runs in it must not hold the lock, should it outlive us.
without_lock() { # COMMAND...
  exec 9>&-
  "$@"
}
