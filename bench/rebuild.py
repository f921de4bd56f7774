"""The run of bench/rebuild: rebuild.py PROGRAMS FOLDER QUERIES PORT. Prints a JSON object per view.

Starts a node, imports UCI Online Retail, and rebuilds each view while bench-http sends queries at a fixed rate. A query that
is not answered with 200 ends the run.
"""

import json
import pathlib
import re
import subprocess
import sys
import threading
import time
import urllib.request

from idle import Node, settings
from queries import await_views, get

PARTITIONS = 4
# Duration of the queries: longer than a rebuild, so that they continue until its end.
LOAD_SECONDS = 40
LOAD_SECONDS_MAX = 120
DATA = pathlib.Path(__file__).parent.parent / "data" / "online-retail.csv.gz"
# The comparison of two builds counts the rows of the view.
COMPARED = re.compile(r"(\d+) rows")
# The number of events that a build has applied, by its labels.
APPLIED = re.compile(r"^daybook_projections_events_applied_total\{([^}]*)\} (\d+)$", re.MULTILINE)
LABEL = re.compile(r'(\w+)="([^"]*)"')
# Time between two readings of the metrics.
READING_SECONDS = 0.05


class Applying(threading.Thread):
    """Measures the time in which the next build of a view applies the log. It begins once the build has its tables."""

    def __init__(self, address, view):
        super().__init__(daemon=True)
        self.address, self.view = address, view
        self.before = max(self.builds(), default=0)
        self.stopped = threading.Event()
        self.readings = []

    def builds(self):
        """The number of events that each build of the view has applied."""
        with urllib.request.urlopen(f"http://{self.address}/metrics", timeout=60) as answer:
            text = answer.read().decode()
        counts = [(dict(LABEL.findall(labels)), int(count)) for labels, count in APPLIED.findall(text)]
        return {int(labels["build"]): count for labels, count in counts if labels["view"] == self.view}

    def run(self):
        while not self.stopped.wait(READING_SECONDS):
            self.read()

    def read(self):
        new = [count for build, count in self.builds().items() if build > self.before]
        if new:
            self.readings.append((time.monotonic(), *new))

    def seconds(self):
        """Stops, and returns the time from the first reading to the first one that has every event."""
        self.stopped.set()
        self.join()
        self.read()
        if not self.readings:
            sys.exit(f"the metrics have no new build of {self.view}")
        all_events = self.readings[-1][1]
        return next(at for at, count in self.readings if count == all_events) - self.readings[0][0]


def query_paths(address):
    """Queries of every view."""
    orders = get(address, "/api/v1/orders?limit=100")["orders"]
    customers = sorted({order["customer"] for order in orders if order.get("customer")})
    products = [product["sku"] for product in get(address, "/api/v1/products?limit=100")["products"] if product["sku"].isalnum()]
    yield from (f"/api/v1/orders/{order['id']}" for order in orders)
    yield from (f"/api/v1/orders/{order['id']}/timeline" for order in orders)
    yield from (f"/api/v1/customers/{customer}" for customer in customers)
    yield from (f"/api/v1/customers/{customer}/orders" for customer in customers)
    yield from (f"/api/v1/products/{sku}" for sku in products)
    yield "/api/v1/countries"


def main():
    programs, stack, queries, port = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
    folder = stack / "node-rebuild"
    environment = settings(folder, "rebuild", PARTITIONS, port)

    def daybook(*arguments):
        command = [programs / "daybook", *arguments]
        return subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout

    node = Node(programs / "daybook", "serve", folder, environment)
    node.await_ready()
    address = environment["DAYBOOK_HTTP_LISTEN"]
    url = f"http://{address}"
    daybook("import", "online-retail", str(DATA), "--url", url, "--report", str(folder / "report.json"))
    await_views(address)
    file = folder / "paths"
    paths = list(query_paths(address))
    file.write_text("".join(f"{path}\n" for path in paths))
    answers = {path: get(address, path) for path in paths}

    listed = [line.split() for line in daybook("views", "list").splitlines() if re.match(r"\w+_v\d+\s", line)]
    databases = {view: database for view, database, *_ in listed}
    slowest, fastest = 0, {database: 0 for database in databases.values()}
    for view in sorted(databases):
        name = f"rebuild.{view}"
        load = [programs / "bench-http", "open", "--name", name, "--url", url, "--rate", queries, "--seconds", str(LOAD_SECONDS), file]
        with subprocess.Popen(load, stdout=subprocess.PIPE, text=True) as loading:
            applying = Applying(address, view)
            applying.start()
            started = time.monotonic()
            daybook("views", "rebuild", view)
            taken = time.monotonic() - started
            # At least one interval, because a small view may need less.
            applied = max(applying.seconds(), READING_SECONDS)
            still_loading = loading.poll() is None
            output, _ = loading.communicate(timeout=LOAD_SECONDS_MAX)
        if loading.returncode != 0:
            sys.exit(f"a query failed while {view} was rebuilt")
        if not still_loading:
            sys.exit(f"the rebuild of {view} took longer than the queries, {taken:.1f} s")
        compared = daybook("views", "diff", view)
        rows = int(COMPARED.search(compared)[1])
        daybook("views", "switch", view)
        check(address, answers, f"after the switch of {view}")
        daybook("views", "undo", view)
        check(address, answers, f"after the undo of {view}")
        figures = {f"{name}.taken_s": round(taken, 1), f"{name}.rows": rows, f"{name}.rows_s": round(rows / taken)}
        figures |= {f"{name}.applied_s": round(applied, 2), f"{name}.applied_rows_s": round(rows / applied)}
        print(json.dumps(figures | json.loads(output)), flush=True)
        slowest = max(slowest, taken)
        fastest[databases[view]] = max(fastest[databases[view]], rows / taken)
    figures = {
        "views.rebuild_s": round(slowest, 1),
        "views.postgres_rows_s": round(fastest["Postgres"]),
        "views.cql_rows_s": round(fastest["CQL"]),
    }
    print(json.dumps(figures), flush=True)
    node.stop()


def check(address, answers, moment):
    for path, expected in answers.items():
        found = get(address, path)
        if found != expected:
            sys.exit(f"{moment}, {path} answers {found} instead of {expected}")


if __name__ == "__main__":
    main()
