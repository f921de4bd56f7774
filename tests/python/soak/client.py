"""A client of one node."""

import dataclasses
import http.client
import json

REQUEST_TIMEOUT_S = 25.0
JSON = "application/json"
LINES = "application/x-ndjson"
OK = range(200, 300)


@dataclasses.dataclass(frozen=True)
class Answer:
    """An answer: its status, its headers, and its body as parsed JSON, or None without a body."""

    status: int
    headers: http.client.HTTPMessage
    body: object


class Client:
    """Sends requests to one node, on one connection."""

    def __init__(self, port, counts):
        self.port = port
        self.counts = counts
        self.connection = None

    def send(self, method, path, body=None, headers=None, accepted=OK):
        """Sends one request, and returns its answer. A failure, or a status that is not in `accepted`, counts as an
        error, and None is returned."""
        if self.connection is None:
            self.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=REQUEST_TIMEOUT_S)
        headers = dict(headers or {})
        if body is not None:
            headers.setdefault("Content-Type", JSON)
            body = json.dumps(body) + "\n"
        try:
            self.connection.request(method, path, body, headers)
            answer = self.connection.getresponse()
            text = answer.read()
        except (OSError, http.client.HTTPException) as error:
            self.connection.close()
            self.connection = None
            self.counts.error(f"{method} {path}: {type(error).__name__}: {error}")
            return None
        if answer.status not in accepted:
            self.counts.error(f"{method} {path}: {answer.status} {text[:200]!r}")
            return None
        return Answer(answer.status, answer.headers, json.loads(text) if text else None)
