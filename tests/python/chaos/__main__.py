"""Attacks three `daybook commands` and a broker for a while, then compares what clients were told with the log.

    python tests/python/chaos [--seconds N] [--seed S] [--folder DIR] [--pause SECONDS]

The environment names the broker (DAYBOOK_KAFKA_BROKERS), the registry (DAYBOOK_REGISTRY_URL), the binary (DEV_DAYBOOK)
and the script that stops and starts the broker (DEV_SERVER_CONTROL). The last line counts violations; the exit code is 1
if there are any.
"""

import argparse
import itertools
import os
import random
import secrets
import socket
import tempfile
import threading
import time

from checker import Checker
from clients import Client, History, create_products
from faults import PAUSE_S, Faults
from journal import Journal
from nodes import FAKETIME, Broker, Node

TOPIC = "journal.catalog"
NODES = 3
CLIENTS = 12
# After the last fault everything must be served again within this time.
SETTLE_S = 30.0


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def say(text):
    print(f"   {time.strftime('%H:%M:%S')} {text}", flush=True)


def longest_wait(commands):
    """The longest time that a command with a key took, in seconds."""
    return max((c["ended"] - c["began"] for c in commands if c["key"]), default=0.0)


def attack(arguments, folder, chance):
    """The stories that clients lived through, and how often what befell the processes."""
    with open(os.path.join(folder, "hash.key"), "w", encoding="ascii") as file:
        file.write(secrets.token_hex(32))
    nodes = [Node(os.environ["DEV_DAYBOOK"], folder, port, chance) for port in free_ports(NODES)]
    if not os.path.exists(FAKETIME):
        say("clocks: all alike, for libfaketime is not installed")
    if not all(node.is_small for node in nodes):
        say("no disk is filled, for no file system may be mounted here")
    faults = Faults(nodes, Broker(os.environ["DEV_SERVER_CONTROL"]), chance, say, arguments.pause)
    history = History(os.path.join(folder, "history.jsonl"))
    try:
        for node in nodes:
            node.start()
        for node in nodes:
            node.await_ready()
        create_products(nodes)
        stop, numbers = threading.Event(), itertools.count(1)
        clients = [
            Client(index, nodes, numbers, history, stop, random.Random(chance.random())) for index in range(CLIENTS)
        ]
        for client in clients:
            client.start()
        faults.run_until(time.monotonic() + arguments.seconds)
        say("all well again")
        faults.mend()
        for node in nodes:
            node.await_ready()
        time.sleep(2)
        stop.set()
        for client in clients:
            client.join(SETTLE_S + 60)
        if any(client.is_alive() for client in clients):
            raise SystemExit("a client still waits for its answer")
    finally:
        for node in nodes:
            node.stop()
            node.unmount()
        history.close()
    return history.commands, faults.counts


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=75)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--folder")
    parser.add_argument("--pause", type=float, default=PAUSE_S, help="how long a process sleeps, in seconds")
    arguments = parser.parse_args()
    seed = secrets.randbits(32) if arguments.seed is None else arguments.seed
    folder = arguments.folder or tempfile.mkdtemp(prefix="daybook-chaos-")
    os.makedirs(folder, exist_ok=True)
    say(f"seed {seed}; stories and logs in {folder}")
    commands, counts = attack(arguments, folder, random.Random(seed))
    journal = Journal(os.environ["DAYBOOK_KAFKA_BROKERS"], os.environ["DAYBOOK_REGISTRY_URL"], TOPIC)
    violations = Checker(commands, journal).run()
    answers = sum(1 for command in commands if command["answer"])
    attempts = sum(len(command["attempts"]) for command in commands)
    say(f"faults: {', '.join(f'{count} x {kind}' for kind, count in sorted(counts.items()))}")
    say(f"log: {', '.join(f'{count} {name}' for name, count in journal.counts.items())}")
    say(f"longest wait of a command with a key: {longest_wait(commands):.1f} s")
    print(
        f"chaos: seed {seed}, {len(commands)} commands in {attempts} attempts, {answers} answered, "
        f"{journal.counts['decisions']} decisions, {violations} violations",
        flush=True,
    )
    raise SystemExit(1 if violations else 0)


if __name__ == "__main__":
    main()
