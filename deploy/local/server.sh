#!/usr/bin/env bash
# Starts, stops and kills one server of a stack; the system tests and chaos control their servers with it.
#
#   DEV_STACK=test deploy/local/server.sh start|stop|kill|status NAME    NAME: kafka, registry, postgres, cassandra or all
#
# The stack `chaos` has only kafka and registry. The stack `test` also has registry_spare.
#
# `start` returns once the server answers, with the same ports and data as before. `kill` is SIGKILL.
set -euo pipefail
# shellcheck source=parts.sh source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/parts.sh"

action=${1:-} chosen=${2:-}
if [ -z "${DEV_STACK:-}" ]; then fail "set DEV_STACK to the stack: up, test, bench, chaos or soak"; fi
use_stack "$DEV_STACK"
load_ports
case " ${server_names[*]} all " in
  *" $chosen "*) ;;
  *) fail "unknown server '$chosen'; use one of ${server_names[*]} all" ;;
esac
if [ "$chosen" = all ]; then names=("${server_names[@]}"); else names=("$chosen"); fi

status_code=0
for name in "${names[@]}"; do
  case $action in
    start) start_server "$name" ;;
    stop) stop_server "$name" ;;
    kill) stop_server "$name" kill ;;
    status) if is_running "$name"; then say "$name: up"; else say "$name: down"; status_code=1; fi ;;
    *) fail "unknown action '$action'; use one of start stop kill status" ;;
  esac
done
exit $status_code
