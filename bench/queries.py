"""The measurement of bench/queries: queries.py PROGRAMS FOLDER PRODUCTS ORDERS PORT. Prints a JSON object per load.

Starts a node, creates products and orders through the API, waits until every view has them, and runs the loads of
bench/http-load, one after the other. The orders repeat the invoices of UCI Online Retail, drawn at random with a fixed seed.
"""

import collections
import concurrent.futures
import csv
import datetime
import gzip
import json
import pathlib
import random
import subprocess
import sys
import time
import urllib.parse
import urllib.request

from idle import Node, settings

PARTITIONS = 4
BATCH_LINES = 1000
SENDERS = 4
# Orders for each customer, as in the file.
ORDERS_PER_CUSTOMER = 5
DAYS = 365
KEYS = 5000
PAGES_MAX = 20000
ANSWER_SECONDS_MAX = 600
READ_SECONDS_MAX = 3600
SEED = 1


def get(address, path):
    with urllib.request.urlopen(f"http://{address}{path}", timeout=60) as answer:
        return json.load(answer)


def post(address, lines):
    body = "".join(lines).encode()
    url = f"http://{address}/api/v1/admin/commands"
    request = urllib.request.Request(url, body, {"Content-Type": "application/x-ndjson"})
    with urllib.request.urlopen(request, timeout=ANSWER_SECONDS_MAX) as answer:
        refused = [text for text in answer if json.loads(text)["status"] not in (200, 201)]
    if refused:
        sys.exit(f"a command was refused: {refused[0]}")


def post_all(address, lines):
    """Sends all lines in batches, several at a time."""
    with concurrent.futures.ThreadPoolExecutor(SENDERS) as senders:
        waiting = collections.deque()
        batch = []
        for line in lines:
            batch.append(line)
            if len(batch) == BATCH_LINES:
                waiting.append(senders.submit(post, address, batch))
                batch = []
            if len(waiting) > 2 * SENDERS:
                waiting.popleft().result()
        waiting.append(senders.submit(post, address, batch))
        for sent in waiting:
            sent.result()


def read_file(path):
    """Returns the sales of the file as (lines as JSON, country), and the products as (sku, description, price)."""
    invoices, products = {}, {}
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            sku, description = row["StockCode"], row["Description"].strip()
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


def product_lines(products, count):
    """Repeats the products of the file, each time with another suffix of SKU and description."""
    for number in range(count):
        sku, description, price = products[number % len(products)]
        edition = number // len(products)
        if edition:
            sku, description = f"{sku}-{edition}", f"{description} no {edition}"
        body = json.dumps({"sku": sku, "description": description})
        yield f'{{"key":"product/{number}","command":"CreateProduct","body":{body}}}\n'
        body = json.dumps({"sku": sku, "price": {"amount": price, "currency": "GBP"}})
        yield f'{{"key":"price/{number}","command":"ChangePrice","body":{body}}}\n'


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


def await_views(address):
    started = time.monotonic()
    while not get(address, "/api/v1/admin/progress")["caught_up"]:
        if time.monotonic() - started > READ_SECONDS_MAX:
            sys.exit(f"the views have not read everything within {READ_SECONDS_MAX} s")
        time.sleep(0.5)
    return time.monotonic() - started


def order_ids(address, orders, draw):
    """Returns ids of orders, and of the customers that have them."""
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
    """Searches for one or two words of a product, with the counts by price. Half of the searches have a range of prices."""
    for number in range(KEYS):
        words = [word for word in draw.choice(products)[1].split() if word.isalpha() and len(word) > 2] or ["heart"]
        query = {"q": " ".join(draw.sample(words, min(len(words), 1 + number % 2))), "facets": "true"}
        if number % 4 > 1:
            query |= {"currency": "GBP", "price_min": 100, "price_max": 500}
        yield "/api/v1/products?" + urllib.parse.urlencode(query)


def main():
    programs, stack = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    product_count, order_count, port = map(int, sys.argv[3:6])
    folder = stack / "node-queries"
    environment = settings(folder, "queries", PARTITIONS, port)
    node = Node(programs / "daybook", "serve", folder, environment)
    node.await_ready()
    address, draw = environment["DAYBOOK_HTTP_LISTEN"], random.Random(SEED)
    sales, products = read_file(pathlib.Path(__file__).parent.parent / "data" / "online-retail.csv.gz")

    started = time.monotonic()
    post_all(address, product_lines(products, product_count))
    post_all(address, order_lines(sales, order_count, draw))
    sent = time.monotonic() - started
    behind = await_views(address)
    print(json.dumps({"query.send_s": round(sent), "query.views_behind_s": round(behind)}), flush=True)

    def load(kind, name, lines, *arguments):
        """Runs a load with a file of these lines."""
        file = folder / f"{name}.lines"
        file.write_text("".join(f"{line}\n" for line in lines))
        command = [programs / "bench-http", kind, "--name", f"query.{name}", *arguments, file]
        figures = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
        print(json.dumps(figures), flush=True)
        return figures[f"query.{name}.p99_ms"]

    url = f"http://{address}"
    ids, customers = order_ids(address, order_count, draw)
    skus = [json.loads(line)["body"]["sku"] for line in product_lines(products, min(product_count, KEYS))]
    database = environment["DAYBOOK_POSTGRES_URL"]
    # The stack is new, so the first build of each view answers.
    order_sql = "SELECT o.*, l.* FROM orders_v2_b1 o JOIN orders_v2_lines_b1 l USING (order_id) WHERE order_id = $1"
    order_floor = load("sql", "sql_order_by_key", ids, "--url", database, "--statement", order_sql)
    order = load("closed", "order_by_key", [f"/api/v1/orders/{id}" for id in ids], "--url", url)
    product_sql = "SELECT * FROM catalog_v1_b1 WHERE sku = $1"
    product_floor = load("sql", "sql_product_by_key", skus, "--url", database, "--statement", product_sql)
    paths = [f"/api/v1/products/{urllib.parse.quote(sku, safe='')}" for sku in skus]
    product = load("closed", "product_by_key", paths, "--url", url)
    history = load("closed", "orders_of_customer", customers, "--url", url)
    timeline = load("closed", "timeline_of_order", [f"/api/v1/orders/{id}/timeline" for id in ids], "--url", url)
    search = load("open", "search_with_facets", searches(products, draw), "--url", url)
    figures = {
        "query.key_p99_ms": max(order, product, history, timeline),
        "query.search_p99_ms": search,
        "query.order_vs_sql": round(order / order_floor, 2),
        "query.product_vs_sql": round(product / product_floor, 2),
    }
    print(json.dumps(figures), flush=True)
    command = [programs / "bench-http", "pairs", "--url", url, "--prefix", "pair"]
    print(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip(), flush=True)
    node.stop()


if __name__ == "__main__":
    main()
