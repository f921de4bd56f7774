"""Tests of the waits for answers that are computed from operations."""

import os
import tempfile
import threading
import unittest

from clients import Command, History, now
from waiting import await_answers, longest_unavailability, longest_wait


def operation(number, sku, *attempts):
    """A command with its attempts: (begin, end, outcome)."""
    return {
        "number": number,
        "sku": sku,
        "began": attempts[0][0],
        "ended": attempts[-1][1],
        "attempts": [{"at": begin, "took": end - begin, "outcome": outcome} for begin, end, outcome in attempts],
    }


class Test(unittest.TestCase):
    def setUp(self):
        self.operations = [
            operation(1, "A", (1.0, 2.0, 201)),
            operation(2, "A", (3.0, 4.0, 503), (5.0, 30.0, "TimeoutError"), (31.0, 33.0, 503), (41.0, 42.0, 412)),
            operation(3, "B", (3.0, 4.0, 201)),
            operation(4, "A", (20.0, 21.0, 201)),
            operation(5, "B", (50.0, 52.0, 503)),
        ]

    def test_the_command_with_the_longest_wait(self):
        self.assertEqual(
            longest_wait(self.operations),
            "39.0 s, command 2 about A from 00:00:03: 2 x 503 (3.0 s), 1 x TimeoutError (25.0 s), 1 x 412 (1.0 s)",
        )

    def test_the_product_without_an_answer_for_longest(self):
        self.assertEqual(longest_unavailability(self.operations), "18.0 s, A from 00:00:03")

    def test_a_time_without_commands_does_not_count(self):
        quiet = [self.operations[0], operation(2, "A", (100.0, 100.5, 201))]
        self.assertEqual(longest_unavailability(quiet), "1.0 s, A from 00:00:01")

    def test_no_commands(self):
        self.assertEqual((longest_wait([]), longest_unavailability([])), ("no commands", "no commands"))

    def history(self):
        """A history with two commands in flight, sent a minute apart."""
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        history = History(os.path.join(folder.name, "history"))
        self.addCleanup(history.close)
        for number, began in ((1, now() - 60.0), (2, now())):
            command = Command(number, 0, "A", number, None, "key")
            command.began = began
            command.attempts.append({"outcome": 503})
            history.open(command)
        return history

    def test_commands_without_an_answer_after_the_faults_are_reported(self):
        history = self.history()
        self.assertEqual(
            await_answers(history, now() - 30.0, timeout_s=0.2),
            ["command 1 about A has no answer 0.2 s after all faults ended; last: [503]"],
        )

    def test_returns_when_all_commands_are_answered(self):
        history = self.history()
        threading.Timer(0.3, history.add, [history.in_flight[1]]).start()
        self.assertEqual(await_answers(history, now() - 30.0), [])
        self.assertEqual(list(history.in_flight), [2])


if __name__ == "__main__":
    unittest.main()
