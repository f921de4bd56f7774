"""Reports how long clients waited for answers, and waits until all commands are answered."""

import time
from bisect import bisect_right
from collections import Counter, defaultdict

from clients import RETRY_AFTER_FAULTS_S, is_definite, now

NO_COMMANDS = "no commands"
POLL_S = 0.1
LAST_SHOWN = 5


def await_answers(history, recovered, timeout_s=RETRY_AFTER_FAULTS_S):
    """Waits until every command sent before `recovered` has ended; returns a message for each that has not."""
    while waiting := history.in_flight_since(recovered):
        if now() > recovered + timeout_s:
            return [
                f"command {command.number} about {command.sku} has no answer {timeout_s} s after all faults ended; "
                f"last: {[attempt['outcome'] for attempt in command.attempts[-LAST_SHOWN:]]}"
                for command in waiting
            ]
        time.sleep(POLL_S)
    return []


def longest_wait(operations):
    """The command with the longest wait, and the outcomes of its attempts."""
    operation = max(operations, key=lambda operation: operation["ended"] - operation["began"], default=None)
    if operation is None:
        return NO_COMMANDS
    counts, spent = Counter(), Counter()
    for attempt in operation["attempts"]:
        counts[attempt["outcome"]] += 1
        spent[attempt["outcome"]] += attempt["took"]
    attempts = ", ".join(f"{count} x {outcome} ({spent[outcome]:.1f} s)" for outcome, count in counts.most_common())
    waited = operation["ended"] - operation["began"]
    return f"{waited:.1f} s, command {operation['number']} about {operation['sku']} from {clock_time(operation['began'])}: {attempts}"


def longest_unavailability(operations):
    """The longest time in which commands about a product were sent and none was answered."""
    attempts = defaultdict(list)
    for operation in operations:
        for attempt in operation["attempts"]:
            attempts[operation["sku"]].append(
                (attempt["at"], attempt["at"] + attempt["took"], is_definite(attempt["outcome"]))
            )
    periods = []
    for sku, of_product in attempts.items():
        sent = sorted(begin for begin, _, _ in of_product)
        last = 0.0
        for answered in sorted(end for _, end, is_answered in of_product if is_answered):
            # The first attempt after the previous answer, which failed or had to wait.
            since = min([*sent[bisect_right(sent, last) :][:1], answered])
            periods.append((answered - since, since, sku))
            last = answered
    if not periods:
        return NO_COMMANDS
    length, since, sku = max(periods)
    return f"{length:.1f} s, {sku} from {clock_time(since)}"


def clock_time(time_s):
    """The time of day in the format of the nodes' logs."""
    return time.strftime("%H:%M:%S", time.gmtime(time_s))
