"""The measurement of bench/queries: queries.py PROGRAMS FOLDER PRODUCTS ORDERS RUNS PORT.

Starts a node, creates products and orders through the API, waits until every view has them, and runs the loads of
bench/http-load, one after the other, RUNS times. The orders repeat the invoices of UCI Online Retail, drawn at random
with a fixed seed. Prints JSON objects of figures. The exit code is 1 if a load failed; the figures of the others are
printed.
"""

import collections
import concurrent.futures
import csv
import datetime
import gzip
import http.client
import json
import os
import pathlib
import random
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

from idle import Node, settings

PARTITIONS = 4
BATCH_LINES = 1000
SENDERS = 4
# Attempts for a batch whose lines were not all decided, for example because a partition had no owner for a moment.
ATTEMPTS_MAX = 10
RETRY_SECONDS = 1
PROGRESS_BATCHES = 100
# Orders for each customer, as in the file.
ORDERS_PER_CUSTOMER = 5
DAYS = 365
KEYS = 5000
PAGES_MAX = 20000
ANSWER_SECONDS_MAX = 600
READ_SECONDS_MAX = 3600
# The stores merge their files in the background after the orders were written.
SETTLE_SECONDS = 60
LOAD_SECONDS_MAX = 600
SEED = 1
# The service's number of connections to Postgres for queries.
CONNECTIONS = 10
# Pairs of a single client, one after the other, while the background load runs. With 64 clients, the machine is
# saturated, and the time until a commit is visible is the time that all of them wait for processors.
PAIRS_ALONE = 1000
# The loads by key. The slowest of them is the figure.
BY_KEY = ["order_by_key", "product_by_key", "orders_of_customer", "timeline_of_order"]


def get(address, path):
    with urllib.request.urlopen(f"http://{address}{path}", timeout=60) as answer:
        return json.load(answer)


def unanswered(address, lines):
    """Sends a batch; returns the lines that were not decided. They can be sent again, because each has its key."""
    url = f"http://{address}/api/v1/admin/commands"
    request = urllib.request.Request(url, "".join(lines).encode(), {"Content-Type": "application/x-ndjson"})
    left = dict(enumerate(lines, start=1))
    try:
        with urllib.request.urlopen(request, timeout=ANSWER_SECONDS_MAX) as answers:
            for text in answers:
                answer = json.loads(text)
                if answer["status"] in (200, 201):
                    left.pop(answer["line"])
                elif answer["status"] != 503:
                    sys.exit(f"a command was refused: {answer}")
    except urllib.error.HTTPError as error:
        if error.code != 503:
            sys.exit(f"a batch was refused: {error.code} {error.read()[:500]}")
    except (OSError, http.client.HTTPException) as error:
        print(f"a batch was interrupted: {error}", file=sys.stderr)
    return list(left.values())


def post(address, lines):
    """Sends a batch until each of its commands is decided."""
    for _ in range(ATTEMPTS_MAX):
        lines = unanswered(address, lines)
        if not lines:
            return
        time.sleep(RETRY_SECONDS)
    sys.exit(f"{len(lines)} commands of a batch were not decided in {ATTEMPTS_MAX} attempts")


def post_all(address, lines):
    """Sends all lines in batches, several at a time."""
    sent = 0
    with concurrent.futures.ThreadPoolExecutor(SENDERS) as senders:
        waiting = collections.deque()
        batch = []
        for line in lines:
            batch.append(line)
            if len(batch) < BATCH_LINES:
                continue
            waiting.append(senders.submit(post, address, batch))
            batch = []
            sent += 1
            if sent % PROGRESS_BATCHES == 0:
                print(f"   {sent * BATCH_LINES} commands sent", file=sys.stderr)
            if len(waiting) > 2 * SENDERS:
                waiting.popleft().result()
        if batch:
            waiting.append(senders.submit(post, address, batch))
        for posted in waiting:
            posted.result()


