"""Clients that change prices: with expected versions and without, with keys and without; and that write down all they
sent and heard. A price is asked for once in a run, so it names the command that set it."""

import http.client
import json
import threading
import time
import uuid

# Once all is well again, a command with a key gets its answer within so long.
PATIENCE_S = 60.0
# Longer than any node may take for its answer.
ATTEMPT_TIMEOUT_S = 25.0
PAUSE_S = 0.08
RETRY_PAUSES_S = (0.05, 0.4)
SKUS = [f"CHAOS-{number}" for number in range(8)]
CURRENCY = "GBP"
# Says nothing of the command: send it again.
UNAVAILABLE = 503
# How many answered commands a client remembers.
ANSWERED_MAX = 50
CREATION_TRIES_MAX = 100
# The clock of all stories: as the system's, but it never jumps.
STARTED = time.time() - time.monotonic()


def now():
    """Seconds since 1970."""
    return STARTED + time.monotonic()


def is_answer(heard):
    """Whether what an attempt heard says something of the command."""
    return isinstance(heard, int) and heard != UNAVAILABLE


class Command:
    """One wish of a client, and its story."""

    def __init__(self, number, client, sku, amount, expected, key, repeats=None):
        self.number = number
        self.client = client
        self.sku = sku
        # Zero is a price that is refused.
        self.amount = amount
        # The version that the product must have, if it matters.
        self.expected = expected
        self.key = key
        # The number of the command that has the same key and was sent first.
        self.repeats = repeats
        # Whether it asks for something else under that key.
        self.is_other = False
        self.began = None
        self.ended = None
        self.attempts = []
        self.answer = None

    def story(self):
        """All of it."""
        return dict(vars(self))


class Patience:
    """How long clients try: for as long as it lasts that things are broken, and a while longer."""

    def __init__(self):
        self.ends_at = float("inf")

    def all_is_well(self):
        """From now on there is no excuse."""
        self.ends_at = now() + PATIENCE_S


class Courier:
    """Brings commands to nodes, on connections of its own."""

    def __init__(self, nodes, patience, history, random):
        self.nodes = nodes
        self.patience = patience
        self.history = history
        self.random = random
        self.connections = {}
        # Since when each has been open: it may have been lost since.
        self.connected = {}

    def send(self, command):
        """Until there is an answer; a command without a key once."""
        command.began = command.began or now()
        self.history.open(command)
        while True:
            node = self.random.choice(self.nodes)
            at = now()
            heard, answer = self.attempt(node, command)
            connected = self.connected.get(node.port, at)
            command.attempts.append(
                {"node": node.port, "connected": connected, "at": at, "took": now() - at, "heard": heard}
            )
            if is_answer(heard):
                command.answer = answer
                break
            if command.key is None or now() > self.patience.ends_at:
                break
            time.sleep(self.random.uniform(*RETRY_PAUSES_S))
        command.ended = now()
        self.history.add(command)

    def attempt(self, node, command):
        """One request: status and answer, or what went wrong and None."""
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
    """Sends one command after the other, each to any node."""

    def __init__(self, number, nodes, numbers, patience, history, stop, random):
        super().__init__(daemon=True)
        self.number = number
        self.numbers = numbers
        self.stop = stop
        self.random = random
        self.courier = Courier(nodes, patience, history, random)
        # It shares no randomness with the first, for they work at the same time.
        self.second_courier = Courier(nodes, patience, history, type(random)(random.random()))
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
        """A new command; now and then twice at the same time."""
        # One product is as hot as all others together.
        sku = SKUS[0] if self.random.random() < 0.5 else self.random.choice(SKUS)
        is_refused = self.random.random() < 0.08
        expected = self.versions.get(sku, 1) if not is_refused and self.random.random() < 0.65 else None
        key = str(uuid.UUID(int=self.random.getrandbits(128))) if self.random.random() < 0.8 else None
        number = next(self.numbers)
        amount = 0 if is_refused else number
        command = Command(number, self.number, sku, amount, expected, key)
        if key and self.random.random() < 0.08:
            twin = Command(next(self.numbers), self.number, sku, amount, expected, key, repeats=number)
            thread = threading.Thread(target=self.second_courier.send, args=[twin], daemon=True)
            # The second may be the first to arrive.
            command.began = now()
            thread.start()
            self.courier.send(command)
            thread.join()
        else:
            self.courier.send(command)
        if command.answer and command.answer["version"] is not None:
            self.versions[sku] = max(self.versions.get(sku, 1), command.answer["version"])
        if key and command.answer:
            self.answered.append(command)
            del self.answered[:-ANSWERED_MAX]

    def ask_again(self, earlier):
        """An answered command once more, with its key: as it was, or as another command."""
        number = next(self.numbers)
        command = Command(number, self.number, earlier.sku, earlier.amount, earlier.expected, earlier.key, earlier.number)
        if self.random.random() < 0.2:
            command.is_other, command.amount = True, number
        self.courier.send(command)


class History:
    """All stories, in memory and in a file."""

    def __init__(self, path):
        self.stories = []
        # Commands that are on their way, by number.
        self.waiting = {}
        self.lock = threading.Lock()
        self.file = open(path, "w", encoding="utf-8")

    def open(self, command):
        """One that begins."""
        with self.lock:
            self.waiting[command.number] = command

    def waiting_since(self, time):
        """Commands that were sent before then, and have not ended."""
        with self.lock:
            return [command for command in self.waiting.values() if command.began < time]

    def add(self, command):
        """One that has ended."""
        story = command.story()
        with self.lock:
            del self.waiting[command.number]
            self.stories.append(story)
            self.file.write(json.dumps(story) + "\n")

    def close(self):
        """Nothing more will come."""
        with self.lock:
            self.file.close()


def create_products(nodes):
    """The products whose prices are changed; each then has version 1."""
    for sku in SKUS:
        body = json.dumps({"sku": sku, "description": "UNDER ATTACK"})
        headers = {"Content-Type": "application/json", "Idempotency-Key": f"create-{sku}"}
        for attempt in range(CREATION_TRIES_MAX):
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
