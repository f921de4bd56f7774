"""Fills the caches of aggregates and answers before the load, so that their growth does not look like a leak.

The caches of a process hold a fixed number of entries (`PROCESS_ENTRIES_MAX` in
journal/src/owner/two_generation_cache.rs), which the load alone reaches only after an hour.
"""

import concurrent.futures
import http.client
import json
import time
import urllib.request

from client import LINES
from live_clients import sale

# Number of products, and of sales. The caches of a node that owns all partitions hold 100,000 of each.
COMMANDS = 110_000
BATCH_LINES = 1_000
SENDERS = 4
# Attempts for a batch whose lines were not all decided, for example because a partition had no owner for a moment.
ATTEMPTS_MAX = 10
RETRY_INTERVAL_S = 1.0
BATCH_TIMEOUT_S = 60.0
CATCH_UP_TIMEOUT_S = 600.0
CATCH_UP_INTERVAL_S = 1.0


def product(number):
    """The line of a batch that creates a product."""
    body = {"sku": f"FILL-{number}", "description": "a product"}
    return {"key": f"fill/{number}", "command": "CreateProduct", "body": body}


def undecided(port, lines):
    """Sends a batch; returns the lines that were not decided. They can be sent again, because each has its key."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=BATCH_TIMEOUT_S)
    body = "".join(f"{json.dumps(line)}\n" for line in lines)
    left = dict(enumerate(lines, start=1))
    try:
        connection.request("POST", "/api/v1/admin/commands", body, {"Content-Type": LINES})
        response = connection.getresponse()
        for text in response:
            answer = json.loads(text)
            if response.status == 200 and answer["status"] in (200, 201):
                left.pop(answer["line"])
    except (OSError, http.client.HTTPException):
        pass  # The lines without an answer are sent again.
    finally:
        connection.close()
    return list(left.values())


def send(port, lines):
    """Sends a batch until each line is decided."""
    for _ in range(ATTEMPTS_MAX):
        lines = undecided(port, lines)
        if not lines:
            return
        time.sleep(RETRY_INTERVAL_S)
    raise SystemExit(f"{len(lines)} lines of a batch were not decided in {ATTEMPTS_MAX} attempts, such as {lines[0]}")


def fill(port):
    """Creates products and sales, and waits until every view has applied them."""
    numbers = [range(start, start + BATCH_LINES) for start in range(0, COMMANDS, BATCH_LINES)]
    batches = [[product(number) for number in part] for part in numbers]
    batches += [[sale(f"fill-{number}", 0) for number in part] for part in numbers]
    with concurrent.futures.ThreadPoolExecutor(SENDERS) as senders:
        list(senders.map(lambda batch: send(port, batch), batches))
    deadline = time.monotonic() + CATCH_UP_TIMEOUT_S
    while time.monotonic() < deadline:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/admin/progress", timeout=BATCH_TIMEOUT_S) as answer:
            if json.load(answer)["caught_up"]:
                return
        time.sleep(CATCH_UP_INTERVAL_S)
    raise SystemExit(f"the views have not applied the first commands within {CATCH_UP_TIMEOUT_S:.0f} s")
