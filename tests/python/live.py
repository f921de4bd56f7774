#!/usr/bin/env python3
"""Follows live updates with independent clients: `requests` for server-sent events, `websockets` for a WebSocket.

Reads COUNT events after the event LAST-EVENT-ID with each client, and prints one line of JSON with the lists `sse` and
`websocket`. With --until-end it then waits for the end of both streams, and prints a second line with `sse_end` and
`websocket_end`, the reasons that the service gave.

    live.py URL PATH LAST-EVENT-ID COUNT [--until-end]
"""

import json
import sys

import requests
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

TIMEOUT_S = 30


class Events:
    """A stream of server-sent events."""

    def __init__(self, url, last):
        headers = {"Last-Event-ID": last, "Accept": "text/event-stream"}
        self.response = requests.get(url, headers=headers, stream=True, timeout=TIMEOUT_S)
        self.response.raise_for_status()
        self.lines = self.response.iter_lines(chunk_size=1, decode_unicode=True)

    def next(self):
        """The next event that has data, as (name, id, data)."""
        name, last, data = "message", None, []
        for line in self.lines:
            field, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if field == "event":
                name = value
            elif field == "id":
                last = value
            elif field == "data":
                data.append(value)
            elif not line and data:
                return name, last, json.loads("\n".join(data))
            elif not line:
                name = "message"
        raise EOFError("the stream has ended")


def read_events(events, count):
    found = []
    while len(found) < count:
        name, last, data = events.next()
        if name != "message" or last != data["id"]:
            raise ValueError(f"event {name} with id {last}: {data}")
        found.append(data)
    return found


def read_messages(socket, count):
    found = []
    while len(found) < count:
        message = json.loads(socket.recv(timeout=TIMEOUT_S))
        if message["type"] != "Connected":
            found.append(message)
    return found


def main():
    url, path, last, count = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
    until_end = "--until-end" in sys.argv
    events = Events(url + path, last)
    headers = {"Last-Event-ID": last}
    with connect(url.replace("http", "ws", 1) + path, additional_headers=headers, proxy=None) as socket:
        result = {"sse": read_events(events, count), "websocket": read_messages(socket, count)}
        print(json.dumps(result), flush=True)
        if until_end:
            name, _, data = events.next()
            try:
                socket.recv(timeout=TIMEOUT_S)
                raise ValueError("the WebSocket has a message instead of its end")
            except ConnectionClosed as closed:
                end = {"code": closed.rcvd.code, "reason": closed.rcvd.reason}
            print(json.dumps({"sse_end": {"name": name, **data}, "websocket_end": end}), flush=True)


if __name__ == "__main__":
    main()
