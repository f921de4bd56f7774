# shellcheck shell=bash
# `./dev up` and `./dev down`: the whole system with real data on this machine.

serve_seconds_max=90

up() {
  local started=$SECONDS
  trap 'stop_starters; exit 130' INT TERM
  use_stack up
  load_ports
  take_lock up 0
  restore_kept
  decide_method
  install_tools "$method"
  require_ports_of_up
  save_ports

  heading "servers and build"
  start_servers
  find_cargo
  (cd "$root" && without_lock cargo build --release --locked --bin daybook) || { stop_starters; fail "the build failed"; }
  await_servers || fail "remove the cause above and run ./dev up again; it continues from here"

  heading "service"
  write_environment
  start_serve

  heading "real data: data/online-retail.csv.gz"
  daybook import online-retail "$root/data/online-retail.csv.gz" --url "$(http_url)" \
    --report "$stack_dir/import.json" --rejects "$stack_dir/rejects.csv" || fail_import

  heading "totals by source"
  daybook reconcile --report "$stack_dir/import.json" || fail "the stores are not reconciled; the reason is above"
  print_next_steps $((SECONDS - started))
}

require_ports_of_up() {
  local name wanted=(serve)
  for name in "${server_names[@]}"; do is_external "$name" || wanted+=("$name"); done
  require_ports "${wanted[@]}"
}

daybook_binary() { echo "$target_dir/release/daybook"; }
daybook() { (cd "$stack_dir" && without_lock "$(daybook_binary)" "$@"); }
http_url() { echo "http://$DAYBOOK_HTTP_LISTEN"; }

# Writes the service's environment to a file, which a shell sources to run subcommands by hand.
write_environment() {
  local secrets=$stack_dir/secrets variable ours=() given=("${!DAYBOOK_@}")
  mkdir -p "$secrets"
  chmod 700 "$secrets"
  if [ -z "${DAYBOOK_COMMANDS_HASH_KEY_FILE:-}" ] && [ ! -s "$secrets/hash.key" ]; then
    (umask 077 && od -An -v -tx1 -N32 /dev/urandom | tr -d ' \n' > "$secrets/hash.key.new")
    mv "$secrets/hash.key.new" "$secrets/hash.key"
  fi
  # Journals that outlive this stack need its hash key and the schemas in its registry: see `wipe_up`.
  if is_external kafka && ! grep -qxF "$DAYBOOK_KAFKA_BROKERS" "$secrets/external-kafka" 2> /dev/null; then
    echo "$DAYBOOK_KAFKA_BROKERS" >> "$secrets/external-kafka"
  fi
  export_addresses
  export DAYBOOK_HTTP_LISTEN=${DAYBOOK_HTTP_LISTEN:-127.0.0.1:${port[http]}}
  export DAYBOOK_COMMANDS_HASH_KEY_FILE=${DAYBOOK_COMMANDS_HASH_KEY_FILE:-$secrets/hash.key}
  export DAYBOOK_COMMANDS_STATE_DIR=${DAYBOOK_COMMANDS_STATE_DIR:-$stack_dir/serve/state}
  for variable in "${!DAYBOOK_@}"; do
    if [[ " ${given[*]} " != *" $variable "* ]]; then ours+=("$variable=${!variable}"); fi
  done
  # An address may contain a password.
  (
    umask 077
    {
      for variable in "${!DAYBOOK_@}"; do printf 'export %s=%q\n' "$variable" "${!variable}"; done
      printf 'export DEV_UP_CHOSEN=%q\n' "$(printf '%s\n' "${ours[@]}")"
    } > "$stack_dir/environment"
  )
}

serve_answers() { curl -sf --max-time 5 "$(http_url)/health/ready" > /dev/null 2>&1; }

# Identifies the binary and the settings of the service. If it changes, the service is restarted.
serve_fingerprint() {
  { stat -c '%i %Y %s' "$(daybook_binary)"; cat "$stack_dir/environment"; } | sha256sum | cut -c1-16
}

