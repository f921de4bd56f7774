"""The parts of the load that write: imports of slices of the real data, commands, and restarts of one node."""

import gzip
import itertools
import pathlib
import subprocess
import time

from client import Client
from counts import STALE

COMMANDS_PER_S = 20.0
IMPORT_INTERVAL_S = 30.0
# Number of lines of a slice: the file's 541,909 lines, in an hour. A shorter run imports the beginning of the file, at
# the same rate, so that its load is as steady as that of a long one.
SLICE_LINES = 4500
RESTART_INTERVAL_S = 120.0
# Minimum number of restarts of a run, which in a short run makes their interval shorter.
RESTARTS_MIN = 2
# Number of price changes of a product before the next product is created.
PRICES_PER_PRODUCT = 5


def run_job(counts, job, *arguments):
    """Runs a job of the load. An exception ends the job, and counts as an error."""
    try:
        job(*arguments)
    except Exception as error:  # The kind of exception does not matter.
        counts.error(f"{job.__name__} ended: {type(error).__name__}: {error}")


def at_rate(per_s, stop):
    """Yields at a constant rate, without catching up after a delay, until `stop`."""
    while not stop.wait(1 / per_s):
        yield


def product_steps():
    """Yields (number of a product, step) without end. Step 0 creates the product, and each later one changes its price."""
    for number in itertools.count():
        for step in range(PRICES_PER_PRODUCT + 1):
            yield number, step


def send_commands(port, counts, stop):
    """Creates products and changes their prices. Reads each product with the position of its last price."""
    client, run = Client(port, counts), f"{time.time():.0f}"
    for _, (number, step) in zip(at_rate(COMMANDS_PER_S, stop), product_steps()):
        sku = f"SOAK-{run}-{number}"
        if step == 0:
            answer = client.send("POST", "/api/v1/products", {"sku": sku, "description": "a product"})
        else:
            price = {"price": {"amount": 100 + step, "currency": "GBP"}}
            answer = client.send("PUT", f"/api/v1/products/{sku}/price", price)
        if answer is None:
            continue
        counts.add("commands")
        if step == PRICES_PER_PRODUCT:
            read_own_write(client, counts, sku, answer)


def read_own_write(client, counts, sku, written):
    """Reads a product with the position of a write. The answer must have the write's version, or a mark as stale."""
    position, version = written.headers["Daybook-Position"], written.headers["ETag"]
    path = f"/api/v1/products/{sku}"
    answer = client.send("GET", path, headers={"Daybook-Position": position}, accepted=(200, 404))
    if answer is None:
        return
    if answer.status == 200 and answer.headers["ETag"] == version:
        counts.add("reads of own writes")
    elif answer.headers["Daybook-Stale"] is not None:
        counts.add(STALE)
    else:
        found = f"{answer.status} with ETag {answer.headers['ETag']}"
        counts.error(f"GET {path} at {position}: {found} instead of {version}, and not marked as stale")


def slices_of(path, folder, count):
    """Divides the beginning of the real data, at most the whole file, into `count` files of at most about SLICE_LINES
    lines, without splitting an invoice. Returns their paths."""
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        header, *lines = file.readlines()
    used = min(len(lines), SLICE_LINES * count)
    paths, start = [], 0
    for number in range(count):
        end = max(start + 1, used * (number + 1) // count)
        if start >= len(lines):
            break
        invoice = lines[end - 1].split(",", 1)[0]
        while end < len(lines) and lines[end].split(",", 1)[0] == invoice:
            end += 1
        paths.append(pathlib.Path(folder) / f"slice-{number}.csv")
        paths[-1].write_text(header + "".join(lines[start:end]), encoding="utf-8", newline="")
        start = end
    return paths


def import_slices(binary, port, paths, counts, stop):
    """Imports one file after the other."""
    for path in paths:
        # The dates of a few days often do not show which part is the day.
        command = [binary, "import", "online-retail", str(path), "--dates", "month-first"]
        command += ["--url", f"http://127.0.0.1:{port}"]
        command += ["--report", str(path.with_suffix(".json")), "--rejects", str(path.with_suffix(".rejects.csv"))]
        imported = subprocess.run(command, capture_output=True, text=True, check=False)
        if imported.returncode == 0:
            counts.add("imports")
        else:
            counts.error(f"import of {path.name}: exit code {imported.returncode}: {imported.stderr[-500:]}")
        if stop.wait(IMPORT_INTERVAL_S):
            return


def restart_interval(seconds):
    """The time between two restarts in a run of some seconds."""
    return min(RESTART_INTERVAL_S, seconds / (RESTARTS_MIN + 1))


def restart(node, interval_s, counts, stop):
    """Stops a node with SIGTERM and starts it again, at intervals."""
    while not stop.wait(interval_s):
        fault = node.stop()
        node.start()
        if fault is None and not node.await_ready():
            fault = f"node {node.role} did not become ready after a restart; see {node.folder}/log"
        if fault is None:
            counts.add("restarts")
        else:
            counts.error(fault)
