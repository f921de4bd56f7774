"""Clients that change prices, with and without expected versions and idempotency keys. They record all attempts and
answers. Each price is used once in a run, so it identifies the command that set it."""

import http.client
import json
import threading
import time
import uuid

# After all faults have ended, a command with a key must get its answer within this time.
RETRY_AFTER_FAULTS_S = 60.0
# Longer than a node needs for any answer.
ATTEMPT_TIMEOUT_S = 25.0
PAUSE_S = 0.08
RETRY_PAUSES_S = (0.05, 0.4)
SKUS = [f"CHAOS-{number}" for number in range(8)]
CURRENCY = "GBP"
# The outcome is unknown: send the command again.
UNAVAILABLE = 503
# Maximum number of answered commands that a client keeps for repetitions.
ANSWERED_MAX = 50
CREATION_ATTEMPTS_MAX = 100
# Origin of the clock of all operations, which starts at the system's time and never jumps.
STARTED = time.time() - time.monotonic()


def now():
    """Seconds since 1970."""
    return STARTED + time.monotonic()


def is_definite(outcome):
    """Whether an attempt's outcome is an answer about the command."""
    return isinstance(outcome, int) and outcome != UNAVAILABLE


class Command:
    """A command of a client, with its attempts and its answer."""

    def __init__(self, number, client, sku, amount, expected, key, repeats=None):
        self.number = number
        self.client = client
        self.sku = sku
        # The service rejects a price of zero.
        self.amount = amount
        # The expected version of the product, if any.
        self.expected = expected
        self.key = key
        # The number of the first command with the same key.
        self.repeats = repeats
        # True for a different command with that key.
        self.is_other = False
        self.began = None
        self.ended = None
        self.attempts = []
        self.answer = None

    def operation(self):
        """All fields, for the history."""
        return dict(vars(self))


class RetryDeadline:
    """The time at which clients stop retrying. It is infinity until all faults have ended."""

    def __init__(self):
        self.ends_at = float("inf")

    def start(self):
        """Starts the countdown, after all faults have ended."""
        self.ends_at = now() + RETRY_AFTER_FAULTS_S


class Sender:
    """Sends commands to nodes, on connections of its own, with retries."""

    def __init__(self, nodes, retry_deadline, history, rng):
        self.nodes = nodes
        self.retry_deadline = retry_deadline
        self.history = history
        self.rng = rng
        self.connections = {}
        # Time at which each connection was opened; it may have been lost since.
        self.connected = {}

    def send(self, command):
        """Sends a command until it is answered, or once if it has no key."""
        command.began = command.began or now()
        self.history.open(command)
        while True:
            node = self.rng.choice(self.nodes)
            at = now()
            outcome, answer = self.attempt(node, command)
            connected = self.connected.get(node.port, at)
            command.attempts.append(
                {"node": node.port, "connected": connected, "at": at, "took": now() - at, "outcome": outcome}
            )
            if is_definite(outcome):
                command.answer = answer
                break
            if command.key is None or now() > self.retry_deadline.ends_at:
                break
            time.sleep(self.rng.uniform(*RETRY_PAUSES_S))
        command.ended = now()
        self.history.add(command)

    def attempt(self, node, command):
        """Sends one request; returns status and answer, or the name of the error and None."""
        headers = {"Content-Type": "application/json"}
        if command.key is not None:
            headers["Idempotency-Key"] = command.key
        if command.expected is not None:
            headers["If-Match"] = f'"{command.expected}"'
        body = json.dumps({"price": {"amount": command.amount, "currency": CURRENCY}})
        connection = self.connections.get(node.port)
        if connection is None:
            connection = http.client.HTTPConnection("127.0.0.1", node.port, timeout=ATTEMPT_TIMEOUT_S)
            self.connections[node.port] = connection
        if connection.sock is None:
            self.connected[node.port] = now()
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
        }


