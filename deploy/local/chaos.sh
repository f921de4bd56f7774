# shellcheck shell=bash
# `./dev chaos`: fault injection into command nodes and their broker, on servers of its own. tests/python/chaos has the
# faults and the checker. A run with violations leaves its files in .daybook/chaos until the next run.

chaos() {
  local minutes=5 seed="" pause=20 seconds code=0
  while [ $# -gt 0 ]; do
    case $1 in
      --short) minutes=1.25 pause=8 ;;
      --minutes | --seed)
        if ! [[ ${2:-} =~ ^[0-9]+(\.[0-9]+)?$ ]]; then fail "$1 needs a number; use ./dev chaos [--minutes N] [--seed S] [--short]"; fi
        declare "${1#--}=$2"
        shift
        ;;
      *) fail "unknown argument '$1'; use ./dev chaos [--minutes N] [--seed S] [--short]" ;;
    esac
    shift
  done
  seconds=$(awk -v minutes="$minutes" 'BEGIN { printf "%d", minutes * 60 }')
  begin_run chaos stop_chaos drop_chaos
  install_faketime
  heading "chaos: tests of the checker"
  (without_lock "$python" -B -m unittest discover -s "$root/tests/python/chaos") || fail "the tests of the checker failed"
  heading "chaos: servers and build"
  start_servers
  chaos_binary
  await_servers || fail "the servers of chaos did not start"
  heading "chaos"
  export DEV_SERVER_CONTROL=$local_dir/server.sh
  without_lock_in_subshell "$python" -B "$root/tests/python/chaos" --folder "$stack_dir/run" --seconds "$seconds" \
    --pause "$pause" ${seed:+--seed "$seed"} || code=$?
  stop_chaos
  trap - EXIT
  if [ $code = 0 ]; then
    drop_chaos
  else
    warn "the nodes' logs, the clients' history and the broker's data are in .daybook/chaos until the next run"
  fi
  return $code
}

without_lock_in_subshell() { (without_lock "$@"); } # COMMAND...

# ./dev test has built a binary already, and sets DEV_DAYBOOK.
chaos_binary() {
  if [ -n "${DEV_DAYBOOK:-}" ]; then return; fi
  (cd "$root" && without_lock cargo build --release --locked --bin daybook) || fail "the build failed"
  export DEV_DAYBOOK=$target_dir/release/daybook
}

# A failed installation is not an error, because chaos then leaves out only the clock faults.
install_faketime() {
  if ! find_faketime > /dev/null; then
    heading "installing libfaketime"
    (install_packages libfaketime) || say "libfaketime can't be installed: clock faults are left out"
  fi
  DEV_FAKETIME=$(find_faketime || true)
  if [ -n "$DEV_FAKETIME" ]; then
    mkdir -p "$stack_dir"
    # waits.so must be preloaded before libfaketime, because it calls libfaketime.
    cc -O2 -shared -fPIC -o "$stack_dir/waits.so" "$root/tests/python/chaos/waits.c" || fail "waits.c does not compile"
    DEV_FAKETIME=$stack_dir/waits.so:$DEV_FAKETIME
  fi
  export DEV_FAKETIME
}

# The path of the library that shifts a process's clock, as Debian's package installs it.
find_faketime() {
  local library
  for library in /usr/lib/*/faketime/libfaketimeMT.so.1; do
    if [ -e "$library" ]; then
      echo "$library"
      return
    fi
  done
  return 1
}

stop_chaos() {
  stop_starters
  stop_servers
}

# The nodes' small file systems are mounted in the stack's folder.
drop_chaos() {
  local folder
  while read -r folder; do
    umount -l "$folder"
  done < <(awk -v within="$stack_dir/" 'index($2, within) == 1 { print $2 }' /proc/mounts)
  wipe_stack
}
