#!/usr/bin/env python3
"""Writes one record to a topic, in the partition that the Java client chooses for the record's key.

    produce.py BROKERS TOPIC KEY VALUE
"""

import sys

from confluent_kafka import Producer

TIMEOUT_S = 10.0


def main():
    brokers, topic, key, value = sys.argv[1:]
    failures = []
    producer = Producer({"bootstrap.servers": brokers, "acks": "all", "partitioner": "murmur2_random"})
    producer.produce(
        topic,
        key=key.encode(),
        value=value.encode(),
        on_delivery=lambda error, _: failures.append(error) if error else None,
    )
    if producer.flush(TIMEOUT_S) or failures:
        raise SystemExit(f"the record was not written: {failures}")


if __name__ == "__main__":
    main()
