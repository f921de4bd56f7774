"""Live clients: they connect to the events of a customer, receive sales, leave, and resume behind their last event.

A client makes the sales of its customer itself, one after the other, and waits for the event of each. So any other
event shows a gap or a repetition.
"""

import http.client
import json
import time

from client import LINES, Client

CLIENTS = 16
# Number of sales that a client receives before it leaves.
SALES_PER_SESSION = 5
# Number of sessions before the client begins again without a last event.
SESSIONS = 4
SALE_INTERVAL_S = 4.0
EVENT_TIMEOUT_S = 30.0
# Attempts to connect, with a wait between them, until the view of orders has the customer.
CONNECT_ATTEMPTS_MAX = 60
CONNECT_INTERVAL_S = 0.5


class Stream:
    """A stream of server-sent events. `response` has `readline`; `close` ends the connection."""

    def __init__(self, response, close, last_id=None):
        self.response = response
        self.close = close
        self.last_id = last_id

    def block(self):
        """The name and the data of the next block of lines; data is None for a block that has none."""
        name, data, deadline = "message", None, time.monotonic() + EVENT_TIMEOUT_S
        while time.monotonic() < deadline:
            line = self.response.readline().decode()
            if not line:
                raise EOFError(f"the stream ended behind {self.last_id}")
            field, _, value = line.rstrip("\r\n").partition(":")
            value = value.removeprefix(" ")
            if field == "event":
                name = value
            elif field == "id":
                self.last_id = value
            elif field == "data":
                data = json.loads(value)
            elif not line.strip():
                return name, data
        raise TimeoutError(f"an incomplete event within {EVENT_TIMEOUT_S:.0f} s")

    def await_connected(self):
        """Waits until the stream has an id, from which on it has every event."""
        while self.last_id is None:
            self.block()

    def next_event(self):
        """The next event's data."""
        deadline = time.monotonic() + EVENT_TIMEOUT_S
        while time.monotonic() < deadline:
            name, data = self.block()
            if data is None:
                continue
            if name != "message":
                raise EOFError(f"the stream ended with {name} {data}")
            return data
        raise TimeoutError(f"no event within {EVENT_TIMEOUT_S:.0f} s, behind {self.last_id}")


def connect(port, customer, last_id, stop):
    """Opens a stream; None after `stop`. Without a last event, a customer must be in the view of orders."""
    headers = {"Accept": "text/event-stream"}
    if last_id is not None:
        headers["Last-Event-ID"] = last_id
    for _ in range(CONNECT_ATTEMPTS_MAX):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=EVENT_TIMEOUT_S)
        connection.request("GET", f"/api/v1/customers/{customer}/events", headers=headers)
        response = connection.getresponse()

        def close(connection=connection, response=response):
            response.close()
            connection.close()

        if response.status == 200:
            return Stream(response, close, last_id)
        text = response.read()[:200]
        close()
        if response.status != 404:
            raise ConnectionError(f"events of {customer}: {response.status} {text!r}")
        if stop.wait(CONNECT_INTERVAL_S):
            return None
    raise ConnectionError(f"events of {customer}: still 404 after {CONNECT_ATTEMPTS_MAX} attempts")


class LiveClient:
    """A client of one customer. `sell(number)` makes a sale, and `open_stream(last_id)` opens a stream."""

    def __init__(self, sell, open_stream, counts, stop):
        self.sell = sell
        self.open_stream = open_stream
        self.counts = counts
        self.stop = stop
        # Number of the next sale, and of the next event that is expected.
        self.sold = 0
        self.expected = 0

    def run(self):
        """Connects, receives, leaves and resumes until `stop`."""
        self.make_sale()
        self.expected = self.sold
        while not self.stop.is_set():
            last_id = None
            for session in range(SESSIONS):
                stream = self.open_stream(last_id)
                if stream is None:
                    return
                try:
                    self.follow(stream, is_resumed=last_id is not None)
                finally:
                    stream.close()
                if self.stop.is_set():
                    return
                last_id = stream.last_id
                # The next session begins with the sale that is made meanwhile.
                if session + 1 < SESSIONS:
                    self.make_sale()

    def make_sale(self):
        self.sell(self.sold)
        self.sold += 1

    def follow(self, stream, is_resumed):
        """One session."""
        stream.await_connected()
        while self.expected < self.sold:
            self.receive(stream, is_resumed)
        if is_resumed:
            self.counts.add("resumed streams")
        for _ in range(SALES_PER_SESSION):
            if self.stop.wait(SALE_INTERVAL_S):
                return
            self.make_sale()
            self.receive(stream, is_resumed)

    def receive(self, stream, is_resumed):
        """Receives the event of the expected sale."""
        while True:
            number = int(stream.next_event()["data"]["invoice"].rsplit("-", 1)[1])
            # A stream without a last event begins at the node's position, which may be before the newest sales.
            if is_resumed or number >= self.expected:
                break
        if number != self.expected:
            raise ValueError(f"the event of sale {number} came instead of that of sale {self.expected}")
        self.expected += 1
        self.counts.add("live events")


def sale(customer, number):
    """The line of a batch that makes a sale."""
    invoice = f"{customer}-{number}"
    body = {
        "invoice": invoice,
        "customer": customer,
        "country": "EIRE",
        "currency": "GBP",
        "ordered_at": "2011-12-09T12:50:00Z",
        "lines": [{"sku": "SOAK", "quantity": 1, "unit_price": 1_000_000}],
    }
    return {"key": f"sale/{invoice}", "command": "ImportSale", "body": body}


def follow_live(port, number, counts, stop):
    """Runs one client."""
    customer, client = f"soak-{number}", Client(port, counts)

    def sell(number):
        line = sale(customer, number)
        answer = client.send("POST", "/api/v1/admin/commands", line, headers={"Content-Type": LINES})
        if answer is None or answer.body["status"] != 201:
            raise ConnectionError(f"sale {number} of {customer}: {answer}")
        counts.add("commands")

    LiveClient(sell, lambda last_id: connect(port, customer, last_id, stop), counts, stop).run()
