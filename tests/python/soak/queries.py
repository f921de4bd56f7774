"""The queries of the load: every list with its cursors, every resource, and each again with its answer's tag."""

import urllib.parse

from client import Client

QUERIES_PER_S = 20.0
# Maximum number of pages of a list that are read.
PAGES_MAX = 3
# Maximum number of attempts to find a resource, with a wait between them, because a view may be behind another one.
LAG_ATTEMPTS_MAX = 30
LAG_INTERVAL_S = 1.0
API = "/api/v1"
# Lists of every view. Each answer has a cursor, or null.
LISTS = [
    "/orders?limit=10",
    "/orders?country=France&limit=3",
    "/orders?customer=17850&limit=3",
    "/orders?kind=CREDIT_NOTE&from=2010-12-01T00:00:00Z&to=2011-12-31T00:00:00Z&limit=3",
    "/customers?limit=5",
    "/customers?sort=total&currency=GBP&limit=5",
    "/countries?limit=3",
    "/products?limit=10",
    "/products?sort=price_desc&currency=GBP&limit=5",
    "/products?q=hangign%20heart&currency=GBP&price_max=500&facets=true&limit=3",
    "/analytics/series?job=revenue_by_country&window=day&country=France&limit=2",
    "/analytics/series?job=revenue_by_country&window=hour&from=2010-12-01T00:00:00Z&to=2010-12-02T00:00:00Z&limit=5",
]
# Answers that are complete at once.
WHOLE = ["/products/suggestions?prefix=white%20hang", "/admin/progress"]


class Reader:
    """Sends queries at a constant rate until `stop`."""

    def __init__(self, client, counts, stop):
        self.client = client
        self.counts = counts
        self.stop = stop

    def read_all(self):
        """Sends each query once: the lists, then resources that were found in them."""
        found = {"orders": [], "customers": [], "products": []}
        for path in LISTS:
            for page in self.pages(path):
                for name, rows in found.items():
                    rows += page.get(name, [])
        for path in [*WHOLE, *resources(found)]:
            self.get(path)

    def pages(self, path):
        """The first pages of a list."""
        next_path = path
        for number in range(PAGES_MAX):
            answer = self.get(next_path)
            if answer is None:
                return
            if number > 0:
                self.counts.add("later pages")
            yield answer.body
            cursor = answer.body["next_cursor"]
            if cursor is None:
                return
            next_path = f"{path}&cursor={urllib.parse.quote(cursor, safe='')}"

    def get(self, path):
        """The answer of a query, which is then sent again with the answer's tag. None after an error or `stop`."""
        answer = self.find(path)
        if answer is None:
            return None
        tag = answer.headers["ETag"]
        if tag is None:
            self.counts.error(f"GET {path}: the answer has no ETag")
            return answer
        again = self.client.send("GET", API + path, headers={"If-None-Match": tag}, accepted=(200, 304))
        if again is not None:
            self.counts.add("queries" if again.status == 200 else "unchanged answers")
        if again is not None and again.status == 304 and again.body is not None:
            self.counts.error(f"GET {path}: a 304 has a body")
        return answer

    def find(self, path):
        """The answer of a query. Waits until its view has the resource, because the list's view may be ahead of it."""
        for _ in range(LAG_ATTEMPTS_MAX):
            if self.stop.wait(1 / QUERIES_PER_S):
                return None
            answer = self.client.send("GET", API + path, accepted=(200, 404))
            if answer is None:
                return None
            if answer.status == 200:
                self.counts.add("queries")
                return answer
            if self.stop.wait(LAG_INTERVAL_S):
                return None
        self.counts.error(f"GET {path}: still 404 after {LAG_ATTEMPTS_MAX} attempts, although a list has it")
        return None


def resources(found):
    """The paths of one resource of each kind: the last one in the lists."""
    paths = []
    if found["orders"]:
        order = found["orders"][-1]["id"]
        paths += [f"/orders/{order}", f"/orders/{order}/timeline?limit=1"]
    if found["customers"]:
        customer = urllib.parse.quote(found["customers"][-1]["id"], safe="")
        paths += [f"/customers/{customer}", f"/customers/{customer}/orders?limit=3"]
    if found["products"]:
        paths.append(f"/products/{urllib.parse.quote(found['products'][-1]['sku'], safe='')}")
    return paths


def send_queries(port, counts, stop):
    """Sends all queries again and again."""
    reader = Reader(Client(port, counts), counts, stop)
    while not stop.is_set():
        reader.read_all()
