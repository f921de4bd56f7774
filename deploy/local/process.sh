# shellcheck shell=bash
# Identifies and stops our processes. A pid file proves nothing, because its pid may be from before a reboot and belong to
# another process now. So a process is ours only if its command line or its environment names the folder that it works in.
# No function here signals a process without this check.

# Texts that only our process with that name has in its command line or environment. `process_word` is the part of its
# command line to search for.
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
  # The process may end at any moment; then the text is empty.
  text=$({ cat "/proc/$2/cmdline"; echo; cat "/proc/$2/environ"; } 2> /dev/null | tr '\0' ' ' || true)
  while read -r marker; do
    # The space after the marker distinguishes `.../kafka` from `.../kafka2`.
    if [[ $text == *"$marker "* ]]; then return 0; fi
  done < <(process_markers "$1")
  return 1
}

# While a process executes another program, as setsid does, its command line is empty for a moment.
is_still_ours() { # NAME PID
  is_ours "$@" || { sleep 0.5 && is_ours "$@"; }
}

# Prints the start time of a process and its state. The start time tells it from a later process with its pid.
process_status() { # PID
  local status
  status=$(cat "/proc/$1/stat" 2> /dev/null) || return 1
  # Read the fields after the name. The name is in brackets, and may contain blanks and brackets.
  read -ra status <<< "${status##*) }"
  echo "${status[19]} ${status[0]}"
}

# A killed process loses its command line first, and closes its sockets later. It has closed them when it is gone, or when
# it is a zombie without other threads (its parent may never wait for it).
has_ended() { # PID START-TIME
  local start state tasks
  read -r start state < <(process_status "$1") || return 0
  if [ "$start" != "$2" ]; then return 0; fi
  tasks=("/proc/$1/task/"*)
  [ "$state" = Z ] && [ "${#tasks[@]}" -le 1 ]
}

running_pid() { # NAME; prints the pid, or fails if the pid file names no running process of ours
  local pid
  pid=$(cat "$stack_dir/$1/pid" 2> /dev/null) || return 1
  is_ours "$1" "$pid" && echo "$pid"
}

# Prints our processes without a pid file: the script was killed before it wrote the file, or the state folder was deleted
# while the server ran.
orphan_pids() { # NAME
  local pid known
  known=$(running_pid "$1" || true)
  for pid in $(pgrep -f -- "$(process_word "$1")" || true); do
    if [ "$pid" != "$known" ] && is_ours "$1" "$pid"; then echo "$pid"; fi
  done
}

# INT is the fast shutdown of Postgres; after TERM it would wait until every client has disconnected.
declare -A stop_signal=([kafka]=TERM [registry]=TERM [registry_spare]=TERM [postgres]=INT [cassandra]=TERM [serve]=TERM)
declare -A stop_seconds_max=([kafka]=40 [registry]=20 [registry_spare]=20 [postgres]=20 [cassandra]=40 [serve]=15)

stop_pid() { # NAME PID SIGNAL SECONDS_MAX
  local name=$1 pid=$2 signal=$3 seconds_max=$4 start state
  read -r start state < <(process_status "$pid") || return 0
  is_ours "$name" "$pid" || return 0
  kill -s "$signal" "$pid" 2> /dev/null || true
  if ! wait_until "$name (pid $pid) to stop" "$seconds_max" - has_ended "$pid" "$start"; then
    warn "$name (pid $pid) did not stop within $seconds_max s, so it is killed"
    kill -s KILL "$pid" 2> /dev/null || true
    wait_until "$name (pid $pid) to end" 10 - has_ended "$pid" "$start" || fail "$name (pid $pid) cannot be killed"
  fi
}

stop_orphans() { # NAME
  local pid
  for pid in $(orphan_pids "$1"); do
    say "$1: stopping pid $pid, which an interrupted start left behind"
    stop_pid "$1" "$pid" "${stop_signal[$1]}" "${stop_seconds_max[$1]}"
  done
}

# Starts a process detached from this terminal and from our locks (file descriptors 7 to 9), because it outlives this script.
launch() { # NAME COMMAND...; writes the pid file and sets launched_pid
  local name=$1 directory=$stack_dir/$1 log_bytes_max=10000000
  shift
  if [ -f "$directory/log" ] && [ "$(stat -c %s "$directory/log")" -gt $log_bytes_max ]; then
    mv "$directory/log" "$directory/log.old"
  fi
  (cd "$directory" && exec setsid "$@") >> "$directory/log" 2>&1 < /dev/null 7>&- 8>&- 9>&- &
  launched_pid=$!
  # Otherwise bash would print a line about this job if it is killed.
  disown "$launched_pid"
  echo "$launched_pid" > "$directory/pid"
}

# Allows one `./dev NAME` at a time. The lock is file descriptor 9 and lasts until this process ends.
take_lock() { # NAME SECONDS_MAX
  local lock=$state_dir/$1.lock
  mkdir -p "$state_dir"
  exec 9>> "$lock"
  if ! flock -w "$2" 9; then
    fail "another ./dev $1 is running (pid $(cat "$lock" 2> /dev/null)); wait for it, or stop it first"
  fi
  echo $$ > "$lock"
}

# For a subshell: a command that outlives this script must not hold the lock.
without_lock() { # COMMAND...
  exec 9>&-
  "$@"
}
