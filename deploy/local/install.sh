# shellcheck shell=bash
# The required tools and their installation: packages of Debian and Ubuntu, Rust by rustup, Python packages in a virtual
# environment of this checkout. Only missing tools are installed; nothing is ever upgraded or removed.

# The tools and the packages that contain them. Each is a line in the table of doctor.
tool_names=(cc make git curl certificates cargo java mvn postgres python3 ss pgrep setpriv)
declare -A tool_package=(
  [cc]=build-essential [make]=build-essential [git]=git [curl]=curl [certificates]=ca-certificates [cargo]=""
  [java]=openjdk-17-jre-headless [mvn]=maven [postgres]=postgresql [python3]="python3 python3-venv" [ss]=iproute2
  [pgrep]=procps [setpriv]=util-linux
)

# Tools that only native servers need.
is_native_only() { case $1 in java | mvn | postgres) return 0 ;; *) return 1 ;; esac }

tool_version() { # NAME; prints a version, or fails when the tool is missing or too old
  case $1 in
    cc | make | git | curl | setpriv | pgrep) command -v "$1" > /dev/null && "$1" --version 2>&1 | sed -n 1p ;;
    certificates) [ -s /etc/ssl/certs/ca-certificates.crt ] && echo present ;;
    cargo) (cd "$root" && cargo --version 2> /dev/null) ;;
    java) find_java > /dev/null && "$(find_java)" -version 2>&1 | sed -n 1p ;;
    mvn) command -v mvn > /dev/null && mvn --version 2> /dev/null | sed -n '1s/\x1b\[[0-9;]*m//gp' ;;
    postgres) postgres_tool initdb > /dev/null && "$(postgres_tool postgres)" --version ;;
    python3) python3 -c 'import ensurepip, venv, sys; print("Python", sys.version.split()[0])' 2> /dev/null ;;
    ss) command -v ss > /dev/null && ss -V ;;
  esac
}

has_tool() { tool_version "$1" > /dev/null 2>&1; }

# rustup puts cargo into a folder that is not in the PATH of running shells.
find_cargo() {
  if ! command -v cargo > /dev/null && [ -x "$HOME/.cargo/bin/cargo" ]; then PATH=$HOME/.cargo/bin:$PATH; fi
}

install_tools() { # METHOD: native | docker
  local name package packages=() had_postgres=yes
  find_cargo
  for name in "${tool_names[@]}"; do
    if [ "$1" = docker ] && is_native_only "$name"; then continue; fi
    if [ "$name" = cargo ] || has_tool "$name"; then continue; fi
    if [ "$name" = postgres ]; then had_postgres=no; fi
    for package in ${tool_package[$name]}; do
      if [[ " ${packages[*]} " != *" $package "* ]]; then packages+=("$package"); fi
    done
  done
  if [ ${#packages[@]} -gt 0 ]; then
    heading "installing ${packages[*]}"
    install_packages "${packages[@]}"
    if [ $had_postgres = no ]; then disable_new_cluster; fi
  fi
  if ! has_tool cargo; then install_rust; fi
}

install_packages() { # PACKAGE...
  local as=() package packages=() log=$state_dir/install.log
  if ! command -v apt-get > /dev/null; then
    fail "this is neither Debian nor Ubuntu; install the contents of these packages: $*"
  fi
  if [ "$(id -u)" != 0 ]; then
    if ! command -v sudo > /dev/null; then
      fail "this needs root or sudo; ask an administrator to run: apt-get install $*"
    fi
    as=(sudo)
    # Prompt for the password here, because the output of later calls goes to a file.
    sudo -v || fail "sudo failed; ask an administrator to run: apt-get install $*"
  fi
  as+=(env DEBIAN_FRONTEND=noninteractive)
  run_quietly "updating the package lists" "$log" "${as[@]}" apt-get -o DPkg::Lock::Timeout=120 update
  for package in "$@"; do
    # Newer releases do not have Java 17.
    if [ "$package" = openjdk-17-jre-headless ] && ! apt-cache show "$package" > /dev/null 2>&1; then
      package=openjdk-21-jre-headless
    fi
    packages+=("$package")
  done
  run_quietly "installing packages" "$log" \
    "${as[@]}" apt-get -o DPkg::Lock::Timeout=120 install -y --no-install-recommends "${packages[@]}"
  say "installed: ${packages[*]}"
}

# The package creates a cluster and starts it. Daybook does not use it, so it is stopped and not started at boot;
# `pg_ctlcluster VERSION NAME start` starts it.
disable_new_cluster() {
  local as=() version name rest
  command -v pg_lsclusters > /dev/null || return 0
  if [ "$(id -u)" != 0 ]; then as=(sudo); fi
  while read -r version name rest; do
    "${as[@]}" pg_ctlcluster "$version" "$name" stop > /dev/null 2>&1 || true
    "${as[@]}" sed -i 's/^auto$/manual/' "/etc/postgresql/$version/$name/start.conf"
    say "stopped the new Postgres cluster $version/$name: Daybook uses its own"
  done < <(pg_lsclusters --no-header)
}

install_rust() {
  local channel installer
  channel=$(sed -n 's/^channel = "\(.*\)"/\1/p' "$root/rust-toolchain.toml")
  heading "installing Rust $channel"
  if ! command -v rustup > /dev/null; then
    installer=$state_dir/rustup-init.sh
    curl --proto '=https' --tlsv1.2 -sSf -o "$installer" https://sh.rustup.rs ||
      fail "rustup cannot be downloaded; install Rust $channel with cargo, clippy and rustfmt"
    run_quietly "installing rustup" "$state_dir/install.log" \
      sh "$installer" -y --profile minimal --default-toolchain none
    find_cargo
  fi
  run_quietly "installing Rust $channel with rustup" "$state_dir/install.log" \
    rustup toolchain install "$channel" --profile minimal --component clippy --component rustfmt
  has_tool cargo || fail "cargo does not work after the installation; see $state_dir/install.log"
}

# Sets cargo_deny to the program that checks the dependencies by deny.toml. Only `./dev test --full` needs it.
install_cargo_deny() {
  local version=0.20.2 folder=$state_dir/cargo-deny
  cargo_deny=$folder/bin/cargo-deny
  if [ "$("$cargo_deny" --version 2> /dev/null)" = "cargo-deny $version" ]; then return; fi
  run_quietly "installing cargo-deny $version" "$state_dir/install.log" \
    cargo install --quiet --locked --version "$version" --root "$folder" cargo-deny
}

# Sets python to the interpreter of the virtual environment that holds tests/python/requirements.txt.
install_python_packages() {
  local venv=$state_dir/venv wanted=$root/tests/python/requirements.txt stamp
  python=$venv/bin/python
  stamp=$(cat "$wanted" <(python3 --version) | sha256sum | cut -c1-16)
  if [ "$(cat "$venv/stamp" 2> /dev/null)" = "$stamp" ]; then return; fi
  rm -rf "$venv"
  run_quietly "creating a virtual environment" "$state_dir/install.log" python3 -m venv "$venv"
  run_quietly "installing the tests' Python packages" "$state_dir/install.log" \
    "$venv/bin/pip" install --disable-pip-version-check -r "$wanted"
  echo "$stamp" > "$venv/stamp"
}
