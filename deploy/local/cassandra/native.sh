# shellcheck shell=bash
# Cassandra, one node, from Maven's jars. It replaces Scylla, which is in no package registry; both support the driver and
# the CQL that Daybook uses. The commit log is synced in groups of 2 ms, because the default, a sync every few seconds, loses
# acknowledged rows on `kill -9`.

cassandra_fetch() { fetch_jars cassandra; }

cassandra_prepare() {
  mkdir -p "$stack_dir/cassandra/data"
  sed -e "s/@SYNC@/group/; s/@SYNC_LINE@/commitlog_sync_group_window: 2ms/" \
    -e "s/@CQL_PORT@/${port[cql]}/; s/@STORAGE_PORT@/${port[cql_storage]}/" \
    "$local_dir/cassandra/cassandra.yaml.template" > "$stack_dir/cassandra/cassandra.yaml"
}

# The internal packages of the JDK that Cassandra's own start script opens.
cassandra_modules() {
  local module
  for module in java.base/jdk.internal.misc java.base/java.lang.ref java.sql/java.sql jdk.unsupported/sun.misc \
    java.management.rmi/com.sun.jmx.remote.internal.rmi java.rmi/sun.rmi.registry java.rmi/sun.rmi.server \
    jdk.compiler/com.sun.tools.javac.file jdk.attach/sun.tools.attach; do
    echo "--add-exports=$module=ALL-UNNAMED"
  done
  for module in java.base/java.lang java.base/java.lang.module java.base/java.lang.reflect java.base/java.io \
    java.base/java.util java.base/sun.nio.ch java.base/jdk.internal.loader java.base/jdk.internal.ref \
    java.base/jdk.internal.reflect java.base/jdk.internal.math java.base/jdk.internal.module \
    java.base/jdk.internal.util.jar jdk.management/com.sun.management.internal jdk.compiler/com.sun.tools.javac; do
    echo "--add-opens=$module=ALL-UNNAMED"
  done
}

cassandra_start() {
  local directory=$stack_dir/cassandra java modules as=()
  java=$(find_java)
  mapfile -t modules < <(cassandra_modules)
  # Since Java 18 the security manager that Cassandra installs must be allowed explicitly.
  if [ "$(java_major "$java")" -ge 18 ]; then modules+=(-Djava.security.manager=allow); fi
  # As root, Cassandra would lock all its memory, so it runs without the capability to do so.
  if [ "$(id -u)" = 0 ]; then as=(setpriv --bounding-set -ipc_lock); fi
  ulimit -l 64 2> /dev/null || true
  launch cassandra "${as[@]}" "$java" "-Ddaybook.server=$directory" \
    "-Xms${DEV_CASSANDRA_HEAP:-768m}" "-Xmx${DEV_CASSANDRA_HEAP:-768m}" -Xss256k -XX:+UseG1GC \
    -XX:MaxDirectMemorySize=256m -XX:+PerfDisableSharedMem -XX:+ExitOnOutOfMemoryError -Djava.net.preferIPv4Stack=true \
    -javaagent:"$(echo "$jars"/jamm-*.jar)" -Djdk.attach.allowAttachSelf=true "${modules[@]}" \
    -Dio.netty.tryReflectionSetAccessible=true -Dio.netty.allocator.maxOrder=11 -Djna.nosys=true \
    -Dcassandra-foreground=yes "-Dcassandra.config=file://$directory/cassandra.yaml" \
    "-Dcassandra.storagedir=$directory/data" "-Dlogback.configurationFile=file://$local_dir/cassandra/logback.xml" \
    -Dcassandra.skip_wait_for_gossip_to_settle=0 -Dcassandra.ring_delay_ms=0 \
    -Dcassandra.superuser_setup_delay_ms=0 -Dcassandra.shutdown_announce_in_ms=0 \
    -cp "$jars/*" org.apache.cassandra.service.CassandraDaemon
}

cassandra_answers() { python3 "$local_dir/cassandra/probe.py" "${port[cql]}" 2> /dev/null; }

cassandra_finish() { :; }
