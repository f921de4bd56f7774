# shellcheck shell=bash
# `./dev test`: everything that CI checks, with servers of its own. A phase that fails does not stop the next one; the last
# line says `N passed, N failed`.

passed=0
failed=0
servers_started=no

run_tests() {
  local full=no attack=(--short)
  case ${1:-} in
    "") ;;
    --full) full=yes ;;
    *) fail "./dev test [--full]: what is '$1'?" ;;
  esac
  use_stack test
  take_lock test 0
  load_ports
  # What an interrupted run left behind goes first: every run starts with empty servers.
  stop_servers
  wipe_stack
  load_ports
  choose_free_ports
  save_ports
  decide_method
  install_tools "$method"
  install_python_packages
  if [ $full = yes ]; then
    export DEV_TEST_FULL=1 PROPTEST_CASES=${PROPTEST_CASES:-4096}
    attack=(--minutes 5)
  fi

  trap stop_test_servers EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
  export_addresses
  servers_started=yes
  heading "starting servers meanwhile"
  start_servers

  check format cargo fmt --all --check
  check lints cargo clippy --workspace --all-targets --locked -- -D warnings
  # The same packages and targets as the tests below: another selection would unite features in another way and compile the
  # dependencies once more.
  check build cargo build --workspace --all-targets --locked
  all_tests

  heading "stopping the servers"
  stop_test_servers
  trap - EXIT
  check chaos env "DEV_DAYBOOK=$target_dir/debug/daybook" "$root/dev" chaos "${attack[@]}"
  echo
  echo "$passed passed, $failed failed"
  [ "$failed" = 0 ] && [ "$passed" -gt 0 ]
}

stop_test_servers() {
  if [ $servers_started = yes ]; then
    servers_started=no
    stop_starters
    stop_servers
  fi
}

check() { # NAME COMMAND...; fails as one test
  local name=$1 started=$SECONDS
  shift
  heading "$name"
  if (cd "$root" && without_lock "$@"); then
    say "$name: well ($((SECONDS - started)) s)"
  else
    failed=$((failed + 1))
    warn "$name: failed ($((SECONDS - started)) s)"
  fi
}

# Runs `cargo test` and adds up what the test programs report about themselves.
cargo_tests() { # NAME CARGO-ARGUMENT...
  local name=$1 started=$SECONDS log code=0 counts now_passed now_failed
  shift
  heading "$name"
  log=$stack_dir/${name%%[, ]*}.log
  (cd "$root" && without_lock cargo test --locked --no-fail-fast "$@") 2>&1 | tee "$log" 9>&- || code=$?
  counts=$(awk '/^test result:/ { for (i = 2; i <= NF; i++) { if ($i ~ /^passed/) p += $(i-1); if ($i ~ /^failed/) f += $(i-1) } }
    END { print p + 0, f + 0 }' "$log")
  now_passed=${counts% *} now_failed=${counts#* }
  # Something did not compile, or a test program died before it could report.
  if [ $code != 0 ] && [ "$now_failed" = 0 ]; then now_failed=1; fi
  passed=$((passed + now_passed)) failed=$((failed + now_failed))
  say "$name: $now_passed passed, $now_failed failed ($((SECONDS - started)) s)"
}

all_tests() {
  heading "waiting for the servers"
  if ! await_servers; then
    failed=$((failed + 1))
    warn "the tests could not run: they need the servers"
    return
  fi
  export DEV_TEST_DIR=$stack_dir DEV_PYTHON=$python DEV_SERVER_CONTROL=$local_dir/server.sh
  export DEV_DAYBOOK=$target_dir/debug/daybook
  cargo_tests tests --workspace
}
