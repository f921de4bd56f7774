"""How long clients waited, told from their stories."""

import os
import tempfile
import threading
import unittest

from clients import Command, History, now
from waiting import await_answers, longest_silence, longest_wait


def story(number, sku, *attempts):
    """A command and its attempts: (begin, end, what was heard)."""
    return {
        "number": number,
        "sku": sku,
        "began": attempts[0][0],
        "ended": attempts[-1][1],
        "attempts": [{"at": begin, "took": end - begin, "heard": heard} for begin, end, heard in attempts],
    }


class Test(unittest.TestCase):
    def setUp(self):
        self.stories = [
            story(1, "A", (1.0, 2.0, 201)),
            story(2, "A", (3.0, 4.0, 503), (5.0, 30.0, "TimeoutError"), (31.0, 33.0, 503), (41.0, 42.0, 412)),
            story(3, "B", (3.0, 4.0, 201)),
            story(4, "A", (20.0, 21.0, 201)),
            story(5, "B", (50.0, 52.0, 503)),
        ]

    def test_the_command_that_waited_longest(self):
        self.assertEqual(
            longest_wait(self.stories),
            "39.0 s, command 2 about A from 00:00:03: 2 x 503 (3.0 s), 1 x TimeoutError (25.0 s), 1 x 412 (1.0 s)",
        )

    def test_the_product_about_which_nobody_heard_for_longest(self):
        self.assertEqual(longest_silence(self.stories), "18.0 s, A from 00:00:03")

    def test_that_nobody_asks_is_no_silence(self):
        quiet = [self.stories[0], story(2, "A", (100.0, 100.5, 201))]
        self.assertEqual(longest_silence(quiet), "1.0 s, A from 00:00:01")

    def test_no_commands(self):
        self.assertEqual((longest_wait([]), longest_silence([])), ("nobody asked", "nobody asked"))

    def history(self):
        """One that has two commands under way, sent a minute apart."""
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        history = History(os.path.join(folder.name, "history"))
        self.addCleanup(history.close)
        for number, began in ((1, now() - 60.0), (2, now())):
            command = Command(number, 0, "A", number, None, "key")
            command.began = began
            command.attempts.append({"heard": 503})
            history.open(command)
        return history

    def test_who_still_waits_though_all_is_well(self):
        history = self.history()
        self.assertEqual(
            await_answers(history, now() - 30.0, patience_s=0.2),
            ["command 1 about A is without an answer 0.2 s after all was well; last heard: [503]"],
        )

    def test_that_everybody_has_an_answer(self):
        history = self.history()
        threading.Timer(0.3, history.add, [history.waiting[1]]).start()
        self.assertEqual(await_answers(history, now() - 30.0), [])
        self.assertEqual(list(history.waiting), [2])


if __name__ == "__main__":
    unittest.main()
