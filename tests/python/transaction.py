#!/usr/bin/env python3
"""Holds a transaction with one record open on a partition. Prints a line once the record is in the log, waits for a line or
the end of standard input, and then ends the transaction, so that the log gets a control record.

    transaction.py BROKERS TOPIC PARTITION VALUE commit|abort
"""

import sys

from confluent_kafka import Producer

TIMEOUT_S = 30.0
# The broker aborts a transaction that stays open for longer.
OPEN_MS_MAX = 600_000


def main():
    brokers, topic, partition, value, end = sys.argv[1:]
    producer = Producer(
        {
            "bootstrap.servers": brokers,
            "transactional.id": f"transaction-{topic}-{partition}",
            "transaction.timeout.ms": OPEN_MS_MAX,
        }
    )
    producer.init_transactions(TIMEOUT_S)
    producer.begin_transaction()
    # A compacted topic accepts no record without a key.
    producer.produce(topic, key="key", value=value, partition=int(partition))
    if producer.flush(TIMEOUT_S):
        raise SystemExit(f"the record was not written within {TIMEOUT_S} s")
    print("open", flush=True)
    sys.stdin.readline()
    if end == "commit":
        producer.commit_transaction(TIMEOUT_S)
    else:
        producer.abort_transaction(TIMEOUT_S)


if __name__ == "__main__":
    main()
