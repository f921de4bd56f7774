#!/usr/bin/env python3
"""Changes a principal's rights at the brokers, as an operator does. Standard input is JSON, a list of
[resource, name, pattern, operation], such as ["topic", "journal.", "prefixed", "Read"].

    rights.py BROKERS PRINCIPAL allow|deny|undeny
"""

import json
import sys
import time

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
    await_in_force(client, [AclBindingFilter(*one) for one in fields], is_wanted=change != "undeny")


def await_in_force(client, rights, is_wanted):
    """Waits until the authorizer has the rights, or has none of them. A broker confirms a change earlier."""
    deadline = time.monotonic() + TIMEOUT_S
    for right in rights:
        while bool(client.describe_acls(right, request_timeout=TIMEOUT_S).result(TIMEOUT_S)) != is_wanted:
            if time.monotonic() > deadline:
                sys.exit(f"the broker does not apply a change of rights within {TIMEOUT_S} s: {right}")
            time.sleep(0.1)


if __name__ == "__main__":
    main()
