# shellcheck shell=bash
# Starts and stops the four servers of a stack. A server whose address is in the environment is not started. The others run
# in Docker if an engine answers, else as native processes, which the native.sh in each server's folder describes.
#
# A native.sh defines for its server: `<name>_fetch` (jars), `<name>_prepare` (folders and configuration),
# `<name>_start` (calls launch), `<name>_answers` (whether it is ready), `<name>_finish` (setup once it answers).

# After a crash Postgres writes all its files to the disk before it answers.
declare -A start_seconds_max=([kafka]=120 [registry]=90 [registry_spare]=90 [postgres]=180 [cassandra]=120)

# Whether the environment names a server other than the one that we would start. (In a shell that has read
# .daybook/up/environment, it names our own.)
is_external() { # NAME
  local variable=${address_variable[$1]:-} address
  [ "$DEV_STACK" = up ] && [ -n "$variable" ] || return 1
  address=${!variable:-}
  [ -n "$address" ] && [ "$address" != "$(own_address "$1")" ]
}

docker_answers() {
  command -v docker > /dev/null && timeout 10 docker info > /dev/null 2>&1 &&
    docker compose version > /dev/null 2>&1
}

# Begins a run on a stack of its own: locks the stack, removes the remains of an interrupted run, chooses ports, and installs
# the required tools. STOP runs when this shell ends, also after an error or a signal.
begin_run() { # STACK STOP [WIPE]; WIPE drops the stack's data
  local stack=$1 stop=$2 wipe=${3:-wipe_stack}
  use_stack "$stack"
  take_lock "$stack" 0
  load_ports
  stop_servers
  $wipe
  load_ports
  choose_free_ports
  save_ports
  decide_method
  install_tools "$method"
  install_python_packages
  # shellcheck disable=SC2064 # The function is the one given now.
  trap "$stop" EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
  export_addresses
}

# Docker or native is decided once per stack and then kept, because the data is stored in one of the two.
decide_method() {
  local kept
  kept=$(cat "$stack_dir/method" 2> /dev/null || true)
  if [ -n "${DEV_NATIVE:-}" ]; then method=native; elif docker_answers; then method=docker; else method=native; fi
  case $kept:$method in
    docker:native) fail "the data of this stack is in Docker, but Docker is disabled or does not answer:" \
      "start Docker, or drop the data with ./dev down --wipe" ;;
    native:docker) method=native ;;
  esac
  # A new stack starts with empty volumes, even if an earlier checkout at this path left some.
  if [ "$method" = docker ] && [ -z "$kept" ]; then compose down -v > /dev/null 2>&1; fi
  mkdir -p "$stack_dir"
  echo "$method" > "$stack_dir/method"
}

# In Docker a server publishes its client port only.
needed_ports() { # NAME
  if [ "$(kept_method)" = docker ]; then echo "${server_ports[$1]%% *}"; else echo "${server_ports[$1]}"; fi
}

kept_method() { cat "$stack_dir/method" 2> /dev/null || echo native; }

# Each stack of each checkout is a Compose project of its own.
compose() {
  local project files=(-f "$root/docker-compose.kafka.yml")
  project=$(compose_project)
  if [ "$DEV_STACK" = test ]; then
    files+=(-f "$local_dir/kafka/access.compose.yml" -f "$local_dir/registry/spare.compose.yml")
  fi
  DEV_REGISTRY_SPARE_PORT=${port[registry_spare]:-} DEV_KAFKA_PORT=${port[kafka]} DEV_KAFKA_SASL_PORT=${port[kafka_sasl]:-} DEV_REGISTRY_PORT=${port[registry]} DEV_POSTGRES_PORT=${port[postgres]} \
    DEV_CQL_PORT=${port[cql]} docker compose -p "$project" "${files[@]}" "$@"
}
compose_project() { echo "daybook-$(checkout_hash)-$DEV_STACK"; }
checkout_hash() { printf %s "$root" | sha256sum | cut -c1-10; }
compose_service() { if [ "$1" = cassandra ]; then echo scylla; else echo "$1"; fi; }

is_running() { # NAME
  if [ "$1" != serve ] && [ "$(kept_method)" = docker ]; then
    [ -n "$(compose ps --status running -q "$(compose_service "$1")" 2> /dev/null)" ]
  else
    running_pid "$1" > /dev/null
  fi
}

start_server() { # NAME; returns once the server answers
  local name=$1 started=$SECONDS
  if is_external "$name"; then
    say "$name: not started, because ${address_variable[$name]} names another server"
    return
  fi
  mkdir -p "$stack_dir/$name"
  # Wait for an earlier start, which may still be running after an interruption.
  exec 8>> "$stack_dir/$name/lock"
  flock -w 180 8 || fail "$name: an earlier start has not ended"
  if [ "$(kept_method)" = docker ]; then
    run_quietly "$name: fetching the image and starting it in Docker" "$stack_dir/$name/compose.log" \
      compose up -d --wait "$(compose_service "$name")"
    say "$name: ready on port $(client_port "$name") (Docker, $((SECONDS - started)) s)"
  else
    start_native "$name"
  fi
  flock -u 8
}

client_port() { # NAME
  local name=${server_ports[$1]%% *}
  echo "${port[$name]}"
}

