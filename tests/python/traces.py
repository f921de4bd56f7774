#!/usr/bin/env python3
"""Reads the trace of each decision in a journal, from the record's header and from the decision itself, with an independent
client. Prints one JSON object with both texts by position, such as `journal.catalog/1@5`.

    traces.py BROKERS REGISTRY-URL TOPIC
"""

import json
import sys

from confluent_kafka import Consumer
from confluent_kafka.serialization import MessageField, SerializationContext
from consumer import Reader


def main():
    brokers, registry_url, topic = sys.argv[1:]
    reader = Reader(brokers, registry_url)
    consumer = Consumer(reader.settings)
    traces = {}
    for message in reader.messages(consumer, topic):
        context = SerializationContext(topic, MessageField.VALUE)
        name, body = reader.deserialise(message.value(), context)["body"]
        if not name.endswith(".Decision"):
            continue
        headers = dict(message.headers() or [])
        header = headers.get("traceparent", b"").decode()
        position = f"{topic}/{message.partition()}@{message.offset()}"
        traces[position] = {"header": header, "decision": body["traceparent"]}
    consumer.close()
    json.dump(traces, sys.stdout)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
