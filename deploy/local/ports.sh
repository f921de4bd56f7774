# shellcheck shell=bash
# Finds the holders of ports, and chooses other ports.

is_open() { # PORT
  (exec 3<> "/dev/tcp/127.0.0.1/$1") 2> /dev/null
}

# A listener on any local address blocks a port, even if it does not answer on 127.0.0.1.
is_taken() { # PORT
  if command -v ss > /dev/null; then [ -n "$(ss -Hltn "sport = :$1")" ]; else is_open "$1"; fi
}

port_holder() { # PORT; prints a description
  local users
  users=$(ss -Hltnp "sport = :$1" 2> /dev/null | grep -o '"[^"]*",pid=[0-9]*' | sort -u |
    sed 's/"\(.*\)",pid=\(.*\)/\1 (pid \2)/' | paste -sd ' ')
  echo "${users:-a process that this user cannot see}"
}

# Prints a line for each port of a server that another process holds.
blocked_ports() { # NAME
  local name
  if is_running "$1" || [ -n "$(orphan_pids "$1")" ]; then return; fi
  for name in $(needed_ports "$1"); do
    if is_taken "${port[$name]}"; then
      echo "port ${port[$name]} ($name) is taken by $(port_holder "${port[$name]}");" \
        "$(port_variable "$name")=PORT chooses another"
    fi
  done
}

require_ports() { # NAME...
  local name lines=""
  for name in "$@"; do lines+=$(blocked_ports "$name" | sed 's/$/\\n/'); done
  if [ -n "$lines" ]; then
    printf '%b' "$lines" | while read -r line; do warn "$line"; done
    fail "nothing was started on those ports; stop the processes that hold them, or choose other ports as shown"
  fi
}

# Replaces ports that are taken by the next free ones.
choose_free_ports() {
  local name candidate attempts attempts_max=200
  for name in "${port_names[@]}"; do
    candidate=${port[$name]}
    for ((attempts = 0; attempts < attempts_max; attempts++)); do
      if ! is_taken "$candidate" && ! is_assigned_to_other_service "$name" "$candidate"; then break; fi
      candidate=$((candidate + 1))
    done
    [ "$attempts" -lt "$attempts_max" ] || fail "no free port from ${port[$name]} on for $name"
    if [ "$candidate" != "${port[$name]}" ]; then
      say "port ${port[$name]} ($name) is taken by $(port_holder "${port[$name]}"); $candidate is used instead"
    fi
    port["$name"]=$candidate
  done
}

is_assigned_to_other_service() { # NAME PORT
  local other
  for other in "${port_names[@]}"; do
    if [ "$other" != "$1" ] && [ "${port[$other]}" = "$2" ]; then return 0; fi
  done
  return 1
}
