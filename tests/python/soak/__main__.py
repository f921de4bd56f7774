"""Runs a steady mixed load on two nodes, and measures the growth of the one that is never restarted.

    python tests/python/soak --folder DIR [--minutes N]

The environment names the servers (DAYBOOK_KAFKA_BROKERS and so on), the binary (DEV_DAYBOOK) and the broker's folder
(DEV_KAFKA_DATA). Prints a line a minute, and at the end the growth of memory, threads, descriptors, connections and
disk per hour and per 1,000 commits. The exit code is 1 if a resource grew that must not grow, if a request, an import,
a live stream or a restart failed, or if the load lacked one of its parts.
"""

import argparse
import os
import pathlib
import secrets
import threading
import time

from confluent_kafka import Consumer, TopicPartition

import fill
import growth
import live_clients
import load
import queries
from counts import Counts
from node import Node

SAMPLE_INTERVAL_S = 10.0
# Minimum number of samples of a run, which in a short run makes their interval shorter.
SAMPLES_MIN = 30
PROGRESS_INTERVAL_S = 60.0
MINUTES_MIN = 2
# Longest wait for each part of the load to end.
END_TIMEOUT_S = 60.0
KAFKA_TIMEOUT_S = 10.0
DATA = pathlib.Path(__file__).resolve().parents[3] / "data" / "online-retail.csv.gz"


def commits(consumer):
    """The number of records in all journals."""
    topics = consumer.list_topics(timeout=KAFKA_TIMEOUT_S).topics
    partitions = [
        TopicPartition(name, number)
        for name, topic in topics.items()
        if name.startswith("journal.") and name != "journal.owners"
        for number in topic.partitions
    ]
    return sum(consumer.get_watermark_offsets(partition, timeout=KAFKA_TIMEOUT_S)[1] for partition in partitions)


def run(arguments, folder, nodes, counts):
    """Runs the load, and returns the samples."""
    steady, restarted = nodes
    for node in nodes:
        node.start()
    for node in nodes:
        if not node.await_ready():
            raise SystemExit(f"node {node.role} did not become ready; see {node.folder}/log")
    fill.fill(steady.port)
    seconds, stop, binary = arguments.minutes * 60, threading.Event(), os.environ["DEV_DAYBOOK"]
    slices = load.slices_of(DATA, folder, max(1, round(seconds / load.IMPORT_INTERVAL_S)))
    jobs = [
        (load.send_commands, steady.port, counts, stop),
        (queries.send_queries, steady.port, counts, stop),
        (load.import_slices, binary, steady.port, slices, counts, stop),
        (load.restart, restarted, load.restart_interval(seconds), counts, stop),
        *((live_clients.follow_live, steady.port, number, counts, stop) for number in range(live_clients.CLIENTS)),
    ]
    threads = [
        threading.Thread(target=load.run_job, args=(counts, *job), name=job[0].__name__, daemon=True) for job in jobs
    ]
    consumer = Consumer({"bootstrap.servers": os.environ["DAYBOOK_KAFKA_BROKERS"], "group.id": "soak"})
    samples, started = [], time.monotonic()
    for thread in threads:
        thread.start()
    shown = started
    while time.monotonic() < started + seconds:
        time.sleep(min(SAMPLE_INTERVAL_S, seconds / SAMPLES_MIN))
        if steady.process.poll() is not None:
            raise SystemExit(f"the node ended with {steady.process.returncode}; see {steady.folder}/log")
        samples.append(
            growth.Sample(
                seconds=time.monotonic() - started,
                commits=commits(consumer),
                state_mb=growth.size_mb(steady.state),
                log_mb=growth.size_mb(os.environ["DEV_KAFKA_DATA"]),
                **growth.of_process(steady.process.pid),
            )
        )
        if time.monotonic() - shown >= PROGRESS_INTERVAL_S:
            shown = time.monotonic()
            last = samples[-1]
            print(
                f"   {last.seconds / 60:.0f} min: {last.commits} records, {last.memory_mb:.0f} MiB, "
                f"{last.threads} threads, {last.descriptors} descriptors, {counts.errors} errors",
                flush=True,
            )
    stop.set()
    for thread in threads:
        thread.join(END_TIMEOUT_S)
        if thread.is_alive():
            counts.error(f"{thread.name} did not end within {END_TIMEOUT_S} s")
    for node in nodes:
        fault = node.ended_by_itself()
        if fault is not None:
            counts.error(fault)
    counts.check_all_done()
    consumer.close()
    return samples


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", required=True, help="folder for state stores and logs")
    parser.add_argument("--minutes", type=float, default=60)
    arguments = parser.parse_args()
    if arguments.minutes < MINUTES_MIN:
        parser.error(f"--minutes must be {MINUTES_MIN} or more: a shorter run has no verdict")
    folder = pathlib.Path(arguments.folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "hash.key").write_text(secrets.token_hex(32), encoding="ascii")
    os.environ["DAYBOOK_COMMANDS_HASH_KEY_FILE"] = str(folder / "hash.key")
    nodes, counts = [Node("serve", folder), Node("commands", folder)], Counts()
    try:
        samples = run(arguments, folder, nodes, counts)
    finally:
        for node in nodes:
            if node.process is not None:
                node.process.kill()
                node.process.wait()
    found = growth.grown(samples)
    for line in [*growth.table(samples), *growth.describe_fits(samples)]:
        print(f"   {line}")
    for text in found:
        print(f"!! {text}")
    for text in counts.first_errors:
        print(f"!! {text}")
    done = ", ".join(f"{count} {kind}" for kind, count in counts.done.items())
    grown = f"{len(found)} quantities grew, {counts.errors} errors"
    print(f"soak: {grown}; {done}, {samples[-1].commits} records", flush=True)
    raise SystemExit(growth.exit_code(found, counts))


if __name__ == "__main__":
    main()
