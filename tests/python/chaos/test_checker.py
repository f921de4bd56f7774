"""The checker finds violations in falsified logs and operations."""

import contextlib
import copy
import io
import unittest

from checker import CREATED, PRICE_CHANGED, Checker, command_id
from clients import CURRENCY
from journal import Decision, LogError

TOPIC = "journal.catalog"
NODE = 1


def price(amount):
    """A price in the log's form."""
    return {"amount": amount, "currency": CURRENCY}


def decision(offset, version, identity, events, outcome=None):
    """A decision about product A, appended at `offset` seconds."""
    body = {
        "aggregate_type": "product",
        "version": version,
        "command_id": identity,
        "origin": "KEYED",
        "outcome": outcome,
        "events": events,
    }
    return Decision(f"{TOPIC}/0@{offset}", float(offset), offset * 1_000_000, "product_A", body)


def change(offset, version, key, old, new):
    """A decision that changes the price."""
    event = {"old": old and price(old), "new": price(new)}
    return decision(offset, version, command_id("A", key), [(PRICE_CHANGED, event)])


def operation(number, seconds, amount, key=None, expected=None, repeats=None, answer=None):
    """A client's command, answered at the first attempt."""
    began, ended = seconds
    attempt = {
        "node": NODE,
        "connected": began,
        "at": began,
        "took": ended - began,
        "outcome": answer and answer["status"],
    }
    return {
        "number": number,
        "client": 0,
        "sku": "A",
        "amount": amount,
        "expected": expected,
        "key": key,
        "repeats": repeats,
        "is_other": False,
        "began": began,
        "ended": ended,
        "attempts": [attempt],
        "answer": answer,
    }


def answer(status, version, code=None, position=None):
    """An answer in the form that clients record."""
    return {"status": status, "version": version, "code": code, "position": position}


class Run:
    """The log and the operations of a correct run, for a test to falsify."""

    def __init__(self):
        rejection = {"kind": "INVALID", "code": "PRICE_NOT_POSITIVE", "detail": b"{}"}
        self.log = [
            decision(1, 0, bytes(16), [(CREATED, {"sku": "A", "description": ""})]),
            change(10, 1, "k1", None, 101),
            change(20, 2, "k2", 101, 102),
            decision(30, 3, command_id("A", "k3"), [], rejection),
            change(40, 3, "k4", 102, 104),
        ]
        first = answer(201, 2, position=f"{TOPIC}/0@10")
        rejected = answer(422, 3, "PRICE_NOT_POSITIVE")
        self.operations = [
            operation(1, (9, 11), 101, "k1", 1, answer=first),
            operation(2, (19, 21), 102, "k2", 2, answer=answer(201, 3, position=f"{TOPIC}/0@20")),
            operation(3, (29, 31), 0, "k3", answer=rejected),
            operation(4, (39, 41), 104, "k4", answer=answer(201, 4, position=f"{TOPIC}/0@40")),
            # Rejected by the version at that time.
            operation(5, (24, 26), 105, "k5", 2, answer=answer(412, 3, "VERSION_MISMATCH")),
            # Repeated, and another command with the same key.
            operation(6, (50, 51), 101, "k1", 1, repeats=1, answer=first),
            operation(7, (50, 51), 0, "k3", repeats=3, answer=rejected),
            operation(8, (50, 51), 108, "k1", 1, repeats=1, answer=answer(422, None, "IDEMPOTENCY_KEY_REUSED")),
            # Without a key and without an answer.
            operation(9, (50, 51), 109),
        ]
        self.operations[7]["is_other"] = True
        self.operations[8]["attempts"][0]["outcome"] = 503
        self.disturbances = {}

    def violations(self):
        """The violations that the checker finds."""
        checker = Checker(self.operations, self.disturbances)
        with contextlib.redirect_stdout(io.StringIO()):
            checker.run(iter(self.log))
        return checker.violations


