"""Compares what clients were told with what the log says."""

import uuid
from bisect import bisect_right
from collections import defaultdict

from clients import PATIENCE_S, UNAVAILABLE
from journal import LogError

# Longest time that a node may take for an answer, and a little more, for the machine is busy.
ANSWER_S_MAX = 15.0 + 5.0
# Clients and broker share a machine; this is for the broker's clock of whole milliseconds, and for adjustments of the
# system's clock during a run.
SLACK_S = 0.25
SHOWN_MAX = 20
# Where command ids are derived from keys: uuid5 of principal, command with product, and key, each behind its length.
COMMAND_NAMESPACE = uuid.UUID("6f1c56a4-2f0b-4d0e-9d8e-7a31c0d4b00c")
PRINCIPAL, COMMAND = "service:import", "ChangePrice"
PRICE_CHANGED, CREATED = "daybook.catalog.ProductPriceChanged", "daybook.catalog.ProductCreated"


def command_id(sku, key):
    """The id under which the log has a command about a product with that key."""
    name = "".join(f"{len(part)}:{part}" for part in (PRINCIPAL, f"{COMMAND}/{sku}", key))
    return uuid.uuid5(COMMAND_NAMESPACE, name).bytes


class Product:
    """What the log says of one product."""

    def __init__(self):
        self.version = 0
        self.price = None
        # When each version began, by the broker's clock.
        self.began = {0: 0.0}


class Acknowledged:
    """The greatest version of a product that some client had been told of at a time."""

    def __init__(self, answered):
        answered.sort()
        self.times = [at for at, _ in answered]
        self.versions = []
        for _, version in answered:
            self.versions.append(max(version, self.versions[-1] if self.versions else 0))

    def at(self, time):
        """That version; 0 before any."""
        index = bisect_right(self.times, time)
        return self.versions[index - 1] if index else 0


