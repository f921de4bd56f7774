# shellcheck shell=bash
# Apicurio Registry, whose Confluent-compatible interface is at /apis/ccompat/v7, from Maven.
# Its data is an H2 file. With WRITE_DELAY=0 an acknowledged schema survives `kill -9`.

registry_heap=${DEV_REGISTRY_HEAP:-256m}

registry_fetch() { fetch_jars registry; }

registry_prepare() {
  local archive
  # The artifact is an archive of the whole application; it is unpacked once, next to the jars.
  if [ ! -d "$jars/app" ]; then
    archive=$(echo "$jars"/apicurio-registry-app-*.tar.gz)
    rm -rf "$jars/app.partial"
    mkdir "$jars/app.partial"
    tar -xzf "$archive" -C "$jars/app.partial"
    mv "$jars/app.partial" "$jars/app"
    rm "$archive"
  fi
  mkdir -p "$stack_dir/registry/data"
}

registry_start() {
  local directory=$stack_dir/registry java
  java=$(find_java)
  launch registry env "REGISTRY_DATASOURCE_URL=jdbc:h2:file:$directory/data/registry;WRITE_DELAY=0" \
    "QUARKUS_HTTP_PORT=${port[registry]}" QUARKUS_HTTP_HOST=127.0.0.1 \
    "$java" "-Ddaybook.server=$directory" "-Xmx$registry_heap" -XX:+UseSerialGC -XX:+ExitOnOutOfMemoryError \
    -jar "$(echo "$jars"/app/apicurio-registry-app-*-runner.jar)"
}

registry_answers() {
  curl -sf --max-time 5 "http://127.0.0.1:${port[registry]}/apis/ccompat/v7/subjects" > /dev/null 2>&1
}

registry_finish() { :; }