start_native() { # NAME
  local name=$1 pid ports="" port_name started=$SECONDS outcome=0
  for port_name in ${server_ports[$name]}; do ports+="${port[$port_name]} "; done
  pid=$(running_pid "$name" || true)
  if [ -n "$pid" ] && [ "$(cat "$stack_dir/$name/ports" 2> /dev/null)" != "$ports" ]; then
    say "$name: restarting with other ports"
    stop_pid "$name" "$pid" "${stop_signal[$name]}" "${stop_seconds_max[$name]}"
    pid=""
  fi
  if [ -n "$pid" ] && "${name}_answers"; then
    "${name}_finish"
    say "$name: already running on port $(client_port "$name")"
    return
  fi
  if [ -z "$pid" ]; then
    stop_orphans "$name"
    require_ports "$name"
    "${name}_fetch"
    "${name}_prepare"
    echo "$ports" > "$stack_dir/$name/ports"
    "${name}_start"
    pid=$launched_pid
  fi
  # At first the process has the command line of `setsid` or `setpriv`, not the server's own.
  wait_until "the process of $name" 5 - is_ours "$name" "$pid" || true
  wait_until "$name to answer on port $(client_port "$name")" "${start_seconds_max[$name]}" \
    "$name:$pid" "${name}_answers" || outcome=$?
  if [ $outcome != 0 ]; then
    tail -n 20 "$stack_dir/$name/log" >&2
    if [ $outcome = 2 ]; then fail "$name ended while starting; its log is $stack_dir/$name/log"; fi
    fail "$name did not answer within ${start_seconds_max[$name]} s; its log is $stack_dir/$name/log"
  fi
  "${name}_finish"
  say "$name: ready on port $(client_port "$name") (pid $pid, $((SECONDS - started)) s)"
}

stop_server() { # NAME [kill]
  local name=$1 how=${2:-stop} pid signal
  signal=${stop_signal[$name]}
  if [ "$how" = kill ]; then signal=KILL; fi
  if [ "$name" != serve ] && [ "$(kept_method)" = docker ]; then
    compose "$how" "$(compose_service "$name")" > /dev/null 2>&1 || fail "$name: Docker failed to stop it"
    say "$name: stopped (Docker)"
  elif pid=$(running_pid "$name"); then
    stop_pid "$name" "$pid" "$signal" "${stop_seconds_max[$name]}"
    say "$name: stopped (pid $pid)"
  fi
  if [ "$how" != kill ]; then stop_orphans "$name"; fi
  rm -f "$stack_dir/$name/pid"
}

# Starts all servers in parallel. `start_servers` returns at once; `await_servers` waits, and fails if one is not ready.
declare -A starter_pid=()
start_servers() {
  local name
  for name in "${server_names[@]}"; do
    (without_lock start_server "$name") &
    starter_pid[$name]=$!
  done
}

await_servers() {
  local name failed=""
  for name in "${server_names[@]}"; do
    wait "${starter_pid[$name]}" || failed+=" $name"
    unset "starter_pid[$name]"
  done
  if [ -n "$failed" ]; then
    warn "these servers did not start:$failed"
    return 1
  fi
}

stop_starters() {
  local name
  for name in "${!starter_pid[@]}"; do kill "${starter_pid[$name]}" 2> /dev/null || true; done
}

stop_servers() {
  local name pids=()
  for name in "${server_names[@]}"; do
    stop_server "$name" &
    pids+=($!)
  done
  # Wait for these jobs only. Other jobs, such as tests, may still run in the background.
  wait "${pids[@]}"
}

# Drops the data of the stack, except for the named entries of its folder. With `registry`, the volume of that name stays.
wipe_stack() { # [ENTRY...]
  local dropped=$state_dir/$DEV_STACK.dropped kept=$state_dir/$DEV_STACK.kept entry
  if [ "$(kept_method)" = docker ]; then drop_volumes "$@" || warn "Docker failed to remove the volumes of this stack"; fi
  postgres_forget_folder
  for entry in "$@"; do
    if [ -e "$stack_dir/$entry" ]; then
      mkdir -p "$kept"
      mv "$stack_dir/$entry" "$kept/"
    fi
  done
  # Rename the folder first, in one step, so that an interrupted wipe does not leave half of the data.
  if [ -d "$stack_dir" ]; then
    rm -rf "$dropped"
    mv "$stack_dir" "$dropped"
  fi
  restore_kept
  rm -rf "$dropped"
}

# Moves the kept entries back after a wipe. Completes an interrupted wipe too.
restore_kept() {
  local kept=$state_dir/$DEV_STACK.kept entry
  if [ ! -d "$kept" ]; then return; fi
  mkdir -p "$stack_dir"
  for entry in "$kept"/*; do
    if [ -e "$entry" ]; then mv "$entry" "$stack_dir/"; fi
  done
  rmdir "$kept"
}

drop_volumes() { # [ENTRY...]
  local volumes=() volume
  if [[ " $* " != *" registry "* ]]; then
    compose down -v > /dev/null 2>&1
    return
  fi
  compose down > /dev/null 2>&1 || return
  for volume in kafka postgres scylla; do volumes+=("$(compose_project)_$volume"); done
  docker volume rm -f "${volumes[@]}" > /dev/null 2>&1
}

# Fetches jars once per pom; all stacks share them.
fetch_jars() { # NAME; sets jars
  local name=$1 pom=$local_dir/$1/pom.xml maven_plugin=org.apache.maven.plugins:maven-dependency-plugin:3.8.1
  jars=$jars_dir/$name-$(sha256sum "$pom" | cut -c1-10)
  if [ -d "$jars" ]; then return; fi
  mkdir -p "$jars_dir"
  exec 7>> "$jars_dir/$name.lock"
  flock -w 600 7 || fail "$name: an earlier fetch of its jars has not ended"
  if [ ! -d "$jars" ]; then
    rm -rf "$jars.partial"
    run_quietly "$name: fetching the jars with Maven" "$stack_dir/$name/maven.log" \
      mvn -B -f "$pom" "$maven_plugin:copy-dependencies" -DincludeScope=runtime "-DoutputDirectory=$jars.partial"
    mv "$jars.partial" "$jars"
  fi
  flock -u 7
}
