#!/usr/bin/env python3
"""Changes a principal's rights at the brokers, as an operator does. Standard input is JSON, a list of
[resource, name, pattern, operation], such as ["topic", "journal.", "prefixed", "Read"].

    rights.py BROKERS PRINCIPAL allow|deny|undeny
"""

import json
import sys

from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

TIMEOUT_S = 20.0
RESOURCES = {"topic": ResourceType.TOPIC, "group": ResourceType.GROUP}
PATTERNS = {"prefixed": ResourcePatternType.PREFIXED, "literal": ResourcePatternType.LITERAL}
OPERATIONS = {
    "Describe": AclOperation.DESCRIBE,
    "DescribeConfigs": AclOperation.DESCRIBE_CONFIGS,
    "Read": AclOperation.READ,
    "Write": AclOperation.WRITE,
}


def main():
    brokers, principal, change = sys.argv[1:]
    permission = AclPermissionType.ALLOW if change == "allow" else AclPermissionType.DENY
    fields = [
        (RESOURCES[resource], name, PATTERNS[pattern], f"User:{principal}", "*", OPERATIONS[operation], permission)
        for resource, name, pattern, operation in json.load(sys.stdin)
    ]
    client = AdminClient({"bootstrap.servers": brokers})
    if change == "undeny":
        futures = client.delete_acls([AclBindingFilter(*one) for one in fields], request_timeout=TIMEOUT_S)
    else:
        futures = client.create_acls([AclBinding(*one) for one in fields], request_timeout=TIMEOUT_S)
    for future in futures.values():
        future.result(TIMEOUT_S)


if __name__ == "__main__":
    main()
