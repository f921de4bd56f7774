# shellcheck shell=bash
# Kafka, one node, broker and controller in one process (KRaft), from Maven's jars.

kafka_heap=${DEV_KAFKA_HEAP:-512m}

kafka_fetch() { fetch_jars kafka; }

kafka_prepare() {
  local directory=$stack_dir/kafka cluster_id java
  java=$(find_java)
  mkdir -p "$directory/data"
  sed -e "s|@PORT@|${port[kafka]}|g; s|@CONTROLLER_PORT@|${port[kafka_controller]}|g; s|@DATA@|$directory/data|g" \
    "$local_dir/kafka/server.properties.template" > "$directory/server.properties"
  if [ "$DEV_STACK" = test ]; then
    sed -e "s|@PORT@|${port[kafka]}|g; s|@CONTROLLER_PORT@|${port[kafka_controller]}|g; s|@SASL_PORT@|${port[kafka_sasl]}|g" \
      "$local_dir/kafka/access.properties.template" >> "$directory/server.properties"
  fi
  if [ ! -f "$directory/data/meta.properties" ]; then
    cluster_id=$(head -c 16 /dev/urandom | base64 | tr '+/' '-_' | cut -c1-22)
    # An id that starts with a dash would be parsed as an option.
    "$java" -cp "$jars/*" kafka.tools.StorageTool format -t "K${cluster_id:1}" -c "$directory/server.properties" \
      > "$directory/format.log" 2>&1 ||
      fail "kafka: its storage cannot be formatted; see $directory/format.log"
  fi
}

kafka_start() {
  local directory=$stack_dir/kafka java
  java=$(find_java)
  launch kafka "$java" "-Ddaybook.server=$directory" "-Xms$kafka_heap" "-Xmx$kafka_heap" -XX:+UseG1GC \
    -XX:+ExitOnOutOfMemoryError -Dorg.slf4j.simpleLogger.defaultLogLevel=warn \
    -Dorg.slf4j.simpleLogger.showDateTime=true -Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd\'T\'HH:mm:ss.SSS \
    -cp "$jars/*" kafka.Kafka "$directory/server.properties"
}

kafka_answers() { is_open "${port[kafka]}"; }

kafka_finish() { :; }
