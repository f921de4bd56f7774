#!/usr/bin/env python3
"""Counts the records of a journal by the rule, to its end. Prints one JSON object.

    counts.py BROKERS REGISTRY-URL TOPIC [PREFIX]

PREFIX is the topic prefix of the deployment; TOPIC does not have it.
"""

import json
import sys

from journal import Journal


def main():
    brokers, registry_url, topic, *rest = sys.argv[1:]
    journal = Journal(brokers, registry_url, topic, *rest)
    for _ in journal.decisions():
        pass
    json.dump(journal.counts, sys.stdout)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