class CheckerTest(unittest.TestCase):
    """Each test falsifies one part of a run."""

    def setUp(self):
        self.observed = Run()

    def assert_found(self, text):
        """A violation contains the text."""
        violations = self.observed.violations()
        self.assertTrue(any(text in violation for violation in violations), violations)

    def test_an_honest_run_has_no_violations(self):
        self.assertEqual(self.observed.violations(), [])

    def test_the_last_acknowledged_commit_is_missing(self):
        del self.observed.log[4]
        self.assert_found("command 4 was acknowledged at journal.catalog/0@40, but is in the log 0 times")

    def test_an_acknowledged_commit_in_the_middle_is_missing(self):
        del self.observed.log[2]
        self.assert_found("command 2 was acknowledged at journal.catalog/0@20, but is in the log 0 times")
        self.assert_found("says that product_A had version 3, but it had 2")

    def test_a_command_is_decided_twice(self):
        self.observed.log.append(change(60, 4, "k4", 104, 104))
        self.assert_found("its command was decided before, at journal.catalog/0@40")
        self.assert_found("command 4 was acknowledged at journal.catalog/0@40, but is in the log 2 times")

    def test_a_command_without_an_answer_is_decided_twice(self):
        self.observed.log += [change(60, 4, "a", 104, 109), change(61, 5, "b", 109, 109)]
        self.assert_found("the price 109 is set at ['journal.catalog/0@60', 'journal.catalog/0@61']")

    def test_a_command_without_an_answer_may_be_decided_once(self):
        self.observed.log.append(change(60, 4, "a", 104, 109))
        self.assertEqual(self.observed.violations(), [])

    def test_a_gap_in_versions(self):
        self.observed.log[4].version = 4
        self.observed.operations[3]["answer"]["version"] = 5
        self.assert_found("says that product_A had version 4, but it had 3")

    def test_two_commits_are_based_on_one_version(self):
        self.observed.log[2].version = 1
        self.assert_found("says that product_A had version 1, but it had 2")

    def test_the_old_price_of_an_event_is_wrong(self):
        self.observed.log[4].events[0][1]["old"] = price(101)
        self.assert_found("the price of product_A was {'amount': 102, 'currency': 'GBP'}, not")

    def test_log_time_decreases(self):
        self.observed.log[3].recorded_at = 1
        self.assert_found("journal.catalog/0@30: log time decreased")

    def test_the_rule_halts(self):
        first = self.observed.log[0]

        def broken():
            yield first
            raise LogError("journal.catalog/0@10: alarm: chain_broken")

        self.observed.log = broken()
        self.assert_found("alarm: chain_broken")

    def test_an_event_without_a_command(self):
        self.observed.log.append(change(60, 4, "x", 104, 777))
        self.assert_found("no client asked for the price 777")

    def test_an_event_of_another_product_than_the_command(self):
        self.observed.operations[3]["sku"] = "B"
        self.assert_found("journal.catalog/0@40: no client asked for the price 104 of product_A")

    def test_the_answer_has_another_version_than_the_log(self):
        self.observed.operations[1]["answer"]["version"] = 4
        self.assert_found("command 2 got version 4, but the log has 2 + 1")

    def test_the_answer_has_another_position_than_the_log(self):
        self.observed.operations[1]["answer"]["position"] = f"{TOPIC}/0@19"
        self.assert_found("command 2 was acknowledged at journal.catalog/0@19, but is at journal.catalog/0@20")

    def test_the_expected_version_was_not_current(self):
        self.observed.operations[1]["expected"] = 1
        self.assert_found("command 2 expected version 1, but was decided on 2")
        self.assert_found("commands 1 and 2 were both acknowledged based on version 1 of A")

    def test_two_commands_get_the_same_version(self):
        self.observed.operations[3]["answer"]["version"] = 3
        self.assert_found("commands 2 and 4 were both acknowledged with version 3 of A")

    def test_the_command_id_does_not_belong_to_the_key(self):
        self.observed.log[4].id = command_id("A", "k9")
        self.assert_found("the decision of command 4 at journal.catalog/0@40 does not have the id of its key")

    def test_a_commit_is_appended_after_its_acknowledgement(self):
        self.observed.log[4].appended_at = 45.0
        self.assert_found("command 4 was sent from 39.000 to 41.000, but appended at 45.000")

    def test_a_rejected_command_is_in_the_log(self):
        self.observed.log.append(change(60, 4, "k5", 104, 105))
        self.assert_found("command 5 was rejected, but is at journal.catalog/0@60")

    def test_a_zombie_rejects_a_command_by_an_old_version(self):
        self.observed.operations[4]["answer"]["version"] = 1
        self.assert_found("command 5 got version 1 from 24.000 to 26.000; it was current from 1.000 to 10.000")
        self.assert_found("command 5 got version 1, after another client had got 3")

    def test_a_command_is_rejected_by_a_future_version(self):
        self.observed.operations[4]["answer"]["version"] = 4
        self.assert_found("command 5 got version 4 from 24.000 to 26.000; it was current from 40.000 to inf")

    def test_a_command_with_the_right_expected_version_is_rejected(self):
        self.observed.operations[4]["expected"] = 3
        self.assert_found("command 5 was rejected, though it expected the version in the answer")

    def test_a_rejection_is_missing_in_the_log(self):
        del self.observed.log[3]
        self.assert_found("command 3 has a key and was rejected, but is not in the log")

    def test_the_log_has_another_rejection(self):
        self.observed.log[3].outcome["code"] = "PRODUCT_NOT_FOUND"
        self.assert_found("command 3 got ('product_A', 422, 'PRICE_NOT_POSITIVE', 3, [])")

    def test_a_repetition_gets_another_answer(self):
        self.observed.operations[5]["answer"] = answer(201, 5, position=f"{TOPIC}/0@60")
        self.assert_found("command 6 repeats 1: ")

    def test_a_repetition_after_a_mismatch_is_accepted(self):
        again = copy.deepcopy(self.observed.operations[4])
        again.update(number=10, repeats=5, answer=answer(201, 5, position=f"{TOPIC}/0@60"))
        self.observed.operations.append(again)
        self.assert_found("command 10 repeats 5: ")

    def test_another_command_with_the_same_key_is_decided(self):
        self.observed.operations[7]["answer"] = answer(201, 5, position=f"{TOPIC}/0@60")
        self.observed.log.append(change(60, 4, "x", 104, 108))
        self.assert_found("command 8 used the key of 1, but is in the log")
        self.assert_found("command 8 used the key of 1, and got")

    def test_an_unexpected_answer(self):
        self.observed.operations[4]["answer"] = answer(500, None, "COMMIT_UNENCODABLE")
        self.assert_found("command 5 got {'status': 500")

    def test_a_command_with_a_key_gets_no_answer(self):
        self.observed.operations[4]["answer"] = None
        self.assert_found("command 5 has a key and got no answer")

    def test_an_undisturbed_node_does_not_answer(self):
        attempt = self.observed.operations[8]["attempts"][0]
        attempt.update(took=25.0, outcome="TimeoutError")
        self.assert_found("command 9: node 1 was undisturbed, but the attempt at 50.000 ended with TimeoutError after 25.0 s")
        self.observed.disturbances = {NODE: [[70.0, None]]}
        self.assertEqual(self.observed.violations(), [])

    def test_an_undisturbed_node_answers_late(self):
        self.observed.operations[8]["attempts"][0].update(took=25.0, connected=1.0)
        self.observed.disturbances = {NODE: [[2.0, 3.0]]}
        self.assert_found("command 9: node 1 was undisturbed, but the attempt at 50.000 ended with 503 after 25.0 s")

    def test_an_undisturbed_node_closes_a_connection(self):
        attempt = self.observed.operations[8]["attempts"][0]
        attempt.update(connected=30.0, outcome="BrokenPipeError")
        self.assert_found("command 9: node 1 was undisturbed, but the attempt at 50.000 ended with BrokenPipeError after 1.0 s")
        self.observed.disturbances = {NODE: [[35.0, 36.0]]}
        self.assertEqual(self.observed.violations(), [])


if __name__ == "__main__":
    unittest.main()
