#!/usr/bin/env python3
"""Compares the metrics that a node exports with the catalogue of the sources: each must be there, with the same labels.

    python3 tests/python/alerts URL
"""

import re
import sys
import urllib.request

from catalogue import catalogue, find

SAMPLE = re.compile(r"(daybook_[a-z_]+)(?:\{(.*)\})? \S+")
LABEL = re.compile(r'([a-z_]+)="(?:[^"\\]|\\.)*"')


def exported(text):
    """The names of the exported metrics, each with the sets of labels of its samples."""
    found = {}
    for line in text.splitlines():
        if sample := SAMPLE.fullmatch(line):
            name, labels = sample.groups()
            found.setdefault(name, set()).add(frozenset(LABEL.findall(labels or "")))
    return found


def findings(text, metrics):
    """The metrics of a scrape that the catalogue does not have, or has with other labels."""
    for name, samples in sorted(exported(text).items()):
        metric = find(metrics, name)
        if metric is None:
            yield f"{name} is not in the catalogue"
            continue
        for labels in samples:
            if labels != metric.labels:
                yield f"{name} has the labels {sorted(labels)} instead of {sorted(metric.labels)}"


def main():
    (url,) = sys.argv[1:]
    with urllib.request.urlopen(f"{url}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    names = exported(text)
    if not names:
        raise SystemExit(f"{url} exports no metric")
    wrong = list(findings(text, catalogue()))
    if wrong:
        raise SystemExit("\n".join(wrong))
    print(f"{len(names)} exported metrics are as the catalogue says")


if __name__ == "__main__":
    main()
