"""Compares what clients were told with what the log says."""

from collections import defaultdict

from clients import PATIENCE_S
from journal import LogError

# Clients and broker share a machine; this is for the broker's clock of whole milliseconds and for slow threads.
SLACK_S = 1.0
SHOWN_MAX = 20


class Checker:
    """Counts violations, and says each in words."""

    def __init__(self, commands, journal):
        self.commands = commands
        self.journal = journal
        self.violations = []
        self.by_place = {}
        self.by_amount = defaultdict(list)
        self.versions = defaultdict(list)

    def violation(self, text):
        self.violations.append(text)
        if len(self.violations) <= SHOWN_MAX:
            print(f"VIOLATION: {text}", flush=True)

    def run(self):
        """All checks; gives the number of violations."""
        try:
            self.read_log()
        except LogError as error:
            self.violation(str(error))
            return len(self.violations)
        answers = {}
        for command in self.commands:
            self.check_story(command)
            if command["kind"] not in ("again", "other body"):
                answers[command["number"]] = command
        for command in self.commands:
            if command["kind"] in ("again", "other body"):
                self.check_again(command, answers.get(command["earlier"]))
        return len(self.violations)

    def read_log(self):
        """Versions without a gap, each command decided once, log time that never falls."""
        ids, log_time = set(), {}
        for decision in self.journal.decisions():
            place = f"{self.journal.topic}/{decision.partition}@{decision.offset}"
            self.by_place[place] = decision
            if decision.id in ids:
                self.violation(f"{place}: its command was decided before")
            ids.add(decision.id)
            if decision.recorded_at < log_time.get(decision.partition, 0):
                self.violation(f"{place}: log time fell")
            log_time[decision.partition] = decision.recorded_at
            history = self.versions[decision.key]
            current = history[-1][0] if history else 0
            if decision.version != current:
                self.violation(f"{place}: says version {decision.version} of {decision.key}, which has {current}")
            if decision.events:
                history.append((current + len(decision.events), decision.appended_at))
            for event in decision.events:
                if "price" in event:
                    self.by_amount[event["price"]["amount"]].append(decision)
                elif "new" in event:
                    self.by_amount[event["new"]["amount"]].append(decision)

    def check_story(self, command):
        number, answer = command["number"], command["answer"]
        if command["ended"] - command["began"] > PATIENCE_S + 60:
            self.violation(f"command {number} waited for {command['ended'] - command['began']:.0f} s")
        if answer is None:
            if command["key"] is not None:
                heard = [attempt["heard"] for attempt in command["attempts"][-5:]]
                self.violation(f"command {number} has a key and got no answer in {PATIENCE_S} s; last: {heard}")
            self.check_decided(command, at_most=1)
        elif command["kind"] in ("again", "other body"):
            return
        elif answer["status"] in (200, 201):
            self.check_accepted(command)
        elif answer["status"] == 412:
            self.check_mismatch(command)
            self.check_decided(command, at_most=0)
        elif command["kind"] == "refused" and answer["status"] == 422:
            self.check_decided(command, at_most=0)
        else:
            self.violation(f"command {number} ({command['kind']}) got {answer}")

    def check_decided(self, command, at_most):
        decided = self.by_amount.get(command["amount"], []) if command["amount"] else []
        if len(decided) > at_most:
            self.violation(f"command {command['number']} is in the log {len(decided)} times, at most {at_most} expected")

    def check_accepted(self, command):
        """It stands exactly once, where its client was told, with the version that its client was told."""
        number, answer = command["number"], command["answer"]
        decided = self.by_amount.get(command["amount"], [])
        if len(decided) != 1:
            self.violation(f"command {number} was acknowledged and is in the log {len(decided)} times")
            return
        decision = self.by_place.get(answer["position"])
        if decision is not decided[0]:
            found = decided[0].offset
            self.violation(f"command {number} is said to stand at {answer['position']} and stands at {found}")
            return
        if decision.key != f"product_{command['sku']}" or decision.version + 1 != answer["version"]:
            self.violation(f"command {number} was told version {answer['version']}, the log has {decision.version} + 1")
        if command["expected"] is not None and command["expected"] != decision.version:
            self.violation(f"command {number} expected version {command['expected']}, was decided on {decision.version}")

    def check_mismatch(self, command):
        """The version that its client was told must have been the right one at some time while it asked."""
        told, number = command["answer"]["version"], command["number"]
        if told == command["expected"]:
            self.violation(f"command {number} was refused though it expected the version it was told, {told}")
        history = self.versions[f"product_{command['sku']}"]
        since = next((at for version, at in history if version == told), None)
        until = next((at for version, at in history if version == told + 1), float("inf"))
        if since is None or since - SLACK_S > command["ended"] or until + SLACK_S < command["began"]:
            self.violation(
                f"command {number} was told version {told} between {command['began']:.3f} and {command['ended']:.3f}; "
                f"that was so from {since} to {until}"
            )

    def check_again(self, command, earlier):
        """A command sent again gets the answer that it got; another one under its key gets none."""
        answer, number = command["answer"], command["number"]
        if answer is None or earlier is None or earlier["answer"] is None:
            return
        if command["kind"] == "other body":
            self.check_decided(command, at_most=0)
        # A 412 changes nothing and is not kept: the command may be decided anew.
        if earlier["answer"]["status"] == 412:
            return
        if command["kind"] == "other body":
            if answer["status"] != 422 or answer["code"] != "IDEMPOTENCY_KEY_REUSED":
                self.violation(f"command {number} used the key of {command['earlier']} and got {answer}")
            return
        for field in ("status", "version", "position", "code"):
            if answer[field] != earlier["answer"][field]:
                self.violation(f"command {number} repeats {command['earlier']}: {answer} after {earlier['answer']}")
                return
