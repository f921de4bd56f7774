#!/usr/bin/env python3
"""Writes records that are not valid commits into a topic, as a foreign program could: bytes that are not Avro, an empty
value, no value, no key, an unregistered schema id, and a copy of a valid record. Prints the number of records written.

    garbage.py BROKERS TOPIC PARTITION
"""

import sys

from confluent_kafka import Consumer, Producer, TopicPartition

TIMEOUT_S = 10.0
UNKNOWN_SCHEMA_ID = 1_000_000_000


def first_record(brokers, topic, partition):
    """The partition's first record, which is its owner's announcement."""
    settings = {"bootstrap.servers": brokers, "group.id": "garbage", "isolation.level": "read_uncommitted"}
    consumer = Consumer({**settings, "enable.auto.commit": False})
    try:
        consumer.assign([TopicPartition(topic, partition, 0)])
        message = consumer.poll(TIMEOUT_S)
        if message is None or message.error():
            raise SystemExit(f"{topic}/{partition} cannot be read: {message and message.error()}")
        return message.key(), message.value()
    finally:
        consumer.close()


def garbage(brokers, topic, partition):
    """Keys and values of void records."""
    key, value = first_record(brokers, topic, partition)
    return [
        (b"product_X", b"this is not Avro"),
        (b"product_X", b""),
        (b"product_X", None),
        (None, b"a value without a key"),
        (None, None),
        (b"product_X", b"\x00" + UNKNOWN_SCHEMA_ID.to_bytes(4, "big") + b"bytes of another program"),
        (b"product_X", value[:20]),
        (b"\xff\xfe", bytes(range(256))),
        (key, value),
    ]


def main():
    brokers, topic, partition = sys.argv[1], sys.argv[2], int(sys.argv[3])
    failures = []
    producer = Producer({"bootstrap.servers": brokers, "acks": "all"})
    records = garbage(brokers, topic, partition)
    for key, value in records:
        producer.produce(
            topic,
            key=key,
            value=value,
            partition=partition,
            on_delivery=lambda error, _: failures.append(error) if error else None,
        )
    left = producer.flush(TIMEOUT_S)
    if left or failures:
        raise SystemExit(f"{left} records were not written: {failures}")
    print(len(records))


if __name__ == "__main__":
    main()
