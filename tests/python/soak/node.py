"""The nodes that the load is sent to."""

import json
import os
import socket
import subprocess
import time
import urllib.request

READY_TIMEOUT_S = 90.0
STOP_TIMEOUT_S = 30.0


class Node:
    """A process of the service."""

    def __init__(self, role, folder):
        self.role = role
        self.folder = folder / role
        self.folder.mkdir(parents=True)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.state = self.folder / "state"
        self.process = None

    def start(self):
        """Starts the node, without waiting until it is ready."""
        environment = dict(
            os.environ,
            DAYBOOK_HTTP_LISTEN=f"127.0.0.1:{self.port}",
            DAYBOOK_COMMANDS_STATE_DIR=str(self.state),
        )
        # setpriv lets the node end with this program, even if this program is killed.
        command = ["setpriv", "--pdeathsig", "KILL", os.environ["DEV_DAYBOOK"], self.role]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=self.folder)

    def ended_by_itself(self):
        """The fault of a node that ended without being stopped; None while it runs."""
        code = self.process.poll()
        return None if code is None else f"node {self.role} ended by itself with exit code {code}; see {self.folder}/log"

    def stop(self):
        """Ends the node with SIGTERM; returns its fault, or None."""
        fault = self.ended_by_itself()
        if fault is not None:
            return fault
        self.process.terminate()
        try:
            code = self.process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return f"node {self.role} still runs {STOP_TIMEOUT_S:.0f} s after SIGTERM; see {self.folder}/log"
        return None if code == 0 else f"node {self.role} ended with exit code {code} after SIGTERM; see {self.folder}/log"

    def await_ready(self):
        """Waits until the node is ready; returns false if it ends or does not become ready in time."""
        deadline = time.monotonic() + READY_TIMEOUT_S
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health/ready", timeout=5) as answer:
                    # A note names a view that answers no queries yet.
                    if not json.load(answer)["notes"]:
                        return True
            except OSError:
                pass
            time.sleep(0.1)
        return False
