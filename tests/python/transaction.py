#!/usr/bin/env python3
"""Writes one record to partition 0 of a topic in a transaction, so that the log ends with a control record.

    transaction.py BROKERS TOPIC VALUE
"""

import sys

from confluent_kafka import Producer

TIMEOUT_S = 30.0


def main():
    brokers, topic, value = sys.argv[1:]
    producer = Producer({"bootstrap.servers": brokers, "transactional.id": f"transaction-{topic}"})
    producer.init_transactions(TIMEOUT_S)
    producer.begin_transaction()
    # A compacted topic accepts no record without a key.
    producer.produce(topic, key="key", value=value, partition=0)
    producer.commit_transaction(TIMEOUT_S)


if __name__ == "__main__":
    main()