start_serve() {
  local directory=$stack_dir/serve pid fingerprint outcome=0 started=$SECONDS
  mkdir -p "$directory"
  fingerprint=$(serve_fingerprint)
  pid=$(running_pid serve || true)
  if [ -n "$pid" ] && [ "$(cat "$directory/fingerprint" 2> /dev/null)" = "$fingerprint" ] && serve_answers; then
    say "serve: already running at $(http_url)"
    return
  fi
  if [ -n "$pid" ]; then say "serve: restarting (new binary, new settings, or not ready)"; fi
  stop_server serve
  echo "$fingerprint" > "$directory/fingerprint"
  launch serve env "DEV_PROCESS=$directory" "$(daybook_binary)" serve
  pid=$launched_pid
  ln -sfn serve/log "$stack_dir/serve.log"
  wait_until "the process of serve" 5 - is_ours serve "$pid" || true
  wait_until "serve to be ready at $(http_url)/health/ready" $serve_seconds_max "serve:$pid" serve_answers || outcome=$?
  if [ $outcome != 0 ]; then
    tail -n 20 "$directory/log" >&2
    if [ $outcome = 2 ]; then fail "serve ended; its log is $stack_dir/serve.log"; fi
    curl -s --max-time 5 "$(http_url)/health/ready" >&2 || true
    fail "serve did not become ready within $serve_seconds_max s; its log is $stack_dir/serve.log"
  fi
  say "serve: ready at $(http_url) (pid $pid, $((SECONDS - started)) s)"
}

# Adds to the import's own error whether the service has ended.
fail_import() {
  if ! running_pid serve > /dev/null; then
    tail -n 3 "$stack_dir/serve/log" >&2
    fail "serve ended during the import; its log is $stack_dir/serve.log; run ./dev up again to continue"
  fi
  fail "the import failed; run ./dev up again to continue"
}

print_next_steps() { # SECONDS
  local api binary
  binary=$(daybook_binary)
  binary=${binary#"$root"/}
  api=$(http_url)/api/v1
  cat << TEXT

== Daybook is up ($1 s)
   API documentation          $(http_url)/docs
   metrics                    $(http_url)/metrics
   service log                .daybook/up/serve.log

   Commands to start with:
   curl '$api/orders?country=France&limit=3'
   curl '$api/customers/17850/orders?limit=3'
   curl '$api/analytics/series?job=revenue_by_country&window=day&country=France&from=2010-12-01T00:00:00Z&to=2010-12-08T00:00:00Z'
   curl '$api/admin/progress'
   (. .daybook/up/environment && $binary audit verify)
   ./dev down            stops everything; ./dev down --wipe also drops the data
TEXT
}

down() {
  local wipe=no
  case ${1:-} in
    "") ;;
    --wipe) wipe=yes ;;
    *) fail "unknown argument '$1'; use ./dev down [--wipe]" ;;
  esac
  use_stack up
  load_ports
  take_lock up 3
  restore_kept
  stop_server serve
  stop_servers
  # A killed run did not stop its servers.
  stop_idle test
  stop_idle chaos
  stop_idle soak
  if [ $wipe = yes ]; then wipe_up; fi
  say "everything is stopped"
}

# Drops the data. Journals in a Kafka that is not ours stay. They can't be read without the registry's schemas, and
# repeated commands can't be recognised without the hash key, so the registry's data and the hash key stay too.
wipe_up() {
  local external=$stack_dir/secrets/external-kafka
  if [ -s "$external" ]; then
    say "journals may still be in Kafka at $(paste -sd ' ' "$external")"
    wipe_stack secrets registry method
    say "the data and logs of ./dev up are removed; the hash key and the registry's data, which those journals need,"
    say "are kept in .daybook/up: once the journals are deleted, you may delete that folder"
  else
    wipe_stack
    say "the data, logs and keys of ./dev up (.daybook/up) are removed; the servers' jars are kept"
  fi
}

# Stops the servers of a killed run, unless a run is in progress.
stop_idle() { # test | chaos | soak
  [ -d "$state_dir/$1" ] || return 0
  if flock -n "$state_dir/$1.lock" true; then DEV_STACK=$1 "$local_dir/server.sh" stop all; fi
}