def read_file(path):
    """Returns the sales of the file as (lines as JSON, country), and the products as (sku, description, price)."""
    invoices, products = {}, {}
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            sku, description = row["StockCode"].strip(), row["Description"].strip()
            millionths = round(float(row["UnitPrice"]) * 1_000_000)
            if row["InvoiceNo"][0] in "CA" or int(row["Quantity"]) <= 0 or millionths <= 0:
                continue
            line = {"sku": sku, "description": description, "quantity": int(row["Quantity"]), "unit_price": millionths}
            lines, _ = invoices.setdefault(row["InvoiceNo"], ([], row["Country"]))
            lines.append(line)
            if description:
                products[sku] = (description, max(1, millionths // 10_000))
    sales = [(json.dumps(lines), country) for lines, country in invoices.values()]
    return sales, [(sku, *rest) for sku, rest in products.items()]


def repeated(products, count):
    """Repeats the products of the file, each time with another suffix of SKU and description."""
    for number in range(count):
        sku, description, price = products[number % len(products)]
        edition = number // len(products)
        if edition:
            sku, description = f"{sku}-{edition}", f"{description} no {edition}"
        yield sku, description, price


def line_of(key, command, body):
    """A line of a batch."""
    return json.dumps({"key": key, "command": command, "body": body}) + "\n"


def product_lines(products, count):
    for sku, description, _ in repeated(products, count):
        yield line_of(f"product/{sku}", "CreateProduct", {"sku": sku, "description": description})


def price_lines(products, count):
    for sku, _, price in repeated(products, count):
        body = {"sku": sku, "price": {"amount": price, "currency": "GBP"}}
        yield line_of(f"price/{sku}", "ChangePrice", body)


def order_lines(sales, count, draw):
    first_day = datetime.datetime(2010, 12, 1, tzinfo=datetime.timezone.utc)
    for number in range(count):
        lines, country = draw.choice(sales)
        customer = draw.randrange(max(1, count // ORDERS_PER_CUSTOMER))
        at = first_day + datetime.timedelta(minutes=draw.randrange(DAYS * 24 * 60))
        head = json.dumps({
            "invoice": f"g{number}", "customer": f"c{customer}", "country": country, "currency": "GBP",
            "ordered_at": at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        })
        yield f'{{"key":"sale/{number}","command":"ImportSale","body":{head[:-1]}, "lines":{lines}}}}}\n'


def have_caught_up(address):
    """Whether every view and job has reported its progress and has applied all records."""
    try:
        components = get(address, "/health/ready")["components"]
        progress = get(address, "/api/v1/admin/progress")
    except urllib.error.HTTPError as error:
        # Not ready, or the brokers do not answer for a moment.
        if error.code != 503:
            raise
        return False
    expected = sum(name.startswith(("view.", "job.")) for name in components)
    known = {reader["reader"] for reader in progress["readers"]}
    return progress["caught_up"] and 0 < expected <= len(known)


def await_views(address):
    """Returns the seconds until every view and job has applied all records."""
    started = time.monotonic()
    while not have_caught_up(address):
        if time.monotonic() - started > READ_SECONDS_MAX:
            sys.exit(f"the views have not read everything within {READ_SECONDS_MAX} s")
        time.sleep(0.5)
    return time.monotonic() - started


def order_ids(address, orders, draw):
    """Returns ids of orders, and the paths of the customers that have them."""
    ids, customers = [], []
    for _ in range(PAGES_MAX):
        customer = draw.randrange(max(1, orders // ORDERS_PER_CUSTOMER))
        path = f"/api/v1/customers/c{customer}/orders"
        page = [order["id"] for order in get(address, path)["orders"]]
        ids += page
        customers += [path] if page else []
        if len(ids) >= min(KEYS, orders):
            return ids, customers
    sys.exit(f"only {len(ids)} orders were found")


def searches(products, draw):
    """Searches for one or two words of a product, with the counts by price. Half of them have a range of prices."""
    for number in range(KEYS):
        words = [word for word in draw.choice(products)[1].split() if word.isalpha() and len(word) > 2] or ["heart"]
        query = {"q": " ".join(draw.sample(words, min(len(words), 1 + number % 2))), "facets": "true"}
        if number % 4 > 1:
            query |= {"currency": "GBP", "price_min": 100, "price_max": 500}
        yield "/api/v1/products?" + urllib.parse.urlencode(query)


class Loads:
    """The loads of bench-http. Each runs several times, and the figures of each run are kept."""

    def __init__(self, program, folder):
        self.program = program
        self.folder = folder
        self.loads = []
        self.values = collections.defaultdict(list)
        self.failures = []

    def add(self, kind, name, lines, *arguments):
        """Adds a load with a file of these lines."""
        file = self.folder / f"{name}.lines"
        file.write_text("".join(f"{line}\n" for line in lines))
        self.loads.append((name, [kind, "--name", f"query.{name}", *arguments, file]))

    def run(self):
        """Runs each load once."""
        for name, arguments in self.loads:
            self.run_one(name, arguments)

    def run_one(self, name, arguments):
        try:
            ended = subprocess.run(
                [self.program, *arguments], capture_output=True, text=True, timeout=LOAD_SECONDS_MAX, check=False
            )
        except subprocess.TimeoutExpired:
            self.failures.append(f"{name}: not within {LOAD_SECONDS_MAX} s")
            return
        if ended.returncode != 0:
            self.failures.append(f"{name}: exit code {ended.returncode}: {ended.stderr.strip()[:1000]}")
            return
        print(f"   {name}: {ended.stdout.strip()}", file=sys.stderr)
        for figure, value in json.loads(ended.stdout).items():
            self.values[figure].append(value)

    def figures(self):
        """The figures over all runs: the maximum of maximums, the sum of numbers of answers, else the median."""
        return {name: combined(name, values) for name, values in self.values.items()}


def combined(name, values):
    if name.endswith(".max_ms"):
        return max(values)
    if name.endswith((".count", ".stale")):
        return sum(values)
    return round(statistics.median(values), 3)


def summary(figures):
    """The figures of the goals, and the ratios to the baseline. A figure whose loads failed is left out."""
    found = {}
    by_key = [figures.get(f"query.{name}.p99_ms") for name in BY_KEY]
    if None not in by_key:
        found["query.key_p99_ms"] = max(by_key)
    if "query.search_with_facets.p99_ms" in figures:
        found["query.search_p99_ms"] = figures["query.search_with_facets.p99_ms"]
    for what in ["order", "product"]:
        for quantile in ["p50", "p99"]:
            ours = figures.get(f"query.{what}_by_key.{quantile}_ms")
            sql = figures.get(f"query.sql_{what}_by_key.{quantile}_ms")
            if ours is not None and sql:
                found[f"query.{what}_vs_sql_{quantile}"] = round(ours / sql, 2)
    return found


def create(address, products, sales, product_count, order_count, draw):
    """Creates products and orders, and waits until every view has them."""
    started = time.monotonic()
    post_all(address, product_lines(products, product_count))
    # A price needs its product.
    post_all(address, price_lines(products, product_count))
    post_all(address, order_lines(sales, order_count, draw))
    sent = time.monotonic() - started
    behind = await_views(address)
    print(json.dumps({"query.send_s": round(sent), "query.views_behind_s": round(behind)}), flush=True)


def measure(node, environment, programs, folder, product_count, order_count, runs):
    """Creates the data, runs the loads, and prints the figures. Returns whether every load succeeded."""
    node.await_ready()
    address, draw = environment["DAYBOOK_HTTP_LISTEN"], random.Random(SEED)
    sales, products = read_file(pathlib.Path(__file__).parent.parent / "data" / "online-retail.csv.gz")
    create(address, products, sales, product_count, order_count, draw)
    database, url = environment["DAYBOOK_POSTGRES_URL"], f"http://{address}"
    # Brings the tables into the state of a database in use. Autovacuum would otherwise do this during the measurement.
    vacuum = [os.environ["BENCH_PSQL"], "-X", "-q", "-c", "VACUUM ANALYZE", database]
    subprocess.run(vacuum, check=True, stdout=sys.stderr)
    time.sleep(SETTLE_SECONDS)

    ids, customers = order_ids(address, order_count, draw)
    skus = [sku for sku, _, _ in repeated(products, product_count)]
    skus = draw.sample(skus, min(len(skus), KEYS))
    loads = Loads(programs / "bench-http", folder)
    sql = ("--url", database, "--connections", str(CONNECTIONS), "--statement")
    # The stack is new, so the first build of each view answers.
    order_sql = "SELECT o.*, l.* FROM orders_v3_b1 o JOIN orders_v3_lines_b1 l USING (order_id) WHERE order_id = $1"
    product_sql = "SELECT * FROM catalog_v1_b1 WHERE sku = $1"
    loads.add("sql", "sql_order_by_key", ids, *sql, order_sql)
    loads.add("closed", "order_by_key", [f"/api/v1/orders/{id}" for id in ids], "--url", url)
    loads.add("sql", "sql_product_by_key", skus, *sql, product_sql)
    paths = [f"/api/v1/products/{urllib.parse.quote(sku, safe='')}" for sku in skus]
    loads.add("closed", "product_by_key", paths, "--url", url)
    loads.add("closed", "orders_of_customer", customers, "--url", url)
    loads.add("closed", "timeline_of_order", [f"/api/v1/orders/{id}/timeline" for id in ids], "--url", url)
    loads.add("open", "search_with_facets", searches(products, draw), "--url", url)
    for _ in range(runs):
        loads.run()
    # After all queries, because these commands add products and orders.
    for run in range(runs):
        loads.run_one("pairs", ["pairs", "--name", "pairs", "--url", url, "--prefix", f"pair{run}"])
        alone = ["--connections", "1", "--count", str(PAIRS_ALONE)]
        loads.run_one("visible", ["pairs", "--name", "visible", "--url", url, "--prefix", f"alone{run}", *alone])
    figures = loads.figures()
    print(json.dumps(figures | summary(figures)), flush=True)
    for failure in loads.failures:
        print(f"!! {failure}", file=sys.stderr)
    return not loads.failures


def main():
    programs, stack = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    product_count, order_count, runs, port = map(int, sys.argv[3:7])
    folder = stack / "node-queries"
    environment = settings(folder, "queries", PARTITIONS, port)
    node = Node(programs / "daybook", "serve", folder, environment)
    try:
        all_succeeded = measure(node, environment, programs, folder, product_count, order_count, runs)
        node.stop()
    finally:
        node.kill()
    sys.exit(0 if all_succeeded else 1)


if __name__ == "__main__":
    main()
