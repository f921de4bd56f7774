#!/usr/bin/env python3
"""Prints a topic's configuration as the broker reports it: a JSON object of texts.

describe_topic.py BROKERS TOPIC
"""

import json
import sys

from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType

TIMEOUT_S = 20.0


def main():
    brokers, topic = sys.argv[1:]
    client = AdminClient({"bootstrap.servers": brokers})
    described = client.describe_configs([ConfigResource(ResourceType.TOPIC, topic)], request_timeout=TIMEOUT_S)
    (entries,) = [future.result(TIMEOUT_S) for future in described.values()]
    print(json.dumps({name: entry.value for name, entry in entries.items()}))


if __name__ == "__main__":
    main()
