# shellcheck shell=bash
# `./dev doctor`: shows installed and missing tools, and ports that are taken. Changes nothing.

doctor() {
  local missing=0 name version memory
  use_stack up
  load_ports
  find_cargo

  heading "tools"
  for name in "${tool_names[@]}"; do
    if version=$(tool_version "$name" 2> /dev/null) && [ -n "$version" ]; then
      printf '   %-14s %s\n' "$name" "$version"
    else
      missing=$((missing + 1))
      printf '!! %-14s missing; ./dev up installs it%s\n' "$name" "${tool_package[$name]:+ (${tool_package[$name]})}"
    fi
  done
  if docker_answers; then version="answers"; else version="no engine answers: the servers run natively"; fi
  printf '   %-14s %s\n' docker "$version"

  heading "ports of ./dev up"
  for name in "${server_names[@]}" serve; do doctor_ports "$name"; done

  heading "servers of ./dev up"
  for name in "${server_names[@]}" serve; do
    if is_external "$name"; then
      version="elsewhere: ${address_variable[$name]} is set"
    elif is_running "$name"; then
      version="up"
    else
      version="down"
    fi
    printf '   %-14s %s\n' "$name" "$version"
  done

  heading "machine"
  memory=$(awk '/^MemTotal/ { t = $2 } /^MemAvailable/ { a = $2 }
    END { printf "%.1f GiB, %.1f free", t / 1048576, a / 1048576 }' /proc/meminfo)
  printf '   %-14s %s\n' user "$(id -un) (uid $(id -u))" \
    cores "$(nproc)" \
    memory "$memory" \
    disk "$(df -Ph "$root" | awk 'NR == 2 { print $4 " free of " $2 }')" \
    state "$(if [ -d "$state_dir" ]; then du -sh "$state_dir" | cut -f1; else echo nothing; fi) in .daybook"

  echo
  if [ $missing -gt 0 ]; then
    warn "$missing tools are missing"
    return 1
  fi
  say "nothing is missing"
}

doctor_ports() { # NAME of a server
  local port_name state
  for port_name in $(needed_ports "$1"); do
    if is_external "$1"; then
      state="not needed"
    elif is_running "$1"; then
      state="ours"
    elif is_taken "${port[$port_name]}"; then
      state="TAKEN by $(port_holder "${port[$port_name]}"); $(port_variable "$port_name")=PORT chooses another"
    else
      state="free"
    fi
    printf '   %-5s %-16s %s\n' "${port[$port_name]}" "$port_name" "$state"
  done
}
