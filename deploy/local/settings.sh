# shellcheck shell=bash
# Folders and ports. Every script of this folder sources this file first.
#
# There are five stacks of servers, which share no ports and no data: `up` (left running by `./dev up`), `test` (started and
# stopped by `./dev test`), `bench` (started and dropped by benchmarks that need empty servers), `chaos` (started, killed and
# stopped by `./dev chaos`) and `soak` (started and stopped by `./dev soak`). DEV_STACK is the stack that a script works on.
# Variables that start with DAYBOOK_ are the service's own settings; ours start with DEV_.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)
local_dir=$root/deploy/local
state_dir=$root/.daybook
jars_dir=$state_dir/servers
target_dir=${CARGO_TARGET_DIR:-$root/target}

server_names=(kafka registry postgres cassandra)
port_names=(kafka kafka_controller registry postgres cql cql_storage http)

# The variable of the service's environment with the address of an existing server.
declare -A address_variable=(
  [kafka]=DAYBOOK_KAFKA_BROKERS [registry]=DAYBOOK_REGISTRY_URL
  [postgres]=DAYBOOK_POSTGRES_URL [cassandra]=DAYBOOK_CQL_NODES
)
# The ports of each server; clients use the first one.
declare -A server_ports=(
  [kafka]="kafka kafka_controller" [registry]=registry [postgres]=postgres [cassandra]="cql cql_storage" [serve]=http
  [registry_spare]=registry_spare
)
# Postgres uses 5433, because the distribution's cluster usually uses 5432.
declare -A port_default_up=(
  [kafka]=9092 [kafka_controller]=9093 [registry]=8081 [postgres]=5433 [cql]=9042 [cql_storage]=7000 [http]=8080
)
# The CQL port is not 19042, because Scylla announces this port to its clients for shard-aware drivers.
declare -A port_default_test=(
  [kafka]=19092 [kafka_controller]=19093 [kafka_sasl]=19094 [registry]=18081 [registry_spare]=18082 [postgres]=15432 [cql]=19142 [cql_storage]=17000 [http]=18080
)
declare -A port_default_bench=(
  [kafka]=29092 [kafka_controller]=29093 [registry]=28081 [postgres]=25432 [cql]=29142 [cql_storage]=27000 [http]=28080
)
declare -A port_default_chaos=(
  [kafka]=21092 [kafka_controller]=21093 [registry]=21081 [postgres]=21432 [cql]=21142 [cql_storage]=21700 [http]=21080
)
declare -A port_default_soak=(
  [kafka]=23092 [kafka_controller]=23093 [registry]=23081 [postgres]=23432 [cql]=23142 [cql_storage]=23700 [http]=23080
)
declare -A port=()

use_stack() { # up | test | bench | chaos | soak
  case $1 in
    up | bench | soak) ;;
    # Its broker has a second listener, which checks the clients' rights. Tests may empty its second registry.
    test)
      server_names+=(registry_spare)
      port_names+=(kafka_sasl registry_spare)
      server_ports[kafka]+=" kafka_sasl"
      ;;
    # Command nodes need no other servers.
    chaos) server_names=(kafka registry) ;;
    *) echo "DEV_STACK must be up, test, bench, chaos or soak, not '$1'" >&2; exit 2 ;;
  esac
  export DEV_STACK=$1
  stack_dir=$state_dir/$1
}

port_variable() { # PORT-NAME; prints the name of the variable that sets it
  local prefix=DEV
  [ "$DEV_STACK" = up ] || prefix=DEV_${DEV_STACK^^}
  echo "${prefix}_${1^^}_PORT"
}

# A shell that has read .daybook/up/environment has settings that an earlier `./dev up` chose. Such a setting must not look
# like the user's own: after a wipe its file is gone, and its port may be another server's. DEV_UP_CHOSEN has them as
# NAME=VALUE, one a line.
forget_chosen_settings() {
  local name value
  while IFS='=' read -r name value; do
    if [[ $name == DAYBOOK_* ]] && [ "${!name:-}" = "$value" ]; then unset "$name"; fi
  done <<< "${DEV_UP_CHOSEN:-}"
  unset DEV_UP_CHOSEN
}

# A port is taken from its variable, else from the last start of this stack, else from the defaults.
load_ports() {
  local name value variable
  local -n defaults=port_default_$DEV_STACK
  forget_chosen_settings
  for name in "${port_names[@]}"; do port[$name]=${defaults[$name]}; done
  if [ -f "$stack_dir/ports" ]; then
    while IFS='=' read -r name value; do port[$name]=$value; done < "$stack_dir/ports"
  fi
  if [ "$DEV_STACK" = up ] && [ -n "${DAYBOOK_HTTP_LISTEN:-}" ]; then port[http]=${DAYBOOK_HTTP_LISTEN##*:}; fi
  for name in "${port_names[@]}"; do
    variable=$(port_variable "$name")
    port[$name]=${!variable:-${port[$name]}}
    if ! [[ ${port[$name]} =~ ^[1-9][0-9]{0,4}$ ]] || [ "${port[$name]}" -gt 65535 ]; then
      echo "$variable must be a port number, not '${port[$name]}'" >&2
      exit 2
    fi
  done
}

save_ports() {
  local name
  mkdir -p "$stack_dir"
  for name in "${port_names[@]}"; do echo "$name=${port[$name]}"; done > "$stack_dir/ports.new"
  mv "$stack_dir/ports.new" "$stack_dir/ports"
}

# Exports the addresses of this stack's servers. The environment's own values are kept in `up` only; the other stacks always
# have servers of their own.
export_addresses() {
  local name variable
  if [ "$DEV_STACK" != up ]; then
    for variable in "${!DAYBOOK_@}"; do unset "$variable"; done
  fi
  for name in "${server_names[@]}"; do
    variable=${address_variable[$name]:-}
    if [ -z "$variable" ]; then continue; fi
    export "$variable=${!variable:-$(own_address "$name")}"
  done
}

own_address() { # NAME of a server
  case $1 in
    kafka) echo "127.0.0.1:${port[kafka]}" ;;
    registry | registry_spare) echo "http://127.0.0.1:${port[$1]}/apis/ccompat/v7" ;;
    postgres) echo "postgres://daybook@127.0.0.1:${port[postgres]}/daybook" ;;
    cassandra) echo "127.0.0.1:${port[cql]}" ;;
  esac
}
