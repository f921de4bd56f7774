"""Attacks several `daybook commands` and their broker for a while, then compares what clients were told with the log.

    python tests/python/chaos --folder DIR [--seconds N] [--seed S] [--pause SECONDS]

The environment names the broker (DAYBOOK_KAFKA_BROKERS), the registry (DAYBOOK_REGISTRY_URL), the binary (DEV_DAYBOOK),
the script that kills and starts the broker (DEV_SERVER_CONTROL), and what gives a process a clock of its own, if it can
be had (DEV_FAKETIME: waits.c and libfaketime). What is chosen (faults and their order, clients' wishes) is drawn from the
seed; what meets what is up to the machine. The last line counts violations; the exit code is 1 if there are any, or if
too little happened to tell.
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
from clients import ATTEMPT_TIMEOUT_S, PATIENCE_S, Client, History, Patience, create_products, now
from faults import PAUSE_S_MAX, Faults
from journal import Journal
from nodes import Broker, Node
from waiting import await_answers, longest_silence, longest_wait

TOPIC = "journal.catalog"
NODES = 3
CLIENTS = 12
# How long clients go on after the last fault is mended.
CALM_S = 3.0
# How often all faults are mended, so that it shows whether everybody gets an answer then.
REST_EVERY_S = 120.0
# A run in which less is answered says nothing.
ACKNOWLEDGED_PER_S_MIN = 2.0
SHOWN_MAX = 20


def free_ports(count):
    """Ports that nobody listens on now, below those that outgoing connections are given."""
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
    raise SystemExit(f"fewer than {count} free ports")


def say(text):
    """A line for people."""
    print(f"   {time.strftime('%H:%M:%S')} {text}", flush=True)


def attack(arguments, nodes, faults, history, chance):
    """Faults and clients at the same time, and then no faults any more."""
    for node in nodes:
        node.start()
    if not all([node.await_ready() for node in nodes]):
        raise SystemExit(f"not started: {[failure for node in nodes for failure in node.failures]}")
    create_products(nodes)
    stop, numbers, patience = threading.Event(), itertools.count(1), Patience()
    clients = [
        Client(index, nodes, numbers, patience, history, stop, random.Random(chance.random()))
        for index in range(CLIENTS)
    ]
    for client in clients:
        client.start()
    deadline = now() + arguments.seconds
    while now() < deadline:
        faults.run_until(min(deadline, now() + REST_EVERY_S))
        rest(nodes, faults, history)
    patience.all_is_well()
    time.sleep(CALM_S)
    stop.set()
    deadline = now() + PATIENCE_S + 2 * ATTEMPT_TIMEOUT_S
    for client in clients:
        client.join(max(0.0, deadline - now()))
    if any(client.is_alive() for client in clients):
        faults.nodes[0].failures.append("a client still waits for its answer")
    # As an operator would end it all.
    for node in nodes:
        node.stop()


def rest(nodes, faults, history):
    """Nothing is broken any more, so nothing may keep a client waiting: no partition is without an owner for long."""
    began = now()
    if not faults.mend():
        return
    well = now()
    left = await_answers(history, well)
    nodes[0].failures.extend(left)
    if not left:
        say(f"all well again after {well - began:.1f} s, and everybody answered {now() - well:.1f} s later")


def judge(arguments, nodes, faults, history, seed):
    """Every check; the exit code."""
    journal = Journal(os.environ["DAYBOOK_KAFKA_BROKERS"], os.environ["DAYBOOK_REGISTRY_URL"], TOPIC)
    checker = Checker(history.stories, {node.port: node.disturbances for node in nodes})
    checker.run(journal.decisions())
    for node in nodes:
        for failure in node.failures:
            checker.violation(failure)
        for words in node.words()[:SHOWN_MAX]:
            checker.violation(f"node {node.port}: {words}")
    acknowledged = checker.count_acknowledged()
    attempts = sum(len(story["attempts"]) for story in history.stories)
    say(f"{len(history.stories)} commands in {attempts} attempts, of which {checker.count_unavailable()} heard 503")
    say(f"longest wait for an answer: {longest_wait(history.stories)}")
    say(f"longest that nobody got an answer about a product: {longest_silence(history.stories)}")
    say(f"ends after SIGTERM with something undone: {sum(node.untidy_ends for node in nodes)}")
    say(f"log: {', '.join(f'{count} {name}' for name, count in journal.counts.items())}")
    say(f"faults: {', '.join(f'{count} x {kind}' for kind, count in faults.counts.items())}")
    left_out = f", {len(faults.left_out)} kinds left out ({', '.join(faults.left_out)})" if faults.left_out else ""
    is_enough = acknowledged >= ACKNOWLEDGED_PER_S_MIN * arguments.seconds and all(faults.counts.values())
    if not is_enough:
        least = f"{ACKNOWLEDGED_PER_S_MIN * arguments.seconds:.0f} acknowledged commands and a fault of each kind"
        say(f"too little happened to tell: {least} are the least")
    violations = len(checker.violations)
    print(
        f"chaos: {violations} violations in {acknowledged} acknowledged commands, "
        f"{sum(faults.counts.values())} faults{left_out}, seed {seed}",
        flush=True,
    )
    return 1 if violations or not is_enough else 0


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", required=True, help="for state stores, logs and stories")
    parser.add_argument("--seconds", type=float, default=75)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--pause", type=float, default=PAUSE_S_MAX, help="how long a process sleeps at most, in seconds")
    arguments = parser.parse_args()
    seed = secrets.randbits(32) if arguments.seed is None else arguments.seed
    os.makedirs(arguments.folder, exist_ok=True)
    say(f"seed {seed}; {arguments.seconds:.0f} s of faults; stories and logs in {arguments.folder}")
    chance = random.Random(seed)
    with open(os.path.join(arguments.folder, "hash.key"), "w", encoding="ascii") as file:
        file.write(secrets.token_hex(32))
    binary, faketime = os.environ["DEV_DAYBOOK"], os.environ.get("DEV_FAKETIME")
    nodes = [
        Node(binary, arguments.folder, port, random.Random(chance.random()), faketime) for port in free_ports(NODES)
    ]
    faults = Faults(nodes, Broker(os.environ["DEV_SERVER_CONTROL"]), chance, say, arguments.pause)
    for kind, reason in faults.left_out.items():
        say(f"left out: {kind}, for {reason}")
    history = History(os.path.join(arguments.folder, "history.jsonl"))
    try:
        attack(arguments, nodes, faults, history, chance)
        history.close()
        code = judge(arguments, nodes, faults, history, seed)
    finally:
        for node in nodes:
            node.end()
    raise SystemExit(code)


if __name__ == "__main__":
    main()
