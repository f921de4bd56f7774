"""Which faults there are on which machine."""

import random
import types
import unittest

from faults import Faults


def kinds(faketime, is_small):
    """Kinds that a run would have, and those that it would leave out."""
    node = types.SimpleNamespace(faketime=faketime, is_small=is_small)
    faults = Faults([node], broker=None, random=random.Random(1), say=print)
    return set(faults.counts), set(faults.left_out)


class Kinds(unittest.TestCase):
    """What a machine does not allow is left out by name."""

    def test_a_machine_that_allows_everything(self):
        all_kinds, left_out = kinds("libfaketime", True)
        self.assertEqual(len(all_kinds), 7)
        self.assertEqual(left_out, set())

    def test_what_a_machine_may_lack(self):
        all_kinds, _ = kinds("libfaketime", True)
        for faketime, is_small, lacking in ((None, True, {"clock set"}), ("libfaketime", False, {"disk full"})):
            found, left_out = kinds(faketime, is_small)
            self.assertEqual(left_out, lacking)
            self.assertEqual(found, all_kinds - lacking)


if __name__ == "__main__":
    unittest.main()
