"""Tests of the verdict: faults of the restarted node and of the load itself are errors."""

import os
import pathlib
import signal
import stat
import tempfile
import threading
import unittest

import growth
import load
import node
from counts import REQUIRED, Counts

RESTART_INTERVAL_S = 0.01


class Faults(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.counts = Counts()
        self.replace(node, "STOP_TIMEOUT_S", 2.0)

    def replace(self, module, name, value):
        """Replaces a constant until the test ends."""
        self.addCleanup(setattr, module, name, getattr(module, name))
        setattr(module, name, value)

    def node(self, script):
        """A node whose program is a shell script."""
        program = self.folder / "program"
        program.write_text(f"#!/bin/sh\n{script}\n", encoding="ascii")
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        before = os.environ.get("DEV_DAYBOOK")
        os.environ["DEV_DAYBOOK"] = str(program)
        self.addCleanup(os.environ.pop if before is None else os.environ.__setitem__, "DEV_DAYBOOK", before)
        started = node.Node("commands", self.folder)
        started.start()
        self.addCleanup(started.process.kill)
        return started

    def wait_for(self, started, text):
        """Waits until the program has written a text."""
        for _ in range(1000):
            if text in (started.folder / "log").read_text(encoding="ascii"):
                return
            threading.Event().wait(0.01)
        self.fail(f"the program did not write {text}")

    def restart_once(self, started):
        """Restarts a node once, as the load does."""
        stop = threading.Event()
        started.await_ready = lambda: stop.set() or True
        load.run_job(self.counts, load.restart, started, RESTART_INTERVAL_S, self.counts, stop)
        started.process.kill()
        started.process.wait()

    def assert_error(self, text):
        """Asserts that there is one error, with this text, and that the verdict is a failure."""
        self.assertEqual(self.counts.errors, 1, self.counts.first_errors)
        self.assertIn(text, self.counts.first_errors[0])
        self.assertEqual(growth.exit_code([], self.counts), 1)

    def test_a_node_that_ends_with_exit_code_0_is_not_an_error(self):
        started = self.node("trap 'exit 0' TERM; echo runs; while :; do sleep 0.01; done")
        self.wait_for(started, "runs")
        self.restart_once(started)
        self.assertEqual((self.counts.errors, self.counts.done["restarts"]), (0, 1))
        self.assertEqual(growth.exit_code([], self.counts), 0)

    def test_a_node_that_does_not_end_is_an_error(self):
        started = self.node("trap '' TERM; echo runs; while :; do sleep 0.01; done")
        self.wait_for(started, "runs")
        self.assertIn("still runs 2 s after SIGTERM", started.stop())
        self.assertEqual(started.process.returncode, -signal.SIGKILL)

    def test_another_exit_code_is_an_error(self):
        started = self.node("trap 'exit 3' TERM; echo runs; while :; do sleep 0.01; done")
        self.wait_for(started, "runs")
        self.assertIn("ended with exit code 3 after SIGTERM", started.stop())

    def test_a_node_that_ended_by_itself_is_an_error(self):
        started = self.node("exit 101")
        started.process.wait()
        load_stop = threading.Event()
        started.start = load_stop.set
        load.run_job(self.counts, load.restart, started, RESTART_INTERVAL_S, self.counts, load_stop)
        self.assert_error("node commands ended by itself with exit code 101")

    def test_a_job_that_ends_with_an_exception_is_an_error(self):
        def fails():
            raise ValueError("no")

        load.run_job(self.counts, fails)
        self.assert_error("fails ended: ValueError: no")

    def test_a_part_of_the_load_that_never_ran_is_an_error(self):
        for kind in REQUIRED[1:]:
            self.counts.add(kind)
        self.counts.check_all_done()
        self.assert_error(f"the load had no {REQUIRED[0]}")

    def test_growth_is_a_failure(self):
        self.assertEqual(growth.exit_code(["memory"], self.counts), 1)


if __name__ == "__main__":
    unittest.main()
