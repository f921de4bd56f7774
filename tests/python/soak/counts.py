"""Counts of the load's operations, and its first errors."""

import threading

ERRORS_KEPT_MAX = 20
# Operations that each run must do at least once.
REQUIRED = (
    "commands",
    "reads of own writes",
    "queries",
    "later pages",
    "unchanged answers",
    "imports",
    "restarts",
    "live events",
    "resumed streams",
)
# Answers that may occur: each says that it lacks a position.
STALE = "stale answers"


class Counts:
    """Counts of the load's operations, and its first errors. Threads share it."""

    def __init__(self):
        self.lock = threading.Lock()
        self.done = dict.fromkeys((*REQUIRED, STALE), 0)
        self.errors = 0
        self.first_errors = []

    def add(self, kind):
        """Counts a success."""
        with self.lock:
            self.done[kind] += 1

    def error(self, text):
        """Counts an error, and keeps its text if it is one of the first."""
        with self.lock:
            self.errors += 1
            if len(self.first_errors) < ERRORS_KEPT_MAX:
                self.first_errors.append(text)

    def check_all_done(self):
        """Counts an error for each required operation that was never done."""
        for kind in REQUIRED:
            if self.done[kind] == 0:
                self.error(f"the load had no {kind}")
