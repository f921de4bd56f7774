"""The catalogue of metrics: the constants of the sources, whose descriptions have the kind and the labels.

A description begins with `Counter`, `Gauge` or `Histogram`, and names the labels in backticks: by `topic` and
`partition`. Labels of all metrics of a file are in the file's first comment; `without labels` excepts a metric.
"""

import dataclasses
import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parents[3]
# The metrics of the crates, and those of HTTP requests.
SOURCES = ("*/src/metrics.rs", "src/serve/api.rs")
KINDS = ("Counter", "Gauge", "Histogram")
# The names that Prometheus derives from the name of a histogram.
PARTS = ("_sum", "_count")
# The label that a histogram's own name has, in addition to the labels of its parts.
QUANTILE = "quantile"

METRIC = re.compile(r'((?:^ *///.*\n)+)^(?:pub )?const [A-Z_]+: &str =\s*"(daybook_[a-z_]+)";', re.MULTILINE)
LABELS = r"(`[a-z]+`(?:(?:, | and |, and )`[a-z]+`)*)"
LABELS_OF_METRIC = re.compile(rf"\bby {LABELS}")
LABELS_OF_FILE = re.compile(rf"\bEach has the labels {LABELS}")
NO_LABELS = "without labels"


@dataclasses.dataclass(frozen=True)
class Metric:
    """The kind of a metric, and the names of its labels."""

    kind: str
    labels: frozenset


def catalogue(root=ROOT):
    """All metrics of the sources, by name."""
    found = {}
    for pattern in SOURCES:
        for path in sorted(root.glob(pattern)):
            found.update(metrics_of(path.read_text(encoding="utf-8")))
    if not found:
        raise ValueError(f"{root} has no metrics")
    return found


def metrics_of(source):
    """The metrics of a file, by name."""
    file_comment = text_of(line for line in source.splitlines() if line.startswith("//!"))
    of_file = labels_in(LABELS_OF_FILE, file_comment)
    metrics = {}
    for comment, name in METRIC.findall(source):
        description = text_of(comment.splitlines())
        kind = next((kind for kind in KINDS if re.match(rf"{kind}\b", description)), None)
        if kind is None:
            raise ValueError(f"{name}: the description does not begin with one of {KINDS}: {description}")
        labels = labels_in(LABELS_OF_METRIC, description) | of_file
        if NO_LABELS in description:
            labels = frozenset()
        metrics[name] = Metric(kind, labels)
    return metrics


def text_of(lines):
    """The text of a comment's lines, in one line."""
    return " ".join(line.strip().lstrip("/!").strip() for line in lines)


def labels_in(pattern, text):
    """The labels that the first match of a pattern names."""
    match = pattern.search(text)
    return frozenset(re.findall(r"`([a-z]+)`", match.group(1)) if match else ())


def find(metrics, name):
    """The metric with this name in a scrape; None if no metric has it. A histogram has several names."""
    if name in metrics:
        metric = metrics[name]
        if metric.kind == "Histogram":
            return Metric(metric.kind, metric.labels | {QUANTILE})
        return metric
    for part in PARTS:
        metric = metrics.get(name.removesuffix(part))
        if name.endswith(part) and metric is not None and metric.kind == "Histogram":
            # The sum and the count of a histogram only grow.
            return Metric("Counter", metric.labels)
    return None
