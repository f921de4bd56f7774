"""How long clients waited, told from their stories."""

import unittest

from waiting import longest_silence, longest_wait


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


if __name__ == "__main__":
    unittest.main()
