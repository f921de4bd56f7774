# shellcheck shell=bash
# `./dev test`: everything that CI checks, with servers of its own. A phase that fails does not stop the next one; the last
# line says `N passed, N failed`.
#
# The system tests wait most of the time, so the tests that need no server run at the same time, with a low priority. They
# continue while the servers of the system tests stop and chaos starts its own.

passed=0
failed=0
servers_started=no
# The test programs of tests/tests that need servers, besides `system`, `power_cut` and `many_contexts`.
server_tests=(appender journal_log topics views)
slowest_shown=8

run_tests() {
  local full=no attack=(--short) started=$SECONDS
  case ${1:-} in
    "") ;;
    --full) full=yes ;;
    *) fail "unknown argument '$1'; use ./dev test [--full]" ;;
  esac
  # Every test has tables of its own, hundreds in all, and each table needs memory of the heap.
  export DEV_CASSANDRA_HEAP=${DEV_CASSANDRA_HEAP:-1536m}
  begin_run test stop_tests_and_servers
  if [ $full = yes ]; then
    export DEV_TEST_FULL=1 PROPTEST_CASES=${PROPTEST_CASES:-4096}
    attack=(--minutes 5)
  fi

  servers_started=yes
  heading "servers start in the background"
  start_servers

  check format format_check
  check "the soak run's verdict" "$python" -B -m unittest discover -s "$root/tests/python/soak"
  check "alerting rules" "$python" -B -m unittest discover -s "$root/tests/python/alerts"
  check lints cargo clippy --workspace --all-targets --locked -- -D warnings
  # Build all packages and targets, as for the tests below. Another selection would unify features differently and compile
  # the dependencies again.
  check build cargo build --workspace --all-targets --locked
  if [ $full = yes ]; then check dependencies dependency_check; fi
  export DEV_TEST_DIR=$stack_dir DEV_PYTHON=$python DEV_SERVER_CONTROL=$local_dir/server.sh
  export DEV_DAYBOOK=$target_dir/debug/daybook DEV_KAFKA_SASL_BROKERS=127.0.0.1:${port[kafka_sasl]}
  export DEV_SPARE_REGISTRY_URL
  DEV_SPARE_REGISTRY_URL=$(own_address registry_spare)
  all_tests

  heading "servers stop"
  stop_test_servers
  check chaos "$root/dev" chaos "${attack[@]}"
  await_tests units
  await_tests docs
  trap - EXIT
  print_slowest
  say "all phases: $((SECONDS - started)) s"
  echo
  echo "$passed passed, $failed failed"
  [ "$failed" = 0 ] && [ "$passed" -gt 0 ]
}

# Calls rustfmt on each file, because `cargo fmt` does not find modules that macros declare.
format_check() { git ls-files -z '*.rs' | xargs -0 rustfmt --check --edition 2024; }

# Skips the advisories, which would have to be downloaded, and hides warnings about duplicate versions.
dependency_check() {
  install_cargo_deny && "$cargo_deny" --log-level error check bans licenses sources
}

all_tests() {
  local unit_targets=() server_targets=() programs name
  programs=$(test_programs)
  for name in "${server_tests[@]}" system power_cut many_contexts; do
    grep -qx "$name" <<< "$programs" || fail "there is no test program $name: correct server_tests in deploy/local/test.sh"
  done
  for name in "${server_tests[@]}"; do server_targets+=(--test "$name"); done
  for name in $programs; do
    case " ${server_tests[*]} system power_cut many_contexts " in
      *" $name "*) ;;
      *) unit_targets+=(--test "$name") ;;
    esac
  done
  start_tests units 10 --workspace --lib --bins "${unit_targets[@]}"
  # Cargo runs the examples in comments only in a call without other targets.
  start_tests docs 10 --workspace --doc
  heading "waiting for the servers"
  if ! await_servers; then
    failed=$((failed + 1))
    warn "the tests that need servers did not run"
    return
  fi
  # Cassandra makes one schema change at a time, so only few of these tests run at once.
  start_tests servers 0 --workspace "${server_targets[@]}" -- --test-threads=2
  foreground_tests system --workspace --test system -- --skip many_partitions --skip corrected_fold \
    --skip killed_databases
  await_tests servers
  if [ -n "${DEV_TEST_FULL:-}" ]; then
    # This test runs alone, because three nodes with hundreds of partitions need all processors.
    foreground_tests many_partitions --workspace --test system -- many_partitions
    # This test runs only with --full, because it builds a second tree.
    foreground_tests many_contexts --workspace --test many_contexts
    # This test builds another tree in the folder of the one before, so it runs after it.
    foreground_tests corrected_fold --workspace --test system -- corrected_fold
    # This test runs alone, because it kills the databases.
    foreground_tests killed_databases --workspace --test system -- killed_databases
  fi
  # This test kills the servers, so no other test that needs them may run at the same time.
  foreground_tests power_cut --workspace --test power_cut
}

