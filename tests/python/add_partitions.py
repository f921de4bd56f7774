#!/usr/bin/env python3
"""Adds partitions to a topic, as an operator's tool could.

add_partitions.py BROKERS TOPIC TOTAL
"""

import sys

from confluent_kafka.admin import AdminClient, NewPartitions

TIMEOUT_S = 20.0


def main():
    brokers, topic, total = sys.argv[1:]
    client = AdminClient({"bootstrap.servers": brokers})
    added = client.create_partitions([NewPartitions(topic, int(total))], request_timeout=TIMEOUT_S)
    for created in added.values():
        created.result(TIMEOUT_S)


if __name__ == "__main__":
    main()
