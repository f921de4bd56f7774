"""What the checker finds in logs and stories that are not honest."""

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
    """As the log has it."""
    return {"amount": amount, "currency": CURRENCY}


def decision(offset, version, identity, events, outcome=None):
    """A decision about the product A, appended at the second of its offset."""
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


def story(number, seconds, amount, key=None, expected=None, repeats=None, answer=None):
    """A client's command, answered at the first attempt."""
    began, ended = seconds
    attempt = {"node": NODE, "connected": began, "at": began, "took": ended - began, "heard": answer and answer["status"]}
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
    """What a client keeps of an answer."""
    return {"status": status, "version": version, "code": code, "position": position}


class World:
    """An honest run, to be falsified: the log, and what clients say."""

    def __init__(self):
        rejection = {"status": 422, "code": "PRICE_NOT_POSITIVE", "detail": b"{}"}
        self.log = [
            decision(1, 0, bytes(16), [(CREATED, {"sku": "A", "description": ""})]),
            change(10, 1, "k1", None, 101),
            change(20, 2, "k2", 101, 102),
            decision(30, 3, command_id("A", "k3"), [], rejection),
            change(40, 3, "k4", 102, 104),
        ]
        first = answer(201, 2, position=f"{TOPIC}/0@10")
        rejected = answer(422, 3, "PRICE_NOT_POSITIVE")
        self.stories = [
            story(1, (9, 11), 101, "k1", 1, answer=first),
            story(2, (19, 21), 102, "k2", 2, answer=answer(201, 3, position=f"{TOPIC}/0@20")),
            story(3, (29, 31), 0, "k3", answer=rejected),
            story(4, (39, 41), 104, "k4", answer=answer(201, 4, position=f"{TOPIC}/0@40")),
            # Turned away by what was so at that time.
            story(5, (24, 26), 105, "k5", 2, answer=answer(412, 3, "VERSION_MISMATCH")),
            # Sent again, and sent with another wish.
            story(6, (50, 51), 101, "k1", 1, repeats=1, answer=first),
            story(7, (50, 51), 0, "k3", repeats=3, answer=rejected),
            story(8, (50, 51), 108, "k1", 1, repeats=1, answer=answer(422, None, "IDEMPOTENCY_KEY_REUSED")),
            # No key, and no answer.
            story(9, (50, 51), 109),
        ]
        self.stories[7]["is_other"] = True
        self.stories[8]["attempts"][0]["heard"] = 503
        self.disturbances = {}

    def violations(self):
        """What the checker finds."""
        checker = Checker(self.stories, self.disturbances)
        with contextlib.redirect_stdout(io.StringIO()):
            checker.run(iter(self.log))
        return checker.violations