# Prints the names of all test programs in the workspace. Programs that no list above names need no servers.
test_programs() {
  (cd "$root" && cargo metadata --format-version 1 --no-deps --locked) | "$python" -c '
import json, sys
packages = json.load(sys.stdin)["packages"]
names = {target["name"] for package in packages for target in package["targets"] if target["kind"] == ["test"]}
print("\n".join(sorted(names)) if names else sys.exit("cargo metadata lists no test program"))'
}

stop_tests_and_servers() {
  local name
  # Each `cargo test` leads a process group, to which its test programs belong.
  for name in "${!test_pid[@]}"; do kill -- "-${test_pid[$name]}" 2> /dev/null || true; done
  stop_test_servers
}

stop_test_servers() {
  if [ $servers_started = yes ]; then
    servers_started=no
    stop_starters
    stop_servers
  fi
}

check() { # NAME COMMAND...; a failure counts as one test
  local name=$1 started=$SECONDS
  shift
  heading "$name"
  if (cd "$root" && without_lock "$@"); then
    say "$name: passed ($((SECONDS - started)) s)"
  else
    failed=$((failed + 1))
    warn "$name: failed ($((SECONDS - started)) s)"
  fi
}

declare -A test_pid=() test_started=()

test_log() { echo "$stack_dir/$1.log"; } # NAME

# Runs `cargo test` in the background, with its output in a log.
start_tests() { # NAME NICENESS CARGO-ARGUMENT...
  local name=$1 niceness=$2
  shift 2
  heading "tests in the background: $name"
  test_started[$name]=$SECONDS
  (cd "$root" && without_lock exec setsid "$local_dir/at_priority.sh" "$niceness" cargo test --locked --no-fail-fast "$@") \
    > "$(test_log "$name")" 2>&1 < /dev/null &
  test_pid[$name]=$!
}

# Waits for tests in the background; shows their failures.
await_tests() { # NAME
  local name=$1 code=0
  if [ -z "${test_pid[$name]:-}" ]; then return; fi
  wait "${test_pid[$name]}" || code=$?
  unset "test_pid[$name]"
  if [ $code != 0 ]; then
    heading "failures of $name"
    grep -v -e '^ *Compiling ' -e '^test .* \.\.\. ok$' "$(test_log "$name")" >&2 || true
  fi
  count_tests "$name" "$code" "${test_started[$name]}"
}

foreground_tests() { # NAME CARGO-ARGUMENT...
  local name=$1 started=$SECONDS code=0
  shift
  heading "tests: $name"
  (cd "$root" && without_lock cargo test --locked --no-fail-fast "$@") 2>&1 | tee "$(test_log "$name")" 9>&- || code=$?
  count_tests "$name" "$code" "$started"
}

# Adds the counts of the test programs to the totals.
count_tests() { # NAME CODE STARTED
  local name=$1 code=$2 started=$3 counts now_passed now_failed
  counts=$(awk '/^test result:/ { for (i = 2; i <= NF; i++) { if ($i ~ /^passed/) p += $(i-1); if ($i ~ /^failed/) f += $(i-1) } }
    END { print p + 0, f + 0 }' "$(test_log "$name")")
  now_passed=${counts% *} now_failed=${counts#* }
  # The code did not compile, or a test program ended without a result.
  if [ "$code" != 0 ] && [ "$now_failed" = 0 ]; then now_failed=1; fi
  passed=$((passed + now_passed)) failed=$((failed + now_failed))
  say "$name: $now_passed passed, $now_failed failed ($((SECONDS - started)) s)"
}

# Prints the test programs that took longest; `system` prints the times of its tests itself.
print_slowest() {
  heading "slowest test programs"
  awk '/^ *Running / { name = $2 " " $3 }
    /^test result:/ { sub(/s$/, "", $NF); if ($NF + 0 >= 1) printf "%8.1f s  %s\n", $NF, name }' "$stack_dir"/*.log |
    sort -rn | head -n "$slowest_shown"
}
