"""The steady load: imports of slices of the real data, commands, queries, and restarts of one node."""

import gzip
import http.client
import itertools
import json
import pathlib
import subprocess
import threading
import time

REQUEST_TIMEOUT_S = 25.0
COMMANDS_PER_S = 20.0
QUERIES_PER_S = 10.0
IMPORT_INTERVAL_S = 30.0
RESTART_INTERVAL_S = 120.0
# Number of price changes of a product before the next product is created.
PRICES_PER_PRODUCT = 5
ERRORS_KEPT_MAX = 20
QUERIES = [
    "/api/v1/orders?country=France&limit=20",
    "/api/v1/orders?customer=17850&limit=20",
    "/api/v1/customers/17850/orders?limit=20",
    "/api/v1/analytics/series?job=revenue_by_country&window=day&country=France&to=2011-01-01T00:00:00Z",
    "/api/v1/admin/progress",
]


class Counts:
    """Counts of the load's operations, and its first errors."""

    def __init__(self):
        self.lock = threading.Lock()
        self.done = {"commands": 0, "queries": 0, "imports": 0, "restarts": 0}
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


class Requests:
    """Sends requests to one node, on one connection."""

    def __init__(self, port, counts):
        self.port = port
        self.counts = counts
        self.connection = None

    def send(self, kind, method, path, body=None):
        """Sends one request. An answer other than 2xx is an error."""
        if self.connection is None:
            self.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=REQUEST_TIMEOUT_S)
        headers = {} if body is None else {"Content-Type": "application/json"}
        try:
            self.connection.request(method, path, None if body is None else json.dumps(body), headers)
            answer = self.connection.getresponse()
            text = answer.read()
        except (OSError, http.client.HTTPException) as error:
            self.connection.close()
            self.connection = None
            self.counts.error(f"{method} {path}: {type(error).__name__}: {error}")
            return
        if 200 <= answer.status < 300:
            self.counts.add(kind)
        else:
            self.counts.error(f"{method} {path}: {answer.status} {text[:200]!r}")


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


def send_commands(port, counts, stop):
    """Creates products and changes their prices."""
    requests, run = Requests(port, counts), f"{time.time():.0f}"
    steps = itertools.product(itertools.count(), range(PRICES_PER_PRODUCT + 1))
    for _, (number, step) in zip(at_rate(COMMANDS_PER_S, stop), steps):
        sku = f"SOAK-{run}-{number}"
        if step == 0:
            requests.send("commands", "POST", "/api/v1/products", {"sku": sku, "description": "a product"})
        else:
            price = {"price": {"amount": 100 + step, "currency": "GBP"}}
            requests.send("commands", "PUT", f"/api/v1/products/{sku}/price", price)


def send_queries(port, counts, stop):
    """Sends each query in turn."""
    requests = Requests(port, counts)
    for _, path in zip(at_rate(QUERIES_PER_S, stop), itertools.cycle(QUERIES)):
        requests.send("queries", "GET", path)


def slices_of(path, folder, count):
    """Divides the real data into `count` files, without splitting an invoice. Returns their paths."""
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        header, *lines = file.readlines()
    paths, start = [], 0
    for number in range(count):
        end = len(lines) * (number + 1) // count
        invoice = lines[end - 1].split(",", 1)[0]
        while end < len(lines) and lines[end].split(",", 1)[0] == invoice:
            end += 1
        paths.append(pathlib.Path(folder) / f"slice-{number}.csv")
        paths[-1].write_text(header + "".join(lines[start:end]), encoding="utf-8", newline="")
        start = max(start, end)
    return paths


def import_slices(binary, port, paths, counts, stop):
    """Imports one file after the other."""
    for path in paths:
        command = [binary, "import", "online-retail", str(path), "--url", f"http://127.0.0.1:{port}"]
        command += ["--report", str(path.with_suffix(".json")), "--rejects", str(path.with_suffix(".rejects.csv"))]
        imported = subprocess.run(command, capture_output=True, text=True, check=False)
        if imported.returncode == 0:
            counts.add("imports")
        else:
            counts.error(f"import of {path.name}: exit code {imported.returncode}: {imported.stderr[-500:]}")
        if stop.wait(IMPORT_INTERVAL_S):
            return


def restart(node, counts, stop):
    """Stops a node with SIGTERM and starts it again, at intervals."""
    while not stop.wait(RESTART_INTERVAL_S):
        fault = node.stop()
        node.start()
        if fault is None and not node.await_ready():
            fault = f"node {node.role} did not become ready after a restart; see {node.folder}/log"
        if fault is None:
            counts.add("restarts")
        else:
            counts.error(fault)
