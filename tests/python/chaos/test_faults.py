"""The kinds of faults depend on the machine."""

import random
import types
import unittest

from faults import Faults


def kinds(faketime, has_own_disk):
    """The kinds of faults of a run, and the omitted ones."""
    node = types.SimpleNamespace(faketime=faketime, has_own_disk=has_own_disk)
    faults = Faults([node], broker=None, rng=random.Random(1), say=print)
    return set(faults.counts), set(faults.omitted)


class Kinds(unittest.TestCase):
    """Kinds that a machine does not allow are omitted by name."""

    def test_a_machine_that_allows_every_kind(self):
        all_kinds, omitted = kinds("libfaketime", True)
        self.assertEqual(len(all_kinds), 7)
        self.assertEqual(omitted, set())

    def test_kinds_that_a_machine_does_not_allow_are_omitted(self):
        all_kinds, _ = kinds("libfaketime", True)
        for faketime, has_own_disk, lacking in ((None, True, {"clock set"}), ("libfaketime", False, {"disk full"})):
            found, omitted = kinds(faketime, has_own_disk)
            self.assertEqual(omitted, lacking)
            self.assertEqual(found, all_kinds - lacking)


if __name__ == "__main__":
    unittest.main()
