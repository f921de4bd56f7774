"""The nodes (`daybook commands`) and the broker. Faults are injected into them."""

import os
import signal
import subprocess
import time
import urllib.request

from clients import now

STATE_MIB = 192
READY_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 20.0
# Largest offset of a node's clock; two clocks differ by twice that at most.
CLOCK_OFFSET_S_MAX = 1.5
# Time until a process notices that its clock was set.
CLOCK_DELAY_S = 1


class Node:
    """One `daybook commands`. Its state store is on a small file system of its own if one can be mounted, and it has a clock
    of its own if libfaketime is installed."""

    def __init__(self, binary, folder, port, rng, faketime):
        self.binary = binary
        self.port = port
        self.rng = rng
        self.faketime = faketime
        self.url = f"http://127.0.0.1:{port}"
        self.folder = os.path.join(folder, f"node-{port}")
        self.state = os.path.join(self.folder, "state")
        self.store = os.path.join(self.state, "store")
        self.log_path = os.path.join(self.folder, "log")
        self.clock_path = os.path.join(self.folder, "clock")
        self.process = None
        # The times in which the node may fail to answer: [from, to]; `to` is None until the end.
        self.disturbances = []
        # Faults of the node itself.
        self.failures = []
        # Number of shutdowns that left work unfinished, which costs only time.
        self.unfinished_shutdowns = 0
        os.makedirs(self.state, exist_ok=True)
        self.has_own_disk = self.mount()

    def mount(self):
        """Mounts a file system that can be filled without side effects. Needs root."""
        command = ["mount", "-t", "tmpfs", "-o", f"size={STATE_MIB}m", "daybook-chaos", self.state]
        try:
            return subprocess.run(command, capture_output=True, check=False).returncode == 0
        except OSError:
            return False

    def unmount(self):
        """Drops the node's file system with its content."""
        if self.has_own_disk:
            subprocess.run(["umount", "-l", self.state], capture_output=True, check=False)
            self.has_own_disk = False

    def start(self):
        """Starts the node with a new clock offset. Does not wait."""
        self.begin_disturbance()
        # The node ends with this program, even if this program is killed.
        command = ["setpriv", "--pdeathsig", "KILL", "env"]
        command += [
            f"DAYBOOK_HTTP_LISTEN=127.0.0.1:{self.port}",
            f"DAYBOOK_COMMANDS_HASH_KEY_FILE={os.path.join(self.folder, '..', 'hash.key')}",
            f"DAYBOOK_COMMANDS_STATE_DIR={self.store}",
            "DAYBOOK_LOG_FORMAT=text",
        ]
        if self.faketime:
            self.set_clock()
            command += [
                f"LD_PRELOAD={self.faketime}",
                f"FAKETIME_TIMESTAMP_FILE={self.clock_path}",
                f"FAKETIME_CACHE_DURATION={CLOCK_DELAY_S}",
                "FAKETIME_DONT_FAKE_MONOTONIC=1",
            ]
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                [*command, self.binary, "commands"], cwd=self.folder, stdout=log, stderr=log
            )

    def set_clock(self):
        """Sets a new offset of the node's own clock, if it has one; returns the offset."""
        if not self.faketime:
            return None
        offset = self.rng.uniform(-CLOCK_OFFSET_S_MAX, CLOCK_OFFSET_S_MAX)
        # Replaced in one step, because the file may be read at any time.
        with open(self.clock_path + ".new", "w", encoding="ascii") as file:
            file.write(f"{offset:+.3f}\n")
        os.replace(self.clock_path + ".new", self.clock_path)
        return offset

    def begin_disturbance(self):
        """The node may fail to answer from now on."""
        if not self.disturbances or self.disturbances[-1][1] is not None:
            self.disturbances.append([now(), None])

    def end_disturbance(self):
        """The node must answer from now on."""
        if self.disturbances and self.disturbances[-1][1] is None:
            self.disturbances[-1][1] = now()

    def is_disturbed(self):
        """Whether the node may fail to answer."""
        return bool(self.disturbances) and self.disturbances[-1][1] is None

    def is_running(self):
        """Whether the node's process runs."""
        return self.process is not None and self.process.poll() is None

    def restart_if_ended(self):
        """If the node has ended by itself, records a failure and restarts it."""
        if self.process is not None and self.process.poll() is not None:
            self.failures.append(
                f"node {self.port} ended by itself with exit code {self.process.returncode}; see {self.log_path}"
            )
            self.forget()
            self.start()

    def forget(self):
        """Removes the files that libfaketime leaves behind when a process is killed."""
        for name in (f"faketime_shm_{self.process.pid}", f"sem.faketime_sem_{self.process.pid}"):
            if os.path.exists(f"/dev/shm/{name}"):
                os.remove(f"/dev/shm/{name}")
        self.process = None

    def kill(self):
        """Kills the node with SIGKILL."""
        self.restart_if_ended()
        self.begin_disturbance()
        self.process.kill()
        self.process.wait()
        self.forget()

    def stop(self):
        """Stops the node with SIGTERM. The node must end in time."""
        if self.process is None:
            return
        self.begin_disturbance()
        self.process.send_signal(signal.SIGCONT)
        self.process.terminate()
        try:
            self.unfinished_shutdowns += self.process.wait(STOP_TIMEOUT_S) != 0
        except subprocess.TimeoutExpired:
            self.failures.append(f"node {self.port} still runs {STOP_TIMEOUT_S} s after SIGTERM; see {self.log_path}")
            self.process.kill()
            self.process.wait()
        self.forget()

    def pause(self):
        """Suspends the node with SIGSTOP."""
        self.begin_disturbance()
        self.process.send_signal(signal.SIGSTOP)

    def resume(self):
        """Resumes the node with SIGCONT."""
        self.process.send_signal(signal.SIGCONT)

    def is_ready(self):
        """Whether the node is ready."""
        return self.is_healthy("ready")

    def is_live(self):
        """Whether the node is live."""
        return self.is_healthy("live")

    def is_healthy(self, probe):
        """Whether a health probe succeeds."""
        try:
            with urllib.request.urlopen(f"{self.url}/health/{probe}", timeout=2) as answer:
                return answer.status == 200
        except OSError:
            return False

    def await_ready(self):
        """Waits until the node is ready; returns false after a timeout."""
        deadline = now() + READY_TIMEOUT_S
        while not self.is_ready():
            self.restart_if_ended()
            if now() > deadline:
                self.failures.append(f"node {self.port} did not become ready within {READY_TIMEOUT_S} s; see {self.log_path}")
                return False
            time.sleep(0.1)
        self.end_disturbance()
        return True

    def end(self):
        """Kills the node and drops its file system, at the end of the run."""
        if self.is_running():
            self.process.kill()
            self.process.wait()
        if self.process is not None:
            self.forget()
        self.unmount()

    def error_lines(self):
        """Lines of the node's log that report a broken invariant."""
        with open(self.log_path, encoding="utf-8", errors="replace") as log:
            return [line.strip() for line in log if "panicked at" in line or "owner ends" in line]


class Broker:
    """Kafka, controlled by the script that started it."""

    def __init__(self, control):
        self.control = control
        self.starting = None

    def run(self, action):
        """Starts the script."""
        return subprocess.Popen(
            [self.control, action, "kafka"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def wait(self, script):
        """Waits until the script has succeeded."""
        output, _ = script.communicate()
        if script.returncode != 0:
            raise SystemExit(f"{' '.join(script.args)}: {output}")

    def kill(self):
        """Kills the broker with SIGKILL."""
        self.wait(self.run("kill"))

    def start(self):
        """Starts the broker. Returns at once, because a start takes several seconds."""
        self.starting = self.run("start")

    def is_starting(self):
        """Whether the broker was started and does not answer yet."""
        if self.starting is not None and self.starting.poll() is not None:
            self.await_start()
        return self.starting is not None

    def await_start(self):
        """Waits until the broker answers, if it was started."""
        if self.starting is not None:
            self.wait(self.starting)
            self.starting = None
