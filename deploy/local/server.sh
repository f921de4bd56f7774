#!/usr/bin/env bash
# Starts, stops and kills one server of a stack; the system tests and chaos break and mend their servers with it.
#
#   DEV_STACK=test deploy/local/server.sh start|stop|kill|status NAME    NAME: kafka, registry, postgres, cassandra or all;
#                                                                       chaos has the first two
#
# `start` returns once the server answers, on the ports and the data that it had. `kill` is SIGKILL.
set -euo pipefail
# shellcheck source=parts.sh source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/parts.sh"

action=${1:-} chosen=${2:-}
if [ -z "${DEV_STACK:-}" ]; then fail "DEV_STACK must say which stack: up, test, bench or chaos"; fi
use_stack "$DEV_STACK"
load_ports
case " ${server_names[*]} all " in
  *" $chosen "*) ;;
  *) fail "no such server: '$chosen'; one of ${server_names[*]} all" ;;
esac
if [ "$chosen" = all ]; then names=("${server_names[@]}"); else names=("$chosen"); fi

status_code=0
for name in "${names[@]}"; do
  case $action in
    start) start_server "$name" ;;
    stop) stop_server "$name" ;;
    kill) stop_server "$name" kill ;;
    status) if is_running "$name"; then say "$name: up"; else say "$name: down"; status_code=1; fi ;;
    *) fail "no such action: '$action'; one of start stop kill status" ;;
  esac
done
exit $status_code
