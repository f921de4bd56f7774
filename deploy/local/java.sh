# shellcheck shell=bash
# Chooses the Java of the native servers. They are tested with Java 17, so it is preferred if several are installed.
# Cassandra 5.0 needs a security manager, which Java 24 does not have.

java_major_min=17
java_major_max=23

java_major() { # PATH
  "$1" -version 2>&1 | sed -n 's/^[^"]*version "\([0-9]*\).*/\1/p' | head -n 1
}

# Prints the path of the Java to use, or fails.
find_java() {
  local candidate major best="" best_major=999
  for candidate in "${JAVA_HOME:-/nowhere}/bin/java" "$(command -v java || true)" /usr/lib/jvm/*/bin/java; do
    [ -x "$candidate" ] || continue
    major=$(java_major "$candidate")
    if [[ $major =~ ^[0-9]+$ ]] && [ "$major" -ge $java_major_min ] && [ "$major" -le $java_major_max ] &&
      [ "$major" -lt "$best_major" ]; then
      best=$candidate best_major=$major
    fi
    if [ "$best_major" = $java_major_min ]; then break; fi
  done
  [ -n "$best" ] && echo "$best"
}