class Checker:
    """Counts violations, and says each in words."""

    def __init__(self, stories, disturbances):
        self.stories = stories
        # By node: when it could not be expected to answer.
        self.disturbances = disturbances
        self.violations = []
        self.by_place = {}
        self.by_id = {}
        self.by_amount = defaultdict(list)
        self.products = defaultdict(Product)
        self.acknowledged = {}

    def violation(self, text):
        """One more."""
        self.violations.append(text)
        if len(self.violations) <= SHOWN_MAX:
            print(f"VIOLATION: {text}", flush=True)

    def run(self, decisions):
        """All checks; gives the number of violations."""
        try:
            self.read_log(decisions)
        except LogError as error:
            self.violation(str(error))
        self.gather()
        originals = {}
        for story in self.stories:
            self.check_times(story)
            if story["repeats"] is None:
                originals[story["number"]] = story
                self.check_story(story)
        for story in self.stories:
            if story["repeats"] is not None:
                self.check_repetition(story, originals.get(story["repeats"]))
        self.check_origin()
        return len(self.violations)

    # The log alone.

    def read_log(self, decisions):
        """Each command is decided once, on the version that was, and log time never falls."""
        log_time = defaultdict(int)
        for decision in decisions:
            if decision.id in self.by_id:
                self.violation(f"{decision.place}: its command was decided before, at {self.by_id[decision.id].place}")
            self.by_id[decision.id] = decision
            self.by_place[decision.place] = decision
            if decision.recorded_at < log_time[decision.topic_partition]:
                self.violation(f"{decision.place}: log time fell")
            log_time[decision.topic_partition] = decision.recorded_at
            product = self.products[decision.key]
            if decision.version != product.version:
                self.violation(
                    f"{decision.place}: says that {decision.key} had version {decision.version}, it had {product.version}"
                )
            for name, event in decision.events:
                self.read_event(decision, product, name, event)

    def read_event(self, decision, product, name, event):
        """An event follows from the one before it."""
        product.version += 1
        product.began[product.version] = decision.appended_at
        if name == CREATED:
            if product.version != 1:
                self.violation(f"{decision.place}: {decision.key} is created as version {product.version}")
            return
        if name != PRICE_CHANGED:
            self.violation(f"{decision.place}: nobody asked for {name}")
            return
        if event["old"] != product.price:
            self.violation(f"{decision.place}: the price of {decision.key} was {product.price}, not {event['old']}")
        product.price = event["new"]
        self.by_amount[event["new"]["amount"]].append(decision)

    def check_origin(self):
        """What the log has, somebody asked for, and once."""
        asked = {story["amount"]: f"product_{story['sku']}" for story in self.stories}
        for amount, decisions in self.by_amount.items():
            if len(decisions) > 1:
                self.violation(f"the price {amount} is set at {[decision.place for decision in decisions]}")
            if asked.get(amount) != decisions[0].key:
                self.violation(f"{decisions[0].place}: nobody asked for the price {amount} of {decisions[0].key}")

    # What a client was told, on the time line of clients.

    def gather(self):
        """Who was told of which version, and when; no two of the same."""
        told, by_version, by_expected = defaultdict(list), {}, {}
        for story in self.stories:
            answer = story["answer"]
            if answer is None or answer["version"] is None:
                continue
            told[story["sku"]].append((story["ended"], answer["version"]))
            if answer["status"] != 201 or story["repeats"] is not None:
                continue
            for known, what, version in ((by_version, "given", answer["version"]), (by_expected, "on", story["expected"])):
                if version is None:
                    continue
                first = known.setdefault((story["sku"], version), story["number"])
                if first != story["number"]:
                    numbers = f"{first} and {story['number']}"
                    self.violation(f"commands {numbers} were both acknowledged {what} version {version} of {story['sku']}")
        self.acknowledged = {sku: Acknowledged(answered) for sku, answered in told.items()}

    def check_times(self, story):
        """No node keeps a client waiting, and no command with a key goes without an answer."""
        number = story["number"]
        if story["key"] is not None and story["answer"] is None:
            heard = [attempt["heard"] for attempt in story["attempts"][-5:]]
            self.violation(
                f"command {number} has a key and got no answer, {PATIENCE_S} s after all was well again; last: {heard}"
            )
        for attempt in story["attempts"]:
            is_answer, is_late = isinstance(attempt["heard"], int), attempt["took"] > ANSWER_S_MAX
            # A connection may have been lost before anything was sent; a client sees that at once.
            since = attempt["at"] if is_late else attempt["connected"]
            if (is_answer and not is_late) or self.is_disturbed(attempt["node"], since, attempt["at"] + attempt["took"]):
                continue
            self.violation(
                f"command {number}: node {attempt['node']} was well, and after {attempt['took']:.1f} s came "
                f"{attempt['heard']} at {attempt['at']:.3f}"
            )

    def is_disturbed(self, node, begin, end):
        """Whether a node could not be expected to answer all that time."""
        disturbances = self.disturbances.get(node, ())
        return any(start <= end and (stop is None or begin <= stop) for start, stop in disturbances)

    # One command.

    def check_story(self, story):
        """A command that was not sent before."""
        answer = story["answer"]
        if answer is None:
            # Unknown to its client; `check_origin` sees to it that it stands there once at most.
            return
        if answer["status"] == 201 and story["amount"] > 0:
            self.check_accepted(story)
        elif answer["status"] == 412 and answer["code"] == "VERSION_MISMATCH" and story["expected"] is not None:
            self.check_mismatch(story)
        elif answer["status"] == 422 and answer["code"] == "PRICE_NOT_POSITIVE" and story["amount"] == 0:
            self.check_rejected(story)
        else:
            self.violation(f"command {story['number']} got {answer}")

    def check_accepted(self, story):
        """It stands exactly once, where and with the version that its client was told, and at the right time."""
        number, answer = story["number"], story["answer"]
        decided = self.by_amount.get(story["amount"], [])
        if len(decided) != 1:
            times = f"{len(decided)} times"
            self.violation(f"command {number} was acknowledged at {answer['position']}, and is in the log {times}")
            return
        decision = decided[0]
        if decision.place != answer["position"]:
            self.violation(f"command {number} is said to stand at {answer['position']}, and stands at {decision.place}")
        if decision.version + 1 != answer["version"]:
            self.violation(f"command {number} was told version {answer['version']}, the log has {decision.version} + 1")
        if story["expected"] not in (None, decision.version):
            self.violation(f"command {number} expected version {story['expected']}, and was decided on {decision.version}")
        if story["key"] is not None and decision.id != command_id(story["sku"], story["key"]):
            self.violation(f"command {number} stands at {decision.place} under another id than its key's")
        if not story["began"] - SLACK_S <= decision.appended_at <= story["ended"] + SLACK_S:
            self.violation(
                f"command {number} was asked for from {story['began']:.3f} to {story['ended']:.3f}, and appended at "
                f"{decision.appended_at:.3f}"
            )
        known = self.acknowledged_before(story, story["began"])
        if answer["version"] <= known:
            self.violation(f"command {number} was told version {answer['version']}, when {known} had been told already")

    def check_mismatch(self, story):
        """Nothing stands in the log, and the version that its client was told was the right one when it asked."""
        answer, number = story["answer"], story["number"]
        if self.by_amount.get(story["amount"]):
            place = self.by_amount[story["amount"]][0].place
            self.violation(f"command {number} was refused, and stands at {place}")
        if answer["version"] == story["expected"]:
            self.violation(f"command {number} was refused, though it expected the version that it was told")
        self.check_was_current(story)

    def check_rejected(self, story):
        """With a key it stands in the log as a rejection; without, what it was told was right when it asked."""
        answer, number = story["answer"], story["number"]
        if story["key"] is None:
            self.check_was_current(story)
            return
        decision = self.by_id.get(command_id(story["sku"], story["key"]))
        if decision is None:
            self.violation(f"command {number} was rejected under its key, and is not in the log")
            return
        outcome = decision.outcome or {}
        found = decision.key, outcome.get("status"), outcome.get("code"), decision.version, decision.events
        told = f"product_{story['sku']}", answer["status"], answer["code"], answer["version"], []
        if found != told:
            self.violation(f"command {number} was told {told}, {decision.place} says {found}")

    def check_was_current(self, story):
        """The version that its client was told was the product's at some time of the last attempt."""
        number, told, attempt = story["number"], story["answer"]["version"], story["attempts"][-1]
        if told is None:
            self.violation(f"command {number} was not told which version there is: {story['answer']}")
            return
        begin, end = attempt["at"], attempt["at"] + attempt["took"]
        versions = self.products[f"product_{story['sku']}"].began
        since, until = versions.get(told, float("inf")), versions.get(told + 1, float("inf"))
        if since - SLACK_S > end or until + SLACK_S < begin:
            self.violation(
                f"command {number} was told version {told} from {begin:.3f} to {end:.3f}; it was so from {since:.3f} to "
                f"{until:.3f}"
            )
        known = self.acknowledged_before(story, begin)
        if told < known:
            self.violation(f"command {number} was told version {told}, when {known} had been told already")

    def acknowledged_before(self, story, time):
        """The greatest version that somebody had been told of before that time."""
        return self.acknowledged[story["sku"]].at(time)

    def check_repetition(self, story, original):
        """A command sent again gets the answer that it got; another one under its key gets none."""
        answer, number = story["answer"], story["number"]
        if answer is None or original is None or original["answer"] is None:
            return
        first = original["answer"]
        if story["is_other"] and self.by_amount.get(story["amount"]):
            self.violation(f"command {number} used the key of {story['repeats']}, and is in the log")
        # A 412 changes nothing and is not kept: what comes again is decided anew, and versions only grow.
        if first["status"] == 412:
            if answer["status"] != 412:
                self.violation(f"command {number} repeats {story['repeats']}: {answer} after {first}")
            else:
                self.check_mismatch(story)
        elif story["is_other"]:
            if answer["status"] != 422 or answer["code"] != "IDEMPOTENCY_KEY_REUSED":
                self.violation(f"command {number} used the key of {story['repeats']}, and got {answer}")
        elif answer != first:
            self.violation(f"command {number} repeats {story['repeats']}: {answer} after {first}")

    # Whether the run says anything.

    def count_acknowledged(self):
        """Commands of their own right with an answer that says what became of them."""
        return sum(1 for story in self.stories if story["repeats"] is None and story["answer"] is not None)

    def count_unavailable(self):
        """Attempts that were turned away."""
        return sum(1 for story in self.stories for attempt in story["attempts"] if attempt["heard"] == UNAVAILABLE)
