# shellcheck shell=bash
# `./dev soak`: a steady mixed load on two nodes, on servers of its own, and a check of the resources that grew.
# tests/python/soak has the load and the verdict. A run that fails leaves its logs in .daybook/soak until the next run.

soak() {
  local minutes=60 code=0
  while [ $# -gt 0 ]; do
    case $1 in
      --minutes)
        if ! [[ ${2:-} =~ ^[0-9]+(\.[0-9]+)?$ ]]; then fail "--minutes needs a number; use ./dev soak [--minutes N]"; fi
        minutes=$2
        shift
        ;;
      *) fail "unknown argument '$1'; use ./dev soak [--minutes N]" ;;
    esac
    shift
  done
  begin_run soak stop_soak
  heading "soak: tests of the verdict"
  (without_lock "$python" -B -m unittest discover -s "$root/tests/python/soak") || fail "the tests of the verdict failed"
  heading "soak: servers and build"
  start_servers
  find_cargo
  (cd "$root" && without_lock cargo build --release --locked --bin daybook) || fail "the build failed"
  await_servers || fail "the servers of soak did not start"
  heading "soak: $minutes minutes"
  export DEV_DAYBOOK=$target_dir/release/daybook DEV_KAFKA_DATA=$stack_dir/kafka
  (without_lock "$python" -B "$root/tests/python/soak" --folder "$stack_dir/run" --minutes "$minutes") || code=$?
  stop_soak
  trap - EXIT
  if [ $code = 0 ]; then
    wipe_stack
  else
    warn "the nodes' logs and the broker's data are in .daybook/soak until the next run"
  fi
  return $code
}

stop_soak() {
  stop_starters
  stop_servers
}