class Client(threading.Thread):
    """Sends one command after the other, each to a random node."""

    def __init__(self, number, nodes, numbers, retry_deadline, history, stop, rng):
        super().__init__(daemon=True)
        self.number = number
        self.numbers = numbers
        self.stop = stop
        self.rng = rng
        self.sender = Sender(nodes, retry_deadline, history, rng)
        # It has its own rng, because both are used at the same time.
        self.second_sender = Sender(nodes, retry_deadline, history, type(rng)(rng.random()))
        self.versions = {}
        self.answered = []

    def run(self):
        while not self.stop.is_set():
            if self.answered and self.rng.random() < 0.1:
                self.repeat(self.rng.choice(self.answered))
            else:
                self.send_new()
            time.sleep(PAUSE_S * self.rng.random())

    def send_new(self):
        """Sends a new command; sometimes twice at the same time."""
        # One product gets as many commands as all others together.
        sku = SKUS[0] if self.rng.random() < 0.5 else self.rng.choice(SKUS)
        is_rejected = self.rng.random() < 0.08
        expected = self.versions.get(sku, 1) if not is_rejected and self.rng.random() < 0.65 else None
        key = str(uuid.UUID(int=self.rng.getrandbits(128))) if self.rng.random() < 0.8 else None
        number = next(self.numbers)
        amount = 0 if is_rejected else number
        command = Command(number, self.number, sku, amount, expected, key)
        if key and self.rng.random() < 0.08:
            twin = Command(next(self.numbers), self.number, sku, amount, expected, key, repeats=number)
            thread = threading.Thread(target=self.second_sender.send, args=[twin], daemon=True)
            # The second one may arrive first.
            command.began = now()
            thread.start()
            self.sender.send(command)
            thread.join()
        else:
            self.sender.send(command)
        if command.answer and command.answer["version"] is not None:
            self.versions[sku] = max(self.versions.get(sku, 1), command.answer["version"])
        if key and command.answer:
            self.answered.append(command)
            del self.answered[:-ANSWERED_MAX]

    def repeat(self, earlier):
        """Sends an answered command a second time, or another command with its key."""
        number = next(self.numbers)
        command = Command(
            number, self.number, earlier.sku, earlier.amount, earlier.expected, earlier.key, earlier.number
        )
        if self.rng.random() < 0.2:
            command.is_other, command.amount = True, number
        self.sender.send(command)


class History:
    """All operations, in memory and in a file."""

    def __init__(self, path):
        self.operations = []
        # Commands in flight, by number.
        self.in_flight = {}
        self.lock = threading.Lock()
        self.file = open(path, "w", encoding="utf-8")

    def open(self, command):
        """Adds a command that is sent."""
        with self.lock:
            self.in_flight[command.number] = command

    def in_flight_since(self, time):
        """Commands that were sent before a time and have not ended."""
        with self.lock:
            return [command for command in self.in_flight.values() if command.began < time]

    def add(self, command):
        """Adds a command that has ended."""
        operation = command.operation()
        with self.lock:
            del self.in_flight[command.number]
            self.operations.append(operation)
            self.file.write(json.dumps(operation) + "\n")

    def close(self):
        """Closes the file."""
        with self.lock:
            self.file.close()


def create_products(nodes):
    """Creates the products; each then has version 1."""
    for sku in SKUS:
        body = json.dumps({"sku": sku, "description": "CHAOS"})
        headers = {"Content-Type": "application/json", "Idempotency-Key": f"create-{sku}"}
        for attempt in range(CREATION_ATTEMPTS_MAX):
            connection = http.client.HTTPConnection(
                "127.0.0.1", nodes[attempt % len(nodes)].port, timeout=ATTEMPT_TIMEOUT_S
            )
            try:
                connection.request("POST", "/api/v1/products", body, headers)
                status = connection.getresponse().status
            finally:
                connection.close()
            if status in (200, 201):
                break
            time.sleep(0.2)
        else:
            raise SystemExit(f"{sku} can't be created: {status}")
