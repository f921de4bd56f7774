"""What befalls the processes, all from one seed. While a node sleeps or has no disk space left, and while the broker is
away, other things go on befalling the others."""

import os
import shutil
import time

from clients import now

# A zombie must sleep for longer than its successor needs to take over.
PAUSE_S_MAX = 20.0
# Some naps are so short that nobody takes over.
NAP_SHARE = 0.3
DISK_FULL_S = 8.0
DOWN_S_MAX = 3.0
CALM_S = (0.5, 4.0)
# Without it nothing happens, so it must be there for some of the time.
BROKER_CALM_S = 12.0
BROKER = "broker kill -9"
FILLER = "filler"
FILLER_BLOCK_BYTES = 1 << 20
STEP_S = 0.1


class Faults:
    """Chooses, ends and counts them."""

    def __init__(self, nodes, broker, random, say, pause_s_max=PAUSE_S_MAX):
        self.nodes = nodes
        self.broker = broker
        self.random = random
        self.say = say
        self.pause_s_max = pause_s_max
        self.broker_calm_at = 0.0
        # What will end a fault that lasts: (when, whose, what).
        self.ends = []
        self.kinds = {
            "kill -9": self.kill,
            "pause": self.pause,
            "terminate": self.terminate,
            BROKER: self.kill_broker,
            "store deleted": self.delete_store,
        }
        # What can't be done here, and why.
        self.left_out = {}
        if all(node.faketime for node in nodes):
            self.kinds["clock set"] = self.set_clock
        else:
            self.left_out["clock set"] = "libfaketime is not installed"
        if all(node.is_small for node in nodes):
            self.kinds["disk full"] = self.fill_disk
        else:
            self.left_out["disk full"] = "no file system may be mounted here, which needs root"
        self.counts = dict.fromkeys(self.kinds, 0)

    def run_until(self, deadline):
        """Faults until then; each kind comes once before any comes again."""
        order, next_at = [], now()
        while now() < deadline:
            self.look_after()
            if not order:
                order = list(self.kinds)
                self.random.shuffle(order)
            kind = next((kind for kind in order if kind != BROKER or not self.is_broker_away()), None)
            free = self.free_nodes()
            if now() < next_at or kind is None or not free:
                time.sleep(STEP_S)
                continue
            order.remove(kind)
            words = self.kinds[kind](self.random.choice(free))
            self.counts[kind] += 1
            self.say(f"{kind}: {words}")
            next_at = now() + self.random.uniform(*CALM_S)

    def free_nodes(self):
        """Those on which nothing lasts."""
        busy = [whose for _, whose, _ in self.ends]
        return [node for node in self.nodes if node not in busy]

    def is_broker_away(self):
        """Whether it was killed, and has not answered again for a while."""
        if self.broker.is_starting() or any(whose is self.broker for _, whose, _ in self.ends):
            self.broker_calm_at = now() + BROKER_CALM_S
        return now() < self.broker_calm_at

    def look_after(self):
        """Ends what is over, and notes which nodes are themselves again."""
        for end in [end for end in self.ends if end[0] <= now()]:
            self.ends.remove(end)
            end[2]()
        for node in self.free_nodes():
            node.check_running()
            if node.is_disturbed() and node.is_live():
                node.calm()

    def later(self, seconds, whose, what):
        """Does it then; until then nothing else befalls that node, or the broker."""
        self.ends.append((now() + seconds, whose, what))

    def kill(self, node):
        """As a power cut would."""
        node.kill()
        down = self.random.uniform(0, DOWN_S_MAX)
        self.later(down, node, node.start)
        return f"{node.port}, for {down:.1f} s"

    def pause(self, node):
        """A zombie: sleeps, is replaced, wakes up with all that it had in mind."""
        is_nap = self.counts["pause"] > 0 and self.random.random() < 0.5
        asleep = self.pause_s_max * (NAP_SHARE if is_nap else 1.0)
        node.pause()
        self.later(asleep, node, node.resume)
        return f"{node.port}, for {asleep:.1f} s"

    def terminate(self, node):
        """As an operator does."""
        node.stop()
        node.start()
        return f"{node.port}"

    def kill_broker(self, _):
        """The log's only keeper."""
        self.broker.kill()
        down = self.random.uniform(0, DOWN_S_MAX)
        self.later(down, self.broker, self.broker.start)
        return f"for {down:.1f} s and its start"

    def delete_store(self, node):
        """What an owner has folded is lost; the log has it all."""
        node.kill()
        shutil.rmtree(node.store)
        node.start()
        return f"{node.port}"

    def set_clock(self, node):
        """A jump of a running process's clock."""
        return f"{node.port}, {node.set_clock():+.3f} s off"

    def fill_disk(self, node):
        """The state store's own little disk, to the last byte."""
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
        self.later(DISK_FULL_S, node, lambda: os.remove(filler))
        return f"{node.port}, for {DISK_FULL_S} s"

    def mend(self):
        """Everything is well again; false if some node does not become so."""
        for end in self.ends:
            end[2]()
        self.ends.clear()
        self.broker.await_start()
        return all([node.await_ready() for node in self.nodes])
