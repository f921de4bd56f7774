"""One measurement of bench/live: live.py BINARY FOLDER FORM CLIENTS ROUNDS PORT. FORM is sse or websocket.

Starts a node, imports a sale for each customer, connects a client to the events of each customer, and compares the
node's memory before and after. Then, in each round, it imports another sale for each customer, and takes the time until
every client has its event. Prints a JSON object per figure.
"""

import asyncio
import json
import pathlib
import statistics
import sys
import time

from idle import Node, settings
from queries import await_views, line_of, post_all

PARTITIONS = 4
CONNECTING_MAX = 100
CONNECT_SECONDS_MAX = 60
SETTLE_SECONDS = 20
EVENT_SECONDS_MAX = 120
# The service's default bound on live clients. It must be raised for more clients.
LIVE_CLIENTS_DEFAULT = 10_000
# Size of a client's buffer: more than the start of an event, in which `readuntil` searches.
BUFFER_BYTES = 1 << 14
UPGRADE = (
    "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)


def import_sales(address, clients, batch):
    def line(number):
        sale = {
            "invoice": f"{batch} {number}",
            "customer": f"c{number}",
            "country": "EIRE",
            "currency": "GBP",
            "ordered_at": "2010-12-01T08:26:00Z",
            "lines": [{"sku": "A", "quantity": 1, "unit_price": 1_000_000}],
        }
        return line_of(f"{batch}/{number}", "ImportSale", sale)

    post_all(address, (line(number) for number in range(clients)))


async def connect(address, number, form, permits):
    """Returns reader and writer of a client that is connected."""
    host, port = address.split(":")
    async with permits:
        reader, writer = await asyncio.open_connection(host, int(port), limit=BUFFER_BYTES)
        upgrade = UPGRADE if form == "websocket" else ""
        head = f"GET /api/v1/customers/c{number}/events HTTP/1.1\r\nHost: {address}\r\n{upgrade}\r\n"
        writer.write(head.encode())
        expected = b"101" if form == "websocket" else b"200"
        status = await reader.readline()
        if status.split()[1:2] != [expected]:
            raise ConnectionError(f"client {number} was refused: {status}")
        # The first SSE block, or the first WebSocket message, has the client's position.
        await asyncio.wait_for(reader.readuntil(b"journal.orders/0@"), CONNECT_SECONDS_MAX)
    return reader, writer


async def run_round(address, streams, batch):
    """Imports a sale for each client; returns the events per second until each client has its event."""
    # Each event has this text once, in its type.
    waits = [asyncio.create_task(reader.readuntil(b"SaleImported")) for reader, _ in streams]
    started = time.monotonic()
    await asyncio.to_thread(import_sales, address, len(streams), batch)
    await asyncio.wait_for(asyncio.gather(*waits), EVENT_SECONDS_MAX)
    return len(streams) / (time.monotonic() - started)


async def measure(node, address, form, clients, rounds):
    await asyncio.to_thread(await_views, address)
    await asyncio.sleep(SETTLE_SECONDS)
    before = node.resident_mb()
    permits = asyncio.Semaphore(CONNECTING_MAX)
    streams = await asyncio.gather(*(connect(address, number, form, permits) for number in range(clients)))
    await asyncio.sleep(SETTLE_SECONDS)
    grown = node.resident_mb() - before
    rates = [await run_round(address, streams, f"round {number}") for number in range(rounds)]
    after = node.resident_mb() - before
    for name, value, unit in [
        (f"live.{form}_rss_mb_{clients}", round(grown, 1), "MiB"),
        (f"live.{form}_rss_per_client_kib", round(1024 * grown / clients, 1), "KiB"),
        (f"live.{form}_events_s_{clients}", round(statistics.median(rates)), "events/s"),
        (f"live.{form}_rss_after_events_mb_{clients}", round(after, 1), "MiB"),
    ]:
        print(json.dumps({"bench": name, "value": value, "unit": unit}), flush=True)
    for _, writer in streams:
        writer.close()


def main():
    binary, stack, form = sys.argv[1], pathlib.Path(sys.argv[2]), sys.argv[3]
    clients, rounds, port = int(sys.argv[4]), int(sys.argv[5]), sys.argv[6]
    name = f"live{form}"
    folder = stack / f"node-{name}"
    environment = settings(folder, name, PARTITIONS, port)
    environment["DAYBOOK_HTTP_LIVE_CLIENTS_MAX"] = str(max(clients, LIVE_CLIENTS_DEFAULT))
    address = environment["DAYBOOK_HTTP_LISTEN"]
    node = Node(binary, "serve", folder, environment)
    try:
        node.await_ready()
        import_sales(address, clients, "first")
        asyncio.run(measure(node, address, form, clients, rounds))
    finally:
        node.kill()


if __name__ == "__main__":
    main()
