#!/usr/bin/env python3
"""Reads the journal of orders and the aggregate topics with an independent client: Confluent's client with its Avro
deserialiser and the registry, and no code of ours.

It does not implement the void rule, so its totals are right only if no record is void. Prints one JSON object with the
totals of each topic by currency; aggregate topics are summed over the last value of each key.

    consumer.py BROKERS REGISTRY-URL PREFIX AGGREGATE-TOPIC...

PREFIX is the topic prefix of the deployment, which may be empty; the given and the printed names do not have it.
"""

import collections
import json
import sys
import time

from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.serialization import MessageField, SerializationContext

JOURNAL = "journal.orders"
MESSAGES_MAX = 1_000
BATCH_TIMEOUT_S = 0.2
TIMEOUT_S = 20.0
NAMESPACE = "daybook.orders."


class Reader:
    """Reads whole topics."""

    def __init__(self, brokers, registry_url):
        self.settings = {
            "bootstrap.servers": brokers,
            "group.id": "an-outsider",
            "enable.auto.commit": False,
            "auto.offset.reset": "error",
            "enable.partition.eof": False,
            # An open transaction of another program must not hide the records after it.
            "isolation.level": "read_uncommitted",
        }
        registry = SchemaRegistryClient({"url": registry_url})
        # The record names distinguish the branches of a union.
        self.deserialise = AvroDeserializer(registry, return_record_name=True)

    def values(self, topic):
        """Yields (key, value) of every current record of a topic."""
        consumer = Consumer(self.settings)
        try:
            for message in self.messages(consumer, topic):
                context = SerializationContext(topic, MessageField.VALUE)
                yield message.key(), self.deserialise(message.value(), context)
        finally:
            consumer.close()

    @staticmethod
    def messages(consumer, topic):
        partitions = consumer.list_topics(topic, timeout=TIMEOUT_S).topics[topic].partitions
        ends = {}
        for partition in partitions:
            _, end = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=TIMEOUT_S)
            if end > 0:
                ends[partition] = end
        consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in ends])
        received_at = time.monotonic()
        while ends:
            # This waits for the full number of messages or the full timeout, so the timeout is short.
            messages = consumer.consume(MESSAGES_MAX, timeout=BATCH_TIMEOUT_S)
            if messages:
                received_at = time.monotonic()
            elif time.monotonic() - received_at > TIMEOUT_S:
                raise SystemExit(f"{topic}: no record arrived for {TIMEOUT_S} s before the end offsets {ends}")
            for message in messages:
                if message.error():
                    raise SystemExit(f"{topic}: {message.error()}")
                yield message
            # The loop compares positions, not records, because control records of transactions arrive as no message.
            positions = consumer.position([TopicPartition(topic, partition) for partition in ends])
            for position in positions:
                if position.offset >= ends[position.partition]:
                    del ends[position.partition]


def no_totals():
    """Zero of everything."""
    return dict.fromkeys(["invoices", "sales", "credit_notes", "lines", "total_minor"], 0)


def journal_totals(reader, prefix):
    """Adds up the events of all decisions, by currency."""
    by_currency = collections.defaultdict(no_totals)
    kinds = {NAMESPACE + "SaleImported": "sales", NAMESPACE + "CreditNoteIssued": "credit_notes"}
    for _, commit in reader.values(prefix + JOURNAL):
        name, body = commit["body"]
        if name != NAMESPACE + "Decision":
            continue
        for name, event in body["events"]:
            totals = by_currency[event["currency"]]
            totals["invoices"] += 1
            totals[kinds[name]] += 1
            totals["lines"] += len(event["lines"])
            totals["total_minor"] += sum(line["amount"] for line in event["lines"])
    return by_currency


def aggregate_totals(reader, topic):
    """Adds up the last value of each key, by currency."""
    by_currency = collections.defaultdict(no_totals)
    for value in dict(reader.values(topic)).values():
        totals = by_currency[value["currency"]]
        totals["invoices"] += value["orders"] + value["credit_notes"]
        totals["sales"] += value["orders"]
        totals["credit_notes"] += value["credit_notes"]
        totals["lines"] += value["lines"]
        totals["total_minor"] += value["revenue"]
    return by_currency


def main():
    brokers, registry_url, prefix, *aggregates = sys.argv[1:]
    reader = Reader(brokers, registry_url)
    totals = {JOURNAL: journal_totals(reader, prefix)}
    for topic in aggregates:
        totals[topic] = aggregate_totals(reader, prefix + topic)
    json.dump(totals, sys.stdout)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
