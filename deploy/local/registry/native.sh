# shellcheck shell=bash
# Apicurio Registry from Maven. Its Confluent-compatible interface is at /apis/ccompat/v7.
# Its data is an H2 file. With WRITE_DELAY=0 an acknowledged schema survives `kill -9`.
# The stack `test` has a second registry, `registry_spare`, with its data in memory. `kill` and `start` empty it.

registry_heap=${DEV_REGISTRY_HEAP:-256m}

registry_fetch() {
  # Maven's log is in this folder, which does not exist yet if `registry_spare` fetches first.
  mkdir -p "$stack_dir/registry"
  fetch_jars registry
}
registry_spare_fetch() { registry_fetch; }

registry_prepare() {
  registry_unpack
  mkdir -p "$stack_dir/registry/data"
}
registry_spare_prepare() { registry_unpack; }

# The artifact is an archive of the whole application; it is unpacked once, next to the jars.
registry_unpack() {
  local archive
  exec 7>> "$jars_dir/registry.lock"
  flock -w 600 7 || fail "registry: its jars are still being unpacked by an earlier start"
  if [ ! -d "$jars/app" ]; then
    archive=$(echo "$jars"/apicurio-registry-app-*.tar.gz)
    rm -rf "$jars/app.partial"
    mkdir "$jars/app.partial"
    tar -xzf "$archive" -C "$jars/app.partial"
    mv "$jars/app.partial" "$jars/app"
    rm "$archive"
  fi
  flock -u 7
}

registry_start() {
  registry_launch registry "jdbc:h2:file:$stack_dir/registry/data/registry;WRITE_DELAY=0"
}
registry_spare_start() { registry_launch registry_spare jdbc:h2:mem:registry; }

registry_launch() { # NAME DATA-SOURCE
  local name=$1 java
  java=$(find_java)
  launch "$name" env "REGISTRY_DATASOURCE_URL=$2" "QUARKUS_HTTP_PORT=${port[$name]}" QUARKUS_HTTP_HOST=127.0.0.1 \
    "$java" "-Ddaybook.server=$stack_dir/$name" "-Xmx$registry_heap" -XX:+UseSerialGC -XX:+ExitOnOutOfMemoryError \
    -jar "$(echo "$jars"/app/apicurio-registry-app-*-runner.jar)"
}

registry_answers() { registry_lists registry; }
registry_spare_answers() { registry_lists registry_spare; }
registry_lists() { # NAME
  curl -sf --max-time 5 "http://127.0.0.1:${port[$1]}/apis/ccompat/v7/subjects" > /dev/null 2>&1
}

registry_finish() { :; }
registry_spare_finish() { :; }
