"""Tests the rule with the vectors for all readers of the log."""

import json
import pathlib
import unittest

from rule import Halt, Rule, Void

VECTORS = pathlib.Path(__file__).resolve().parents[3] / "schemas" / "golden" / "journal"


def octets(digits):
    """Decodes hexadecimal digits; None stays None."""
    return None if digits is None else bytes.fromhex(digits)


def digits(octets_or_none):
    """Encodes bytes as hexadecimal digits; None stays None."""
    return None if octets_or_none is None else octets_or_none.hex()


def verdict(rule, record):
    """The rule's verdict on a vector's record, and the reason."""
    try:
        rule.judge(record["offset"], octets(record["key"]), octets(record["value"]))
    except Void as void:
        return "void", str(void)
    except Halt as halt:
        return "halt", str(halt)
    return "valid", None


def checkpoint(rule):
    """The rule's state in the vectors' format."""
    return {
        "topic": rule.topic,
        "partition": rule.partition,
        "log_id": digits(rule.log_id),
        "next_offset": rule.next_offset,
        "epoch": rule.epoch,
        "term": digits(rule.term),
        "seq": rule.seq,
        "prev_hash": digits(rule.prev_hash),
        "hash": digits(rule.hash),
        "probe_offset": rule.probe_offset,
        "log_time": rule.log_time,
    }


class Vectors(unittest.TestCase):
    """Each file is one scenario."""

    def test_every_verdict_and_every_state(self):
        files = sorted(VECTORS.glob("*.json"))
        self.assertGreater(len(files), 50, VECTORS)
        for file in files:
            vector = json.loads(file.read_text(encoding="utf-8"))
            rule = Rule(vector["topic"], vector["partition"])
            with self.subTest(vector["name"]):
                for record in vector["records"]:
                    expected = record["expect"], record["reason"]
                    self.assertEqual(verdict(rule, record), expected, f"offset {record['offset']}")
                self.assertEqual(checkpoint(rule), vector["checkpoint"])


if __name__ == "__main__":
    unittest.main()
