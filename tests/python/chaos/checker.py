"""Compares the answers that clients got with the log."""

import uuid
from bisect import bisect_right
from collections import defaultdict

from clients import RETRY_AFTER_FAULTS_S, UNAVAILABLE
from journal import LogError

# Longest time for an answer of a node, with a margin for a busy machine.
ANSWER_S_MAX = 15.0 + 5.0
# Clients and broker share a machine. The tolerance covers the broker's clock of whole milliseconds, and adjustments of the
# system's clock during a run.
CLOCK_TOLERANCE_S = 0.25
SHOWN_MAX = 20
# Namespace of command ids: uuid5 of principal, command with product, and idempotency key, each preceded by its length.
COMMAND_NAMESPACE = uuid.UUID("6f1c56a4-2f0b-4d0e-9d8e-7a31c0d4b00c")
PRINCIPAL, COMMAND = "service:import", "ChangePrice"
# The log stores kinds of outcomes. This is the HTTP status that a client gets for each.
STATUS_OF_KIND = {"ALREADY_SO": 200, "NOT_FOUND": 404, "CONFLICT": 409, "INVALID": 422, "FORBIDDEN": 403}
PRICE_CHANGED, CREATED = "daybook.catalog.ProductPriceChanged", "daybook.catalog.ProductCreated"


def command_id(sku, key):
    """The id that the log has for a command about a product with this idempotency key."""
    name = "".join(f"{len(part)}:{part}" for part in (PRINCIPAL, f"{COMMAND}/{sku}", key))
    return uuid.uuid5(COMMAND_NAMESPACE, name).bytes


class Product:
    """A product's state, computed from the log."""

    def __init__(self):
        self.version = 0
        self.price = None
        # Start of each version, by the broker's clock.
        self.began = {0: 0.0}


class Acknowledged:
    """The greatest version of a product in any answer up to a time."""

    def __init__(self, answered):
        answered.sort()
        self.times = [at for at, _ in answered]
        self.versions = []
        for _, version in answered:
            self.versions.append(max(version, self.versions[-1] if self.versions else 0))

    def at(self, time):
        """The greatest version at a time; 0 before the first answer."""
        index = bisect_right(self.times, time)
        return self.versions[index - 1] if index else 0


