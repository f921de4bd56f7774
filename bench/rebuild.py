"""The run of bench/rebuild: rebuild.py PROGRAMS FOLDER QUERIES PORT. Prints a JSON object per view.

Starts a node, imports UCI Online Retail, and rebuilds each view while bench-http sends queries at a fixed rate. A query that
is not answered with 200 ends the run.
"""

import json
import pathlib
import re
import subprocess
import sys
import time

from idle import Node, settings
from queries import await_views, get

PARTITIONS = 4
# Duration of the queries: longer than a rebuild, so that they continue until its end.
LOAD_SECONDS = 40
LOAD_SECONDS_MAX = 120
DATA = pathlib.Path(__file__).parent.parent / "data" / "online-retail.csv.gz"
# The comparison of two builds counts the rows of the view.
COMPARED = re.compile(r"(\d+) rows")


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
            started = time.monotonic()
            daybook("views", "rebuild", view)
            taken = time.monotonic() - started
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
