"""What befalls the processes, one after the other, all from one seed."""

import os
import shutil
import time

# A zombie must sleep for longer than its successor needs to take over.
PAUSE_S = 20.0
DISK_FULL_S = 8.0
CALM_S = (0.5, 4.0)
FILLER = "filler"


class Faults:
    """Chooses and counts."""

    def __init__(self, nodes, broker, random, say, pause_s=PAUSE_S):
        self.nodes = nodes
        self.broker = broker
        self.random = random
        self.say = say
        self.pause_s = pause_s
        self.counts = {}
        self.kinds = {
            "kill": self.kill,
            "pause": self.pause,
            "terminate": self.terminate,
            "broker": self.kill_broker,
            "store deleted": self.delete_store,
            "disk full": self.fill_disk,
        }

    def run_until(self, deadline):
        """Faults until then; each kind comes once before any comes again."""
        order = []
        while time.monotonic() < deadline:
            if not order:
                order = list(self.kinds)
                self.random.shuffle(order)
            kind = order.pop()
            node = self.random.choice(self.nodes)
            if kind in ("pause", "disk full") and time.monotonic() + self.pause_s > deadline:
                continue
            self.say(f"{kind}: {node.port}")
            if self.kinds[kind](node) is not False:
                self.counts[kind] = self.counts.get(kind, 0) + 1
            time.sleep(self.random.uniform(*CALM_S))

    def kill(self, node):
        node.kill()
        time.sleep(self.random.uniform(0, 3))
        node.start()

    def pause(self, node):
        """A zombie: sleeps, is replaced, wakes up with all that it had in mind."""
        node.pause()
        time.sleep(self.pause_s)
        node.resume()

    def terminate(self, node):
        node.stop()
        node.start()

    def kill_broker(self, _):
        self.broker.kill()
        time.sleep(self.random.uniform(0, 3))
        self.broker.start()

    def delete_store(self, node):
        node.kill()
        shutil.rmtree(os.path.join(node.state, "store"), ignore_errors=True)
        node.start()

    def fill_disk(self, node):
        """The state store's own little disk, to the last byte."""
        if not node.is_small:
            return False
        filler = os.path.join(node.state, FILLER)
        with open(filler, "wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(1 << 20))
            except OSError:
                pass
        time.sleep(DISK_FULL_S)
        os.remove(filler)
        return None

    def mend(self):
        """Everything is well again."""
        self.broker.start()
        for node in self.nodes:
            node.resume()
            filler = os.path.join(node.state, FILLER)
            if os.path.exists(filler):
                os.remove(filler)
            if not node.is_running():
                node.start()