class Checker:
    """Finds, counts and prints violations."""

    def __init__(self, operations, disturbances):
        self.operations = operations
        # By node: the times in which the node may fail to answer.
        self.disturbances = disturbances
        self.violations = []
        self.by_position = {}
        self.by_id = {}
        self.by_amount = defaultdict(list)
        self.products = defaultdict(Product)
        self.acknowledged = {}

    def violation(self, text):
        """Counts and prints a violation."""
        self.violations.append(text)
        if len(self.violations) <= SHOWN_MAX:
            print(f"VIOLATION: {text}", flush=True)

    def run(self, decisions):
        """Runs all checks; returns the number of violations."""
        try:
            self.read_log(decisions)
        except LogError as error:
            self.violation(str(error))
        self.gather()
        originals = {}
        for operation in self.operations:
            self.check_times(operation)
            if operation["repeats"] is None:
                originals[operation["number"]] = operation
                self.check_original(operation)
        for operation in self.operations:
            if operation["repeats"] is not None:
                self.check_repetition(operation, originals.get(operation["repeats"]))
        self.check_origin()
        return len(self.violations)

    # The log alone.

    def read_log(self, decisions):
        """Each command is decided once, based on the current version, and log time never decreases."""
        log_time = defaultdict(int)
        for decision in decisions:
            if decision.id in self.by_id:
                self.violation(
                    f"{decision.position}: its command was decided before, at {self.by_id[decision.id].position}"
                )
            self.by_id[decision.id] = decision
            self.by_position[decision.position] = decision
            if decision.recorded_at < log_time[decision.topic_partition]:
                self.violation(f"{decision.position}: log time decreased")
            log_time[decision.topic_partition] = decision.recorded_at
            product = self.products[decision.key]
            if decision.version != product.version:
                self.violation(
                    f"{decision.position}: says that {decision.key} had version {decision.version}, but it had {product.version}"
                )
            for name, event in decision.events:
                self.read_event(decision, product, name, event)

    def read_event(self, decision, product, name, event):
        """Each event follows from the previous state."""
        product.version += 1
        product.began[product.version] = decision.appended_at
        if name == CREATED:
            if product.version != 1:
                self.violation(f"{decision.position}: {decision.key} is created as version {product.version}")
            return
        if name != PRICE_CHANGED:
            self.violation(f"{decision.position}: no client sent a command for {name}")
            return
        if event["old"] != product.price:
            self.violation(f"{decision.position}: the price of {decision.key} was {product.price}, not {event['old']}")
        product.price = event["new"]
        self.by_amount[event["new"]["amount"]].append(decision)

    def check_origin(self):
        """Each change in the log belongs to a client's command, and happens once."""
        asked = {operation["amount"]: f"product_{operation['sku']}" for operation in self.operations}
        for amount, decisions in self.by_amount.items():
            if len(decisions) > 1:
                self.violation(f"the price {amount} is set at {[decision.position for decision in decisions]}")
            if asked.get(amount) != decisions[0].key:
                self.violation(f"{decisions[0].position}: no client asked for the price {amount} of {decisions[0].key}")

    # The answers, ordered by the clients' clock.

    def gather(self):
        """Collects the versions in answers with their times; no two commands get the same version."""
        answered, by_version, by_expected = defaultdict(list), {}, {}
        for operation in self.operations:
            answer = operation["answer"]
            if answer is None or answer["version"] is None:
                continue
            answered[operation["sku"]].append((operation["ended"], answer["version"]))
            if answer["status"] != 201 or operation["repeats"] is not None:
                continue
            for known, relation, version in (
                (by_version, "with", answer["version"]),
                (by_expected, "based on", operation["expected"]),
            ):
                if version is None:
                    continue
                first = known.setdefault((operation["sku"], version), operation["number"])
                if first != operation["number"]:
                    numbers = f"{first} and {operation['number']}"
                    self.violation(
                        f"commands {numbers} were both acknowledged {relation} version {version} of {operation['sku']}"
                    )
        self.acknowledged = {sku: Acknowledged(answers) for sku, answers in answered.items()}

    def check_times(self, operation):
        """Nodes answer in time, and every command with a key gets an answer."""
        number = operation["number"]
        if operation["key"] is not None and operation["answer"] is None:
            outcomes = [attempt["outcome"] for attempt in operation["attempts"][-5:]]
            self.violation(
                f"command {number} has a key and got no answer {RETRY_AFTER_FAULTS_S} s after all faults ended; last: {outcomes}"
            )
        for attempt in operation["attempts"]:
            is_answer, is_late = isinstance(attempt["outcome"], int), attempt["took"] > ANSWER_S_MAX
            # A connection may have been lost before the attempt; the client notices it at once.
            since = attempt["at"] if is_late else attempt["connected"]
            if (is_answer and not is_late) or self.is_disturbed(
                attempt["node"], since, attempt["at"] + attempt["took"]
            ):
                continue
            self.violation(
                f"command {number}: node {attempt['node']} was undisturbed, but the attempt at {attempt['at']:.3f} ended with "
                f"{attempt['outcome']} after {attempt['took']:.1f} s"
            )

    def is_disturbed(self, node, begin, end):
        """Whether a node was disturbed at any time of an interval."""
        disturbances = self.disturbances.get(node, ())
        return any(start <= end and (stop is None or begin <= stop) for start, stop in disturbances)

    # One command.

    def check_original(self, operation):
        """Checks a command that is not a repetition."""
        answer = operation["answer"]
        if answer is None:
            # The outcome is unknown; `check_origin` checks that the log has the command at most once.
            return
        if answer["status"] == 201 and operation["amount"] > 0:
            self.check_accepted(operation)
        elif answer["status"] == 412 and answer["code"] == "VERSION_MISMATCH" and operation["expected"] is not None:
            self.check_mismatch(operation)
        elif answer["status"] == 422 and answer["code"] == "PRICE_NOT_POSITIVE" and operation["amount"] == 0:
            self.check_rejected(operation)
        else:
            self.violation(f"command {operation['number']} got {answer}")

    def check_accepted(self, operation):
        """The log has the command once, at the position, version and time of its answer."""
        number, answer = operation["number"], operation["answer"]
        decided = self.by_amount.get(operation["amount"], [])
        if len(decided) != 1:
            times = f"{len(decided)} times"
            self.violation(f"command {number} was acknowledged at {answer['position']}, but is in the log {times}")
            return
        decision = decided[0]
        if decision.position != answer["position"]:
            self.violation(f"command {number} was acknowledged at {answer['position']}, but is at {decision.position}")
        if decision.version + 1 != answer["version"]:
            self.violation(f"command {number} got version {answer['version']}, but the log has {decision.version} + 1")
        if operation["expected"] not in (None, decision.version):
            self.violation(
                f"command {number} expected version {operation['expected']}, but was decided on {decision.version}"
            )
        if operation["key"] is not None and decision.id != command_id(operation["sku"], operation["key"]):
            self.violation(f"the decision of command {number} at {decision.position} does not have the id of its key")
        if not operation["began"] - CLOCK_TOLERANCE_S <= decision.appended_at <= operation["ended"] + CLOCK_TOLERANCE_S:
            self.violation(
                f"command {number} was sent from {operation['began']:.3f} to {operation['ended']:.3f}, but appended at "
                f"{decision.appended_at:.3f}"
            )
        known = self.acknowledged_before(operation, operation["began"])
        if answer["version"] <= known:
            self.violation(f"command {number} got version {answer['version']}, after another client had got {known}")

    def check_mismatch(self, operation):
        """The log does not have the command, and the version in the answer was current during the attempt."""
        answer, number = operation["answer"], operation["number"]
        if self.by_amount.get(operation["amount"]):
            position = self.by_amount[operation["amount"]][0].position
            self.violation(f"command {number} was rejected, but is at {position}")
        if answer["version"] == operation["expected"]:
            self.violation(f"command {number} was rejected, though it expected the version in the answer")
        self.check_was_current(operation)

    def check_rejected(self, operation):
        """The log has the rejection of a command with a key. Without a key, the answer's version was current then."""
        answer, number = operation["answer"], operation["number"]
        if operation["key"] is None:
            self.check_was_current(operation)
            return
        decision = self.by_id.get(command_id(operation["sku"], operation["key"]))
        if decision is None:
            self.violation(f"command {number} has a key and was rejected, but is not in the log")
            return
        outcome = decision.outcome or {}
        found = decision.key, STATUS_OF_KIND.get(outcome.get("kind")), outcome.get("code"), decision.version, decision.events
        answered = f"product_{operation['sku']}", answer["status"], answer["code"], answer["version"], []
        if found != answered:
            self.violation(f"command {number} got {answered}, but {decision.position} has {found}")

    def check_was_current(self, operation):
        """The version in the answer was the product's at some time during the last attempt."""
        number, version, attempt = operation["number"], operation["answer"]["version"], operation["attempts"][-1]
        if version is None:
            self.violation(f"command {number} got no version: {operation['answer']}")
            return
        begin, end = attempt["at"], attempt["at"] + attempt["took"]
        versions = self.products[f"product_{operation['sku']}"].began
        since, until = versions.get(version, float("inf")), versions.get(version + 1, float("inf"))
        if since - CLOCK_TOLERANCE_S > end or until + CLOCK_TOLERANCE_S < begin:
            self.violation(
                f"command {number} got version {version} from {begin:.3f} to {end:.3f}; it was current from {since:.3f} to "
                f"{until:.3f}"
            )
        known = self.acknowledged_before(operation, begin)
        if version < known:
            self.violation(f"command {number} got version {version}, after another client had got {known}")

    def acknowledged_before(self, operation, time):
        """The greatest version of the product that any client had got before a time."""
        return self.acknowledged[operation["sku"]].at(time)

    def check_repetition(self, operation, original):
        """A repeated command gets the same answer; another command with the same key is rejected."""
        answer, number = operation["answer"], operation["number"]
        if answer is None or original is None or original["answer"] is None:
            return
        first = original["answer"]
        if operation["is_other"] and self.by_amount.get(operation["amount"]):
            self.violation(f"command {number} used the key of {operation['repeats']}, but is in the log")
        # A 412 is not stored: a repetition is decided a second time, and versions only grow.
        if first["status"] == 412:
            if answer["status"] != 412:
                self.violation(f"command {number} repeats {operation['repeats']}: {answer} after {first}")
            else:
                self.check_mismatch(operation)
        elif operation["is_other"]:
            if answer["status"] != 422 or answer["code"] != "IDEMPOTENCY_KEY_REUSED":
                self.violation(f"command {number} used the key of {operation['repeats']}, and got {answer}")
        elif answer != first:
            self.violation(f"command {number} repeats {operation['repeats']}: {answer} after {first}")

    # Whether the run is enough for a verdict.

    def count_acknowledged(self):
        """Number of commands, without repetitions, with a definite answer."""
        return sum(
            1 for operation in self.operations if operation["repeats"] is None and operation["answer"] is not None
        )

    def count_unavailable(self):
        """Number of attempts that got 503."""
        return sum(
            1 for operation in self.operations for attempt in operation["attempts"] if attempt["outcome"] == UNAVAILABLE
        )
