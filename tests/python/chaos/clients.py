"""Clients that change prices: with expected versions and without, with keys and without; and that write down all they
sent and heard. A price is given once in a run, so it names the command that set it."""

import http.client
import itertools
import json
import threading
import time
import uuid

# A command with a key is tried again for so long; beyond that it waited for ever.
PATIENCE_S = 90.0
ATTEMPT_TIMEOUT_S = 25.0
PAUSE_S = 0.02
RETRY_PAUSES_S = (0.05, 0.4)
SKUS = [f"CHAOS-{number}" for number in range(8)]
# Statuses that say nothing of the command: send it again.
PASSING = {421, 429, 500, 502, 503, 504}


class Command:
    """One wish of a client, and its story."""

    def __init__(self, number, client, sku, kind, expected, amount, key):
        self.number = number
        self.client = client
        self.sku = sku
        self.kind = kind
        self.expected = expected
        self.amount = amount
        self.key = key
        self.began = time.time()
        self.ended = None
        self.attempts = []
        self.answer = None

    def story(self):
        return dict(vars(self))


class Client(threading.Thread):
    """Sends one command after the other, each to any node."""

    def __init__(self, number, nodes, numbers, history, stop, random):
        super().__init__(daemon=True)
        self.number = number
        self.nodes = nodes
        self.numbers = numbers
        self.history = history
        self.stop = stop
        self.random = random
        self.connections = {}
        self.versions = {}
        self.answered = []

    def run(self):
        while not self.stop.is_set():
            if self.answered and self.random.random() < 0.1:
                self.ask_again(self.random.choice(self.answered))
            else:
                self.ask()
            time.sleep(PAUSE_S * self.random.random())

    def ask(self):
        """A new command."""
        sku = SKUS[0] if self.random.random() < 0.5 else self.random.choice(SKUS)
        kind = self.random.choices(["expecting", "plain", "keyless", "refused"], [60, 22, 12, 6])[0]
        expected = self.versions.get(sku, 1) if kind == "expecting" else None
        number = next(self.numbers)
        amount = 0 if kind == "refused" else number
        key = None if kind == "keyless" else str(uuid.UUID(int=self.random.getrandbits(128)))
        command = Command(number, self.number, sku, kind, expected, amount, key)
        self.send(command)
        if key and command.answer:
            self.answered.append(command)
            del self.answered[:-50]

    def ask_again(self, earlier):
        """An answered command once more, with its key: as it was, or as another command."""
        is_other = self.random.random() < 0.2
        amount = next(self.numbers) if is_other else earlier.amount
        kind = "other body" if is_other else "again"
        command = Command(next(self.numbers), self.number, earlier.sku, kind, earlier.expected, amount, earlier.key)
        command.earlier = earlier.number
        self.send(command)

    def send(self, command):
        """Until there is an answer; a command without a key once."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            node = self.random.choice(self.nodes)
            at = time.time()
            status, answer = self.attempt(node, command)
            command.attempts.append({"node": node.port, "at": at, "took": time.time() - at, "heard": status})
            if isinstance(status, int) and status not in PASSING:
                command.answer = answer
                break
            if command.key is None or time.monotonic() > deadline:
                break
            time.sleep(self.random.uniform(*RETRY_PAUSES_S))
        command.ended = time.time()
        version = (command.answer or {}).get("version")
        if version is not None:
            self.versions[command.sku] = version
        self.history.add(command)

    def attempt(self, node, command):
        """One request: status and answer, or what went wrong and None."""
        headers = {"Content-Type": "application/json"}
        if command.key is not None:
            headers["Idempotency-Key"] = command.key
        if command.expected is not None:
            headers["If-Match"] = f'"{command.expected}"'
        body = json.dumps({"price": {"amount": command.amount, "currency": "GBP"}})
        connection = self.connections.get(node.port)
        if connection is None:
            connection = http.client.HTTPConnection("127.0.0.1", node.port, timeout=ATTEMPT_TIMEOUT_S)
            self.connections[node.port] = connection
        try:
            connection.request("PUT", f"/api/v1/products/{command.sku}/price", body, headers)
            response = connection.getresponse()
            content = json.loads(response.read() or b"{}")
        except (OSError, http.client.HTTPException, ValueError) as error:
            connection.close()
            return type(error).__name__, None
        return response.status, {
            "status": response.status,
            "version": content.get("version"),
            "code": content.get("code"),
            "position": response.getheader("Daybook-Position"),
            "replayed": response.getheader("Idempotent-Replayed") == "true" or bool(content.get("replayed")),
        }


class History:
    """All stories, in one file as well."""

    def __init__(self, path):
        self.path = path
        self.commands = []
        self.lock = threading.Lock()
        self.file = open(path, "w", encoding="utf-8")

    def add(self, command):
        with self.lock:
            self.commands.append(command.story())
            self.file.write(json.dumps(command.story()) + "\n")

    def close(self):
        self.file.close()


def create_products(nodes):
    """The products whose prices are changed; each then has version 1."""
    for sku in SKUS:
        body = json.dumps({"sku": sku, "description": "UNDER ATTACK"})
        for attempt in itertools.count():
            connection = http.client.HTTPConnection("127.0.0.1", nodes[attempt % len(nodes)].port, timeout=20)
            headers = {"Content-Type": "application/json", "Idempotency-Key": f"create-{sku}"}
            connection.request("POST", "/api/v1/products", body, headers)
            status = connection.getresponse().status
            connection.close()
            if status in (200, 201):
                break
            if attempt > 50:
                raise SystemExit(f"{sku} can't be created: {status}")
            time.sleep(0.2)
