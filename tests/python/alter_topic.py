#!/usr/bin/env python3
"""Sets one field of a topic's configuration, as an operator's tool could.

alter_topic.py BROKERS TOPIC FIELD VALUE
"""

import sys

from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

TIMEOUT_S = 20.0


def main():
    brokers, topic, field, value = sys.argv[1:]
    entry = ConfigEntry(field, value, incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
    client = AdminClient({"bootstrap.servers": brokers})
    for altered in client.incremental_alter_configs([resource], request_timeout=TIMEOUT_S).values():
        altered.result(TIMEOUT_S)


if __name__ == "__main__":
    main()
