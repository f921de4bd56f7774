"""How long clients waited or still wait, and for what, in words for people."""

import time
from bisect import bisect_right
from collections import Counter, defaultdict

from clients import PATIENCE_S, is_answer, now

NOBODY = "nobody asked"
LOOK_S = 0.1
LAST_SHOWN = 5


def await_answers(history, well, patience_s=PATIENCE_S):
    """Waits until every command that was sent before `well` has ended; gives those that have not, so long after it."""
    while waiting := history.waiting_since(well):
        if now() > well + patience_s:
            return [
                f"command {command.number} about {command.sku} is without an answer {patience_s} s after all was well; "
                f"last heard: {[attempt['heard'] for attempt in command.attempts[-LAST_SHOWN:]]}"
                for command in waiting
            ]
        time.sleep(LOOK_S)
    return []


def longest_wait(stories):
    """The command whose client waited longest, and what became of its attempts."""
    story = max(stories, key=lambda story: story["ended"] - story["began"], default=None)
    if story is None:
        return NOBODY
    heard, spent = Counter(), Counter()
    for attempt in story["attempts"]:
        heard[attempt["heard"]] += 1
        spent[attempt["heard"]] += attempt["took"]
    attempts = ", ".join(f"{count} x {what} ({spent[what]:.1f} s)" for what, count in heard.most_common())
    waited = story["ended"] - story["began"]
    return f"{waited:.1f} s, command {story['number']} about {story['sku']} from {clock_time(story['began'])}: {attempts}"


def longest_silence(stories):
    """The longest time in which a product was asked about and nobody got an answer about it."""
    attempts = defaultdict(list)
    for story in stories:
        for attempt in story["attempts"]:
            attempts[story["sku"]].append((attempt["at"], attempt["at"] + attempt["took"], is_answer(attempt["heard"])))
    silences = []
    for sku, made in attempts.items():
        asked = sorted(begin for begin, _, _ in made)
        last = 0.0
        for answered in sorted(end for _, end, is_one in made if is_one):
            # From then on somebody asked in vain, or had to wait.
            since = min([*asked[bisect_right(asked, last) :][:1], answered])
            silences.append((answered - since, since, sku))
            last = answered
    if not silences:
        return NOBODY
    length, since, sku = max(silences)
    return f"{length:.1f} s, {sku} from {clock_time(since)}"


def clock_time(time_s):
    """The time of day, as the processes' logs have it."""
    return time.strftime("%H:%M:%S", time.gmtime(time_s))
