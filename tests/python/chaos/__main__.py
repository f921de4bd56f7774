"""Injects faults into several `daybook commands` and their broker, then compares the clients' answers with the log.

    python tests/python/chaos --folder DIR [--seconds N] [--seed S] [--pause SECONDS]

The environment names the broker (DAYBOOK_KAFKA_BROKERS), the registry (DAYBOOK_REGISTRY_URL), the binary (DEV_DAYBOOK),
the script that kills and starts the broker (DEV_SERVER_CONTROL), and the libraries that give a node a clock of its own
(DEV_FAKETIME: waits.c and libfaketime; empty if they are not installed). The faults, their order and the clients' commands
are drawn from the seed; the interleaving depends on the machine. The last line counts the violations. The exit code is 1
if there are any, or if too little happened for a verdict.
"""

import argparse
import itertools
import os
import random
import secrets
import socket
import threading
import time

from checker import Checker
from clients import ATTEMPT_TIMEOUT_S, RETRY_AFTER_FAULTS_S, Client, History, RetryDeadline, create_products, now
from faults import PAUSE_S_MAX, Faults
from journal import Journal
from nodes import Broker, Node
from waiting import await_answers, longest_unavailability, longest_wait

TOPIC = "journal.catalog"
NODES = 3
CLIENTS = 12
# Time for which clients continue after the last fault has ended.
TAIL_S = 3.0
# Time between two recoveries, in which all faults end and every client must get an answer.
RECOVERY_INTERVAL_S = 120.0
# A run with fewer answers gives no verdict.
ACKNOWLEDGED_PER_S_MIN = 2.0
SHOWN_MAX = 20


def free_ports(count):
    """Ports without a listener, below the range of outgoing connections."""
    ports = []
    for port in range(20_000 + os.getpid() * 101 % 10_000, 32_000):
        with socket.socket() as candidate:
            try:
                candidate.bind(("127.0.0.1", port))
            except OSError:
                continue
            ports.append(port)
        if len(ports) == count:
            return ports
    raise SystemExit(f"fewer than {count} ports are free")


def say(text):
    """Prints a progress line."""
    print(f"   {time.strftime('%H:%M:%S')} {text}", flush=True)


def attack(arguments, nodes, faults, history, rng):
    """Runs faults and clients at the same time, then clients without faults."""
    for node in nodes:
        node.start()
    if not all([node.await_ready() for node in nodes]):
        raise SystemExit(f"nodes did not start: {[failure for node in nodes for failure in node.failures]}")
    create_products(nodes)
    stop, numbers, retry_deadline = threading.Event(), itertools.count(1), RetryDeadline()
    clients = [
        Client(index, nodes, numbers, retry_deadline, history, stop, random.Random(rng.random()))
        for index in range(CLIENTS)
    ]
    for client in clients:
        client.start()
    deadline = now() + arguments.seconds
    while now() < deadline:
        faults.run_until(min(deadline, now() + RECOVERY_INTERVAL_S))
        recover(nodes, faults, history)
    retry_deadline.start()
    time.sleep(TAIL_S)
    stop.set()
    deadline = now() + RETRY_AFTER_FAULTS_S + 2 * ATTEMPT_TIMEOUT_S
    for client in clients:
        client.join(max(0.0, deadline - now()))
    if any(client.is_alive() for client in clients):
        faults.nodes[0].failures.append("a client is still waiting for its answer")
    # A shutdown by an operator.
    for node in nodes:
        node.stop()


def recover(nodes, faults, history):
    """Ends all faults. Then every client must get an answer soon, because each partition gets an owner."""
    began = now()
    if not faults.end_all():
        return
    recovered = now()
    unanswered = await_answers(history, recovered)
    nodes[0].failures.extend(unanswered)
    if not unanswered:
        say(f"all faults ended after {recovered - began:.1f} s, all commands answered {now() - recovered:.1f} s later")


def check(arguments, nodes, faults, history, seed):
    """Runs all checks and prints the results; returns the exit code."""
    journal = Journal(os.environ["DAYBOOK_KAFKA_BROKERS"], os.environ["DAYBOOK_REGISTRY_URL"], TOPIC)
    checker = Checker(history.operations, {node.port: node.disturbances for node in nodes})
    checker.run(journal.decisions())
    for node in nodes:
        for failure in node.failures:
            checker.violation(failure)
        for line in node.error_lines()[:SHOWN_MAX]:
            checker.violation(f"node {node.port}: {line}")
    acknowledged = checker.count_acknowledged()
    attempts = sum(len(operation["attempts"]) for operation in history.operations)
    say(f"{len(history.operations)} commands in {attempts} attempts, of which {checker.count_unavailable()} got 503")
    say(f"longest wait for an answer: {longest_wait(history.operations)}")
    say(f"longest time without any answer about a product: {longest_unavailability(history.operations)}")
    say(f"unfinished shutdowns after SIGTERM: {sum(node.unfinished_shutdowns for node in nodes)}")
    say(f"log: {', '.join(f'{count} {name}' for name, count in journal.counts.items())}")
    say(f"faults: {', '.join(f'{count} x {kind}' for kind, count in faults.counts.items())}")
    omitted = f", {len(faults.omitted)} kinds left out ({', '.join(faults.omitted)})" if faults.omitted else ""
    is_enough = acknowledged >= ACKNOWLEDGED_PER_S_MIN * arguments.seconds and all(faults.counts.values())
    if not is_enough:
        least = f"{ACKNOWLEDGED_PER_S_MIN * arguments.seconds:.0f} acknowledged commands and a fault of each kind"
        say(f"too little happened for a verdict, which needs {least}")
    violations = len(checker.violations)
    print(
        f"chaos: {violations} violations in {acknowledged} acknowledged commands, "
        f"{sum(faults.counts.values())} faults{omitted}, seed {seed}",
        flush=True,
    )
    return 1 if violations or not is_enough else 0


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", required=True, help="folder for state stores, logs and the clients' history")
    parser.add_argument("--seconds", type=float, default=75)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--pause", type=float, default=PAUSE_S_MAX, help="longest suspension of a node, in seconds")
    arguments = parser.parse_args()
    seed = secrets.randbits(32) if arguments.seed is None else arguments.seed
    os.makedirs(arguments.folder, exist_ok=True)
    say(f"seed {seed}; {arguments.seconds:.0f} s of faults; history and logs in {arguments.folder}")
    rng = random.Random(seed)
    with open(os.path.join(arguments.folder, "hash.key"), "w", encoding="ascii") as file:
        file.write(secrets.token_hex(32))
    binary, faketime = os.environ["DEV_DAYBOOK"], os.environ.get("DEV_FAKETIME")
    nodes = [Node(binary, arguments.folder, port, random.Random(rng.random()), faketime) for port in free_ports(NODES)]
    faults = Faults(nodes, Broker(os.environ["DEV_SERVER_CONTROL"]), rng, say, arguments.pause)
    for kind, reason in faults.omitted.items():
        say(f"left out: {kind}, because {reason}")
    history = History(os.path.join(arguments.folder, "history.jsonl"))
    try:
        attack(arguments, nodes, faults, history, rng)
        history.close()
        code = check(arguments, nodes, faults, history, seed)
    finally:
        for node in nodes:
            node.end()
    raise SystemExit(code)


if __name__ == "__main__":
    main()
