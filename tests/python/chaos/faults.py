"""Fault injection, drawn from one seed. While a node is suspended or has a full disk, and while the broker is down, faults
of the other nodes continue."""

import os
import shutil
import time

from clients import now

# A zombie must be suspended for longer than its successor needs to take over.
PAUSE_S_MAX = 20.0
# Share of the longest suspension that is too short for a take-over.
SHORT_PAUSE_SHARE = 0.3
DISK_FULL_S = 8.0
DOWN_S_MAX = 3.0
FAULT_INTERVAL_S = (0.5, 4.0)
# Minimum time between two faults of the broker. No command is decided without the broker.
BROKER_INTERVAL_S = 12.0
BROKER = "broker kill -9"
FILLER = "filler"
FILLER_BLOCK_BYTES = 1 << 20
STEP_S = 0.1


class Faults:
    """Chooses, ends and counts faults."""

    def __init__(self, nodes, broker, rng, say, pause_s_max=PAUSE_S_MAX):
        self.nodes = nodes
        self.broker = broker
        self.rng = rng
        self.say = say
        self.pause_s_max = pause_s_max
        self.broker_due_at = 0.0
        # Ends of faults in progress: (time, target, action).
        self.ends = []
        self.kinds = {
            "kill -9": self.kill,
            "pause": self.pause,
            "terminate": self.terminate,
            BROKER: self.kill_broker,
            "store deleted": self.delete_store,
        }
        # Kinds that this machine does not allow, with the reason.
        self.omitted = {}
        if all(node.faketime for node in nodes):
            self.kinds["clock set"] = self.set_clock
        else:
            self.omitted["clock set"] = "libfaketime is not installed"
        if all(node.has_own_disk for node in nodes):
            self.kinds["disk full"] = self.fill_disk
        else:
            self.omitted["disk full"] = "mounting a file system needs root"
        self.counts = dict.fromkeys(self.kinds, 0)

    def run_until(self, deadline):
        """Injects faults until the deadline; each kind happens once before any is repeated."""
        order, next_at = [], now()
        while now() < deadline:
            self.end_due_faults()
            if not order:
                order = list(self.kinds)
                self.rng.shuffle(order)
            kind = next((kind for kind in order if kind != BROKER or not self.is_broker_recovering()), None)
            free = self.free_nodes()
            if now() < next_at or kind is None or not free:
                time.sleep(STEP_S)
                continue
            order.remove(kind)
            detail = self.kinds[kind](self.rng.choice(free))
            self.counts[kind] += 1
            self.say(f"{kind}: {detail}")
            next_at = now() + self.rng.uniform(*FAULT_INTERVAL_S)

    def free_nodes(self):
        """Nodes without a fault in progress."""
        busy = [target for _, target, _ in self.ends]
        return [node for node in self.nodes if node not in busy]

    def is_broker_recovering(self):
        """Whether the broker was killed, and has not been back for long enough."""
        if self.broker.is_starting() or any(target is self.broker for _, target, _ in self.ends):
            self.broker_due_at = now() + BROKER_INTERVAL_S
        return now() < self.broker_due_at

    def end_due_faults(self):
        """Ends faults that are due, and records which nodes have recovered."""
        for end in [end for end in self.ends if end[0] <= now()]:
            self.ends.remove(end)
            end[2]()
        for node in self.free_nodes():
            node.restart_if_ended()
            if node.is_disturbed() and node.is_live():
                node.end_disturbance()

    def end_later(self, seconds, target, action):
        """Ends a fault by an action after a delay; until then the target gets no other fault."""
        self.ends.append((now() + seconds, target, action))

    def kill(self, node):
        """Kills a node, as a power failure would."""
        node.kill()
        down = self.rng.uniform(0, DOWN_S_MAX)
        self.end_later(down, node, node.start)
        return f"{node.port}, for {down:.1f} s"

    def pause(self, node):
        """Suspends a node. Other nodes replace it, and it resumes as a zombie with its old state."""
        is_short = self.counts["pause"] > 0 and self.rng.random() < 0.5
        seconds = self.pause_s_max * (SHORT_PAUSE_SHARE if is_short else 1.0)
        node.pause()
        self.end_later(seconds, node, node.resume)
        return f"{node.port}, for {seconds:.1f} s"

    def terminate(self, node):
        """Terminates and restarts a node, as an operator would."""
        node.stop()
        node.start()
        return f"{node.port}"

    def kill_broker(self, _):
        """Kills the only broker."""
        self.broker.kill()
        down = self.rng.uniform(0, DOWN_S_MAX)
        self.end_later(down, self.broker, self.broker.start)
        return f"for {down:.1f} s and its start"

    def delete_store(self, node):
        """Deletes a node's state store, which can be rebuilt from the log."""
        node.kill()
        shutil.rmtree(node.store)
        node.start()
        return f"{node.port}"

    def set_clock(self, node):
        """Changes the clock of a running node."""
        return f"{node.port}, {node.set_clock():+.3f} s offset"

    def fill_disk(self, node):
        """Fills the file system of a node's state store to the last byte."""
        filler = os.path.join(node.state, FILLER)
        with open(filler, "wb", buffering=0) as file:
            block = bytes(FILLER_BLOCK_BYTES)
            try:
                while file.write(block) == len(block):
                    pass
                while file.write(bytes(1)):
                    pass
            except OSError:
                pass
        self.end_later(DISK_FULL_S, node, lambda: os.remove(filler))
        return f"{node.port}, for {DISK_FULL_S} s"

    def end_all(self):
        """Ends all faults; returns false if a node does not become ready."""
        for end in self.ends:
            end[2]()
        self.ends.clear()
        self.broker.await_start()
        return all([node.await_ready() for node in self.nodes])
