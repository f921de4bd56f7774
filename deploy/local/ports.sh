# shellcheck shell=bash
# Who holds a port, and what to do when it is not us.

is_open() { # PORT
  (exec 3<> "/dev/tcp/127.0.0.1/$1") 2> /dev/null
}

# A listener on any local address is in the way, even one that does not answer on 127.0.0.1.
is_taken() { # PORT
  if command -v ss > /dev/null; then [ -n "$(ss -Hltn "sport = :$1")" ]; else is_open "$1"; fi
}

port_holder() { # PORT; in words
  local users
  users=$(ss -Hltnp "sport = :$1" 2> /dev/null | grep -o '"[^"]*",pid=[0-9]*' | sort -u |
    sed 's/"\(.*\)",pid=\(.*\)/\1 (pid \2)/' | paste -sd ' ')
  echo "${users:-a process that is not ours to see}"
}

# Ports of one server that somebody else holds: one line each, nothing when all is well.
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
    fail "nothing was started on those ports; stop what holds them, or choose others as shown"
  fi
}

# The tests take the next free port by themselves.
choose_free_ports() {
  local name candidate tries tries_max=200
  for name in "${port_names[@]}"; do
    candidate=${port[$name]}
    for ((tries = 0; tries < tries_max; tries++)); do
      if ! is_taken "$candidate" && ! is_wanted_otherwise "$name" "$candidate"; then break; fi
      candidate=$((candidate + 1))
    done
    [ "$tries" -lt "$tries_max" ] || fail "no free port from ${port[$name]} on for $name"
    if [ "$candidate" != "${port[$name]}" ]; then
      say "port ${port[$name]} ($name) is taken by $(port_holder "${port[$name]}"): $candidate instead"
    fi
    port["$name"]=$candidate
  done
}

is_wanted_otherwise() { # NAME PORT
  local other
  for other in "${port_names[@]}"; do
    if [ "$other" != "$1" ] && [ "${port[$other]}" = "$2" ]; then return 0; fi
  done
  return 1
}
