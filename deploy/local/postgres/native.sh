# shellcheck shell=bash
# Postgres from the distribution's package, with a data folder and a port of our own; clusters of the distribution are never
# touched. Postgres does not run as root, so root runs it as the package's user `postgres`.
# It trusts every local user, because it contains only this checkout's data and listens on 127.0.0.1 only.

postgres_tool() { # NAME; prints its path, or fails
  local directory
  for directory in $(printf '%s\n' /usr/lib/postgresql/*/bin | sort -rV) "$(pg_config --bindir 2> /dev/null || true)"; do
    if [ -x "$directory/$1" ]; then
      echo "$directory/$1"
      return
    fi
  done
  command -v "$1"
}

as_postgres() {
  if [ "$(id -u)" = 0 ]; then setpriv --reuid=postgres --regid=postgres --init-groups "$@"; else "$@"; fi
}

# Prints the data folder. It is the state folder if the server's user can access it. Otherwise, for example if root works on
# a checkout in a private home, it is a folder of its own, whose path is in the file `elsewhere`.
postgres_dir() {
  cat "$stack_dir/postgres/elsewhere" 2> /dev/null || echo "$stack_dir/postgres"
}
postgres_folder_elsewhere() { echo "/var/tmp/daybook-$(checkout_hash)-$DEV_STACK"; }

postgres_forget_folder() {
  local elsewhere
  elsewhere=$(postgres_folder_elsewhere)
  # Any user can create a folder in /var/tmp; remove it only if it is ours.
  if [ -d "$elsewhere" ] && [ -O "$elsewhere" ]; then rm -rf "$elsewhere"; fi
}

postgres_fetch() { :; }

postgres_prepare() {
  local directory=$stack_dir/postgres
  if [ "$(id -u)" = 0 ] && [ ! -f "$directory/elsewhere" ] && ! as_postgres test -x "$directory"; then
    # If an earlier checkout at this path left a folder, its data belongs to a journal that no longer exists.
    postgres_forget_folder
    directory=$(postgres_folder_elsewhere)
    mkdir -m 755 "$directory" || fail "cannot create $directory for Postgres' data"
    echo "$directory" > "$stack_dir/postgres/elsewhere"
    say "postgres: its user cannot access this checkout, so its data is in $directory"
  fi
  directory=$(postgres_dir)
  mkdir -p "$directory/db"
  chmod 700 "$directory/db"
  if [ "$(id -u)" = 0 ]; then chown postgres: "$directory/db"; fi
  if [ ! -f "$directory/db/initialized" ]; then
    find "$directory/db" -mindepth 1 -delete
    (cd "$directory/db" && as_postgres "$(postgres_tool initdb)" -D "$directory/db" -U daybook -A trust \
      --encoding=UTF8 --locale=C) >> "$stack_dir/postgres/log" 2>&1
    # Without this file the result of an interrupted `initdb` would look like a database.
    touch "$directory/db/initialized"
  fi
  # After `kill -9` its child processes end with a delay; until then a new server rejects the folder.
  wait_until "the processes of a killed Postgres to end" 20 - postgres_has_ended "$directory/db" ||
    fail "processes of an earlier Postgres still use $directory/db"
  # No process uses the folder, so this pid file is stale; after a reboot its pid may belong to another process.
  rm -f "$directory/db/postmaster.pid"
}

postgres_has_ended() { # FOLDER; every process of Postgres has the data folder as its working directory
  local link
  for link in /proc/[0-9]*/cwd; do
    if [ "$(readlink "$link" 2> /dev/null)" = "$1" ]; then return 1; fi
  done
}

postgres_start() {
  local directory as=()
  directory=$(postgres_dir)
  if [ "$(id -u)" = 0 ]; then as=(setpriv --reuid=postgres --regid=postgres --init-groups); fi
  # The server has no unix socket: a socket's path is limited to 107 bytes, and the path of a checkout may be longer.
  # The system tests run many nodes at once, each with up to 20 connections.
  launch postgres "${as[@]}" "$(postgres_tool postgres)" -D "$directory/db" -p "${port[postgres]}" \
    -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c max_connections=400
}

postgres_query() { # SQL
  "$(postgres_tool psql)" -X -q -A -t -h 127.0.0.1 -p "${port[postgres]}" -U daybook -d postgres -c "$1" < /dev/null
}

postgres_answers() { postgres_query 'select 1' > /dev/null 2>&1; }

postgres_finish() {
  if [ -z "$(postgres_query "select 1 from pg_database where datname = 'daybook'")" ]; then
    postgres_query 'create database daybook'
  fi
}