class Teeth(unittest.TestCase):
    """Each test falsifies one thing."""

    def setUp(self):
        self.world = World()

    def assert_found(self, words):
        """Something was found, and it is that."""
        violations = self.world.violations()
        self.assertTrue(any(words in violation for violation in violations), violations)

    def test_an_honest_run(self):
        self.assertEqual(self.world.violations(), [])

    def test_an_acknowledged_commit_is_left_out(self):
        del self.world.log[4]
        self.assert_found("command 4 was acknowledged at journal.catalog/0@40, and is in the log 0 times")

    def test_an_acknowledged_commit_in_the_middle_is_left_out(self):
        del self.world.log[2]
        self.assert_found("command 2 was acknowledged at journal.catalog/0@20, and is in the log 0 times")
        self.assert_found("says that product_A had version 3, it had 2")

    def test_a_command_is_decided_twice(self):
        self.world.log.append(change(60, 4, "k4", 104, 104))
        self.assert_found("its command was decided before, at journal.catalog/0@40")
        self.assert_found("command 4 was acknowledged at journal.catalog/0@40, and is in the log 2 times")

    def test_a_command_without_an_answer_is_done_twice(self):
        self.world.log += [change(60, 4, "a", 104, 109), change(61, 5, "b", 109, 109)]
        self.assert_found("the price 109 is set at ['journal.catalog/0@60', 'journal.catalog/0@61']")

    def test_a_command_without_an_answer_is_done_once(self):
        self.world.log.append(change(60, 4, "a", 104, 109))
        self.assertEqual(self.world.violations(), [])

    def test_a_gap_in_versions(self):
        self.world.log[4].version = 4
        self.world.stories[3]["answer"]["version"] = 5
        self.assert_found("says that product_A had version 4, it had 3")

    def test_two_commits_on_one_version(self):
        self.world.log[2].version = 1
        self.assert_found("says that product_A had version 1, it had 2")

    def test_a_price_that_does_not_follow(self):
        self.world.log[4].events[0][1]["old"] = price(101)
        self.assert_found("the price of product_A was {'amount': 102, 'currency': 'GBP'}, not")

    def test_log_time_falls(self):
        self.world.log[3].recorded_at = 1
        self.assert_found("journal.catalog/0@30: log time fell")

    def test_the_log_raises_the_alarm(self):
        first = self.world.log[0]

        def broken():
            yield first
            raise LogError("journal.catalog/0@10: alarm: chain_broken")

        self.world.log = broken()
        self.assert_found("alarm: chain_broken")

    def test_nobody_asked_for_that(self):
        self.world.log.append(change(60, 4, "x", 104, 777))
        self.assert_found("nobody asked for the price 777")

    def test_another_product_than_asked_for(self):
        self.world.stories[3]["sku"] = "B"
        self.assert_found("journal.catalog/0@40: nobody asked for the price 104 of product_A")

    def test_another_version_than_acknowledged(self):
        self.world.stories[1]["answer"]["version"] = 4
        self.assert_found("command 2 was told version 4, the log has 2 + 1")

    def test_another_place_than_acknowledged(self):
        self.world.stories[1]["answer"]["position"] = f"{TOPIC}/0@19"
        self.assert_found("command 2 is said to stand at journal.catalog/0@19, and stands at journal.catalog/0@20")

    def test_another_expected_version(self):
        self.world.stories[1]["expected"] = 1
        self.assert_found("command 2 expected version 1, and was decided on 2")
        self.assert_found("commands 1 and 2 were both acknowledged on version 1 of A")

    def test_two_are_given_one_version(self):
        self.world.stories[3]["answer"]["version"] = 3
        self.assert_found("commands 2 and 4 were both acknowledged given version 3 of A")

    def test_another_id_than_the_keys(self):
        self.world.log[4].id = command_id("A", "k9")
        self.assert_found("command 4 stands at journal.catalog/0@40 under another id than its key's")

    def test_decided_after_it_was_acknowledged(self):
        self.world.log[4].appended_at = 45.0
        self.assert_found("command 4 was asked for from 39.000 to 41.000, and appended at 45.000")

    def test_a_refused_command_stands_in_the_log(self):
        self.world.log.append(change(60, 4, "k5", 104, 105))
        self.assert_found("command 5 was refused, and stands at journal.catalog/0@60")

    def test_refused_by_a_zombie(self):
        self.world.stories[4]["answer"]["version"] = 1
        self.assert_found("command 5 was told version 1 from 24.000 to 26.000; it was so from 1.000 to 10.000")
        self.assert_found("command 5 was told version 1, when 3 had been told already")

    def test_refused_by_what_was_not_so_yet(self):
        self.world.stories[4]["answer"]["version"] = 4
        self.assert_found("command 5 was told version 4 from 24.000 to 26.000; it was so from 40.000 to inf")

    def test_refused_though_it_was_right(self):
        self.world.stories[4]["expected"] = 3
        self.assert_found("command 5 was refused, though it expected the version that it was told")

    def test_a_rejection_that_is_not_kept(self):
        del self.world.log[3]
        self.assert_found("command 3 was rejected under its key, and is not in the log")

    def test_a_rejection_that_is_kept_otherwise(self):
        self.world.log[3].outcome["code"] = "PRODUCT_NOT_FOUND"
        self.assert_found("command 3 was told ('product_A', 422, 'PRICE_NOT_POSITIVE', 3, [])")

    def test_another_answer_to_the_same_command(self):
        self.world.stories[5]["answer"] = answer(201, 5, position=f"{TOPIC}/0@60")
        self.assert_found("command 6 repeats 1: ")

    def test_a_mismatch_that_is_taken_back(self):
        again = copy.deepcopy(self.world.stories[4])
        again.update(number=10, repeats=5, answer=answer(201, 5, position=f"{TOPIC}/0@60"))
        self.world.stories.append(again)
        self.assert_found("command 10 repeats 5: ")

    def test_another_command_under_the_key_is_done(self):
        self.world.stories[7]["answer"] = answer(201, 5, position=f"{TOPIC}/0@60")
        self.world.log.append(change(60, 4, "x", 104, 108))
        self.assert_found("command 8 used the key of 1, and is in the log")
        self.assert_found("command 8 used the key of 1, and got")

    def test_an_answer_that_means_nothing(self):
        self.world.stories[4]["answer"] = answer(500, None, "COMMIT_UNENCODABLE")
        self.assert_found("command 5 got {'status': 500")

    def test_no_answer_at_all(self):
        self.world.stories[4]["answer"] = None
        self.assert_found("command 5 has a key and got no answer")

    def test_a_node_that_is_well_and_does_not_answer(self):
        attempt = self.world.stories[8]["attempts"][0]
        attempt.update(took=25.0, heard="TimeoutError")
        self.assert_found("command 9: node 1 was well, and after 25.0 s came TimeoutError at 50.000")
        self.world.disturbances = {NODE: [[70.0, None]]}
        self.assertEqual(self.world.violations(), [])

    def test_a_node_that_is_well_and_late(self):
        self.world.stories[8]["attempts"][0].update(took=25.0, connected=1.0)
        self.world.disturbances = {NODE: [[2.0, 3.0]]}
        self.assert_found("command 9: node 1 was well, and after 25.0 s came 503 at 50.000")

    def test_a_node_that_is_well_and_hangs_up(self):
        attempt = self.world.stories[8]["attempts"][0]
        attempt.update(connected=30.0, heard="BrokenPipeError")
        self.assert_found("command 9: node 1 was well, and after 1.0 s came BrokenPipeError at 50.000")
        self.world.disturbances = {NODE: [[35.0, 36.0]]}
        self.assertEqual(self.world.violations(), [])


if __name__ == "__main__":
    unittest.main()
