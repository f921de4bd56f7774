"""The processes under attack: three `daybook commands`, and the broker."""

import ctypes
import os
import signal
import subprocess
import time
import urllib.request

STATE_MIB = 192
READY_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 20.0
# Where Debian's package puts the library that moves a process's clock.
FAKETIME = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1"


def with_parent():
    """In the child: dies with its parent, should that be killed."""
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)


class Node:
    """One `daybook commands`, with a state store on a small file system of its own where that may be mounted."""

    def __init__(self, binary, folder, port, random):
        self.binary = binary
        self.port = port
        self.random = random
        self.url = f"http://127.0.0.1:{port}"
        self.folder = os.path.join(folder, f"node-{port}")
        self.state = os.path.join(self.folder, "state")
        self.log_path = os.path.join(self.folder, "log")
        self.process = None
        self.paused = False
        os.makedirs(self.state, exist_ok=True)
        self.is_small = self.mount()

    def mount(self):
        """A disk that can be filled without harm. Needs root."""
        command = ["mount", "-t", "tmpfs", "-o", f"size={STATE_MIB}m", "tmpfs", self.state]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    def unmount(self):
        if self.is_small:
            subprocess.run(["umount", "-l", self.state], capture_output=True, check=False)

    def start(self):
        """Starts it, with a clock up to 1.5 s off in either direction. Does not wait."""
        environment = dict(os.environ)
        environment.update(
            DAYBOOK_HTTP_LISTEN=f"127.0.0.1:{self.port}",
            DAYBOOK_COMMANDS_HASH_KEY_FILE=os.path.join(self.folder, "..", "hash.key"),
            DAYBOOK_COMMANDS_STATE_DIR=os.path.join(self.state, "store"),
            DAYBOOK_LOG_FORMAT="text",
        )
        if os.path.exists(FAKETIME):
            offset = self.random.uniform(-1.5, 1.5)
            environment.update(LD_PRELOAD=FAKETIME, FAKETIME=f"{offset:+.3f}s", DONT_FAKE_MONOTONIC="1")
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                [self.binary, "commands"],
                env=environment,
                cwd=self.folder,
                stdout=log,
                stderr=log,
                preexec_fn=with_parent,
            )

    def is_running(self):
        return self.process is not None and self.process.poll() is None

    def signal(self, number):
        if self.is_running():
            self.process.send_signal(number)

    def kill(self):
        """SIGKILL."""
        self.signal(signal.SIGKILL)
        if self.process is not None:
            self.process.wait()
        self.paused = False

    def stop(self):
        """SIGTERM, and SIGKILL to one that does not end. Gives its exit code."""
        self.resume()
        self.signal(signal.SIGTERM)
        try:
            return self.process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.kill()
            return None

    def pause(self):
        self.signal(signal.SIGSTOP)
        self.paused = True

    def resume(self):
        self.signal(signal.SIGCONT)
        self.paused = False

    def is_ready(self):
        try:
            with urllib.request.urlopen(f"{self.url}/health/ready", timeout=2) as answer:
                return answer.status == 200
        except OSError:
            return False

    def await_ready(self):
        """Waits until it serves."""
        deadline = time.monotonic() + READY_TIMEOUT_S
        while not self.is_ready():
            if not self.is_running():
                raise SystemExit(f"the node on port {self.port} ended; its log is {self.log_path}")
            if time.monotonic() > deadline:
                raise SystemExit(f"the node on port {self.port} is not ready; its log is {self.log_path}")
            time.sleep(0.1)


class Broker:
    """Kafka, through the script that started it."""

    def __init__(self, control):
        self.control = control

    def run(self, action):
        command = [self.control, action, "kafka"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise SystemExit(f"{' '.join(command)}: {done.stdout}{done.stderr}")

    def kill(self):
        self.run("kill")

    def start(self):
        self.run("start")
