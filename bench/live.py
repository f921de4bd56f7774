"""One measurement of bench/live: live.py BINARY FOLDER FORM CLIENTS PORT. FORM is sse or websocket. Prints figures.

Starts a node, imports a sale for each customer, connects a client to the events of each customer, and compares the node's
memory before and after. Then it imports another sale for each customer, and takes the time until every client has its event.
"""

import asyncio
import json
import pathlib
import sys
import time
import urllib.request

from idle import Node, settings

PARTITIONS = 4
CONNECTING_MAX = 100
SETTLE_SECONDS = 20
EVENT_SECONDS_MAX = 120
UPGRADE = (
    "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
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
        return json.dumps({"key": f"{batch}/{number}", "command": "ImportSale", "body": sale})

    body = "\n".join(line(number) for number in range(clients)) + "\n"
    request = urllib.request.Request(
        f"http://{address}/api/v1/admin/commands", body.encode(), {"Content-Type": "application/x-ndjson"}
    )
    with urllib.request.urlopen(request, timeout=EVENT_SECONDS_MAX) as answer:
        refused = [text for text in answer if json.loads(text)["status"] != 201]
    if refused:
        sys.exit(f"a sale was refused: {refused[0]}")


def await_views(address):
    while True:
        with urllib.request.urlopen(f"http://{address}/api/v1/admin/progress", timeout=30) as answer:
            if json.load(answer)["caught_up"]:
                return
        time.sleep(0.2)


async def connect(address, number, form, permits):
    """Returns the reader of a client that is connected."""
    host, port = address.split(":")
    async with permits:
        reader, writer = await asyncio.open_connection(host, int(port), limit=1 << 14)
        upgrade = UPGRADE if form == "websocket" else ""
        head = f"GET /api/v1/customers/c{number}/events HTTP/1.1\r\nHost: {address}\r\n{upgrade}\r\n"
        writer.write(head.encode())
        status = await reader.readline()
        if status.split()[1] not in (b"101", b"200"):
            sys.exit(f"client {number} was refused: {status}")
        # The first SSE block, or the first WebSocket message, has the client's position.
        await reader.readuntil(b"journal.orders/0@")
    return reader, writer


async def measure(node, address, form, clients):
    await_views(address)
    await asyncio.sleep(SETTLE_SECONDS)
    before = node.resident_mb()
    permits = asyncio.Semaphore(CONNECTING_MAX)
    streams = await asyncio.gather(*(connect(address, number, form, permits) for number in range(clients)))
    await asyncio.sleep(SETTLE_SECONDS)
    grown = node.resident_mb() - before
    waits = [asyncio.create_task(reader.readuntil(b"SaleImported")) for reader, _ in streams]
    started = time.monotonic()
    await asyncio.to_thread(import_sales, address, clients, "second")
    await asyncio.wait_for(asyncio.gather(*waits), EVENT_SECONDS_MAX)
    rate = clients / (time.monotonic() - started)
    for name, value, unit in [
        (f"live.{form}_rss_mb_{clients}", round(grown, 1), "MiB"),
        (f"live.{form}_events_s_{clients}", round(rate), "events/s"),
        (f"live.{form}_rss_after_events_mb_{clients}", round(node.resident_mb() - before, 1), "MiB"),
    ]:
        print(json.dumps({"bench": name, "value": value, "unit": unit}), flush=True)


def main():
    binary, stack, form, clients, port = sys.argv[1], pathlib.Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]), sys.argv[5]
    name = f"live{form}"
    folder = stack / f"node-{name}"
    environment = settings(folder, name, PARTITIONS, port)
    node = Node(binary, "serve", folder, environment)
    node.await_ready()
    address = environment["DAYBOOK_HTTP_LISTEN"]
    import_sales(address, clients, "first")
    asyncio.run(measure(node, address, form, clients))
    node.kill()


if __name__ == "__main__":
    main()
