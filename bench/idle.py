"""One measurement of bench/idle: idle.py BINARY FOLDER PARTITIONS PORT. Prints a JSON object of figures.

Starts a node with new topics, stops it, and measures a second start of the node. Then kills the node, and starts another node
with the same state directory, which takes over all partitions once the session of the killed node has ended. The time of the
take-over begins when the group assigns the partitions, so the session time-out is not included.
"""

import datetime
import json
import os
import pathlib
import subprocess
import sys
import time
import urllib.error
import urllib.request

READY_SECONDS_MAX = 300
SETTLE_SECONDS = 20
IDLE_SECONDS = 30
# The name of the threads of the runtime, which run every owner, view and request.
RUNTIME_THREAD = "tokio-rt-worker"


class Node:
    """A process of the service."""

    def __init__(self, binary, role, folder, environment):
        self.log = folder / "log"
        self.environment = environment
        self.started = time.monotonic()
        with self.log.open("wb") as log:
            self.process = subprocess.Popen([binary, role], env=environment, stderr=log, stdin=subprocess.DEVNULL)

    def await_ready(self):
        """Returns the seconds from the start until the node is ready."""
        url = f"http://{self.environment['DAYBOOK_HTTP_LISTEN']}/health/ready"
        while True:
            if self.process.poll() is not None:
                sys.exit(f"the node ended with {self.process.returncode}; see {self.log}")
            if time.monotonic() - self.started > READY_SECONDS_MAX:
                sys.exit(f"the node was not ready within {READY_SECONDS_MAX} s; see {self.log}")
            try:
                with urllib.request.urlopen(url, timeout=5) as answer:
                    if answer.status == 200 and json.load(answer).get("components"):
                        return time.monotonic() - self.started
            except (urllib.error.URLError, OSError):
                pass
            time.sleep(0.02)

    def stop(self):
        self.process.terminate()
        self.process.wait(60)

    def kill(self):
        self.process.kill()
        self.process.wait(60)

    def processor_seconds(self):
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(") ", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def resident_mb(self):
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        (line,) = [line for line in status if line.startswith("VmRSS")]
        return int(line.split()[1]) / 1024

    def threads(self):
        return len(os.listdir(f"/proc/{self.process.pid}/task"))

    def wakeups(self):
        """The number of times that each thread of the runtime has waited, by thread."""
        found = {}
        for thread in pathlib.Path(f"/proc/{self.process.pid}/task").iterdir():
            try:
                if (thread / "comm").read_text().strip() != RUNTIME_THREAD:
                    continue
                status = (thread / "status").read_text().splitlines()
            except OSError:
                continue  # The thread has ended.
            (line,) = [line for line in status if line.startswith("voluntary_ctxt_switches")]
            found[thread.name] = int(line.split()[1])
        return found

    def times_of(self, message):
        """The times of all log lines with this message, in seconds since 1970."""
        lines = [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]
        wanted = [line for line in lines if line.get("fields", line).get("message") == message]
        return [datetime.datetime.fromisoformat(line["timestamp"]).timestamp() for line in wanted]


def settings(folder, name, partitions, port):
    """The environment of a node with topics, databases and a state of its own."""
    folder.mkdir(parents=True)
    key = folder / "hash.key"
    key.write_text("00" * 32)
    key.chmod(0o600)
    return dict(
        os.environ,
        DAYBOOK_KAFKA_PARTITIONS=str(partitions),
        DAYBOOK_KAFKA_TOPIC_PREFIX=f"{name}.",
        DAYBOOK_POSTGRES_URL=os.environ["DAYBOOK_POSTGRES_URL"].rsplit("/", 1)[0] + f"/{name}",
        DAYBOOK_CQL_KEYSPACE=name,
        DAYBOOK_COMMANDS_STATE_DIR=str(folder / "state"),
        DAYBOOK_COMMANDS_HASH_KEY_FILE=str(key),
        DAYBOOK_HTTP_LISTEN=f"127.0.0.1:{port}",
    )


def main():
    binary, stack, partitions, port = sys.argv[1], pathlib.Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    name = f"idle{len(list(stack.glob('node-*')))}"
    folder = stack / f"node-{name}"
    environment = settings(folder, name, partitions, port)
    node = Node(binary, "serve", folder, environment)
    node.await_ready()
    node.stop()

    node = Node(binary, "serve", folder, environment)
    ready = node.await_ready()
    time.sleep(SETTLE_SECONDS)
    used, woken, started = node.processor_seconds(), node.wakeups(), time.monotonic()
    time.sleep(IDLE_SECONDS)
    used, passed = node.processor_seconds() - used, time.monotonic() - started
    woken = sum(count - woken.get(thread, 0) for thread, count in node.wakeups().items())
    owned = len(node.times_of("owner serves"))
    suffix = f"{owned // partitions}x{partitions}"
    figures = {
        f"idle.rss_mb_{suffix}": round(node.resident_mb(), 1),
        f"idle.threads_{suffix}": node.threads(),
        f"idle.cpu_pct_{suffix}": round(100 * used / passed, 2),
        f"idle.wakeups_per_second_{suffix}": round(woken / passed, 1),
        f"idle.ready_s_{suffix}": round(ready, 2),
    }
    node.kill()
    other = dict(environment, DAYBOOK_COMMANDS_MEMBER=f"{name}-successor")
    node = Node(binary, "commands", folder, other)
    node.await_ready()
    serving = node.times_of("owner serves")
    if len(serving) != owned:
        sys.exit(f"the successor serves {len(serving)} partitions instead of {owned}; see {node.log}")
    assigned = node.times_of("the group assigned partitions")
    before = [moment for moment in assigned if moment <= min(serving)]
    figures[f"journal.takeover_{owned}_s"] = round(max(serving) - max(before), 2)
    node.stop()
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
