"""The processes under attack: `daybook commands`, several times, and the broker."""

import os
import signal
import subprocess
import time
import urllib.request

from clients import now

STATE_MIB = 192
READY_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 20.0
# Two clocks are twice that apart at most.
CLOCK_OFFSET_S_MAX = 1.5
# How soon a process sees that its clock was set.
CLOCK_DELAY_S = 1


class Node:
    """One `daybook commands`, with a state store on a small file system of its own where one may be mounted, and a clock
    of its own where libfaketime is installed."""

    def __init__(self, binary, folder, port, random, faketime):
        self.binary = binary
        self.port = port
        self.random = random
        self.faketime = faketime
        self.url = f"http://127.0.0.1:{port}"
        self.folder = os.path.join(folder, f"node-{port}")
        self.state = os.path.join(self.folder, "state")
        self.store = os.path.join(self.state, "store")
        self.log_path = os.path.join(self.folder, "log")
        self.clock_path = os.path.join(self.folder, "clock")
        self.process = None
        # When it was not itself: [from, to], `to` is None while it lasts.
        self.disturbances = []
        # What it should not have done.
        self.failures = []
        # How often it was told to end and left something undone, which costs nobody anything but time.
        self.untidy_ends = 0
        os.makedirs(self.state, exist_ok=True)
        self.is_small = self.mount()

    def mount(self):
        """A disk that can be filled without harm. Needs root."""
        command = ["mount", "-t", "tmpfs", "-o", f"size={STATE_MIB}m", "daybook-chaos", self.state]
        try:
            return subprocess.run(command, capture_output=True, check=False).returncode == 0
        except OSError:
            return False

    def unmount(self):
        """Its disk is gone, with all that was on it."""
        if self.is_small:
            subprocess.run(["umount", "-l", self.state], capture_output=True, check=False)
            self.is_small = False

    def start(self):
        """Starts it, with its clock set anew. Does not wait."""
        self.disturb()
        # Whatever happens to us, it does not outlive us.
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
            self.process = subprocess.Popen([*command, self.binary, "commands"], cwd=self.folder, stdout=log, stderr=log)

    def set_clock(self):
        """Moves its clock, if it has one of its own; gives how far."""
        if not self.faketime:
            return None
        offset = self.random.uniform(-CLOCK_OFFSET_S_MAX, CLOCK_OFFSET_S_MAX)
        # In one step, for it may be read at any time.
        with open(self.clock_path + ".new", "w", encoding="ascii") as file:
            file.write(f"{offset:+.3f}\n")
        os.replace(self.clock_path + ".new", self.clock_path)
        return offset

    def disturb(self):
        """From now on it may fail to answer."""
        if not self.disturbances or self.disturbances[-1][1] is not None:
            self.disturbances.append([now(), None])

    def calm(self):
        """From now on it may not."""
        if self.disturbances and self.disturbances[-1][1] is None:
            self.disturbances[-1][1] = now()

    def is_disturbed(self):
        """Whether it may fail to answer."""
        return bool(self.disturbances) and self.disturbances[-1][1] is None

    def is_running(self):
        """Whether there is a process."""
        return self.process is not None and self.process.poll() is None

    def check_running(self):
        """Notes an end that nobody caused, and starts it again."""
        if self.process is not None and self.process.poll() is not None:
            self.failures.append(f"node {self.port} ended by itself with {self.process.returncode}; see {self.log_path}")
            self.forget()
            self.start()

    def forget(self):
        """After its end: what libfaketime leaves of a process that was killed."""
        for name in (f"faketime_shm_{self.process.pid}", f"sem.faketime_sem_{self.process.pid}"):
            if os.path.exists(f"/dev/shm/{name}"):
                os.remove(f"/dev/shm/{name}")
        self.process = None

    def kill(self):
        """SIGKILL."""
        self.check_running()
        self.disturb()
        self.process.kill()
        self.process.wait()
        self.forget()

    def stop(self):
        """SIGTERM, which it must heed in time."""
        if self.process is None:
            return
        self.disturb()
        self.process.send_signal(signal.SIGCONT)
        self.process.terminate()
        try:
            self.untidy_ends += self.process.wait(STOP_TIMEOUT_S) != 0
        except subprocess.TimeoutExpired:
            self.failures.append(f"node {self.port} runs {STOP_TIMEOUT_S} s after SIGTERM; see {self.log_path}")
            self.process.kill()
            self.process.wait()
        self.forget()

    def pause(self):
        """SIGSTOP."""
        self.disturb()
        self.process.send_signal(signal.SIGSTOP)

    def resume(self):
        """SIGCONT."""
        self.process.send_signal(signal.SIGCONT)

    def is_ready(self):
        """Whether it says that it can do its work."""
        return self.is_well("ready")

    def is_live(self):
        """Whether it answers."""
        return self.is_well("live")

    def is_well(self, question):
        """Whether it answers yes."""
        try:
            with urllib.request.urlopen(f"{self.url}/health/{question}", timeout=2) as answer:
                return answer.status == 200
        except OSError:
            return False

    def await_ready(self):
        """Waits until it can do its work; false if that takes too long."""
        deadline = now() + READY_TIMEOUT_S
        while not self.is_ready():
            self.check_running()
            if now() > deadline:
                self.failures.append(f"node {self.port} is not ready within {READY_TIMEOUT_S} s; see {self.log_path}")
                return False
            time.sleep(0.1)
        self.calm()
        return True

    def end(self):
        """As fast as possible, at the end of all."""
        if self.is_running():
            self.process.kill()
            self.process.wait()
        if self.process is not None:
            self.forget()
        self.unmount()

    def words(self):
        """Lines of its log that say that something can't be."""
        with open(self.log_path, encoding="utf-8", errors="replace") as log:
            return [line.strip() for line in log if "panicked at" in line or "owner ends" in line]


class Broker:
    """Kafka, through the script that started it."""

    def __init__(self, control):
        self.control = control
        self.starting = None

    def begin(self, action):
        """The script at work."""
        return subprocess.Popen(
            [self.control, action, "kafka"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def end(self, script):
        """Waits for it."""
        said, _ = script.communicate()
        if script.returncode != 0:
            raise SystemExit(f"{' '.join(script.args)}: {said}")

    def kill(self):
        """SIGKILL."""
        self.end(self.begin("kill"))

    def start(self):
        """Returns at once; a broker takes its time."""
        self.starting = self.begin("start")

    def is_starting(self):
        """Whether it does not answer yet after a start."""
        if self.starting is not None and self.starting.poll() is not None:
            self.await_start()
        return self.starting is not None

    def await_start(self):
        """Returns once it answers."""
        if self.starting is not None:
            self.end(self.starting)
            self.starting = None
