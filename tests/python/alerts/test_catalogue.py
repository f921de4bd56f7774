"""Tests of the catalogue: the kinds and labels of metrics are read from their descriptions."""

import unittest

from catalogue import Metric, catalogue, find, metrics_of

SOURCE = """//! The names of this crate's metrics. Each has the labels `view` and `build`, and those that its
//! description names.

/// Counter: events.
pub const EVENTS: &str = "daybook_events_total";
/// Gauge of offsets, by `topic` and
/// `partition`: the next one, by reader.
pub const NEXT_OFFSET: &str = "daybook_next_offset";
/// Gauge without labels: clients.
const CLIENTS: &str =
    "daybook_clients";
"""


class Catalogue(unittest.TestCase):
    def test_the_labels_of_the_file_and_of_the_description_are_added(self):
        of_file = frozenset({"view", "build"})
        expected = {
            "daybook_events_total": Metric("Counter", of_file),
            "daybook_next_offset": Metric("Gauge", of_file | {"topic", "partition"}),
            "daybook_clients": Metric("Gauge", frozenset()),
        }
        self.assertEqual(metrics_of(SOURCE), expected)

    def test_a_description_without_a_kind_is_refused(self):
        with self.assertRaisesRegex(ValueError, "daybook_events_total"):
            metrics_of(SOURCE.replace("Counter", "Number"))

    def test_every_metric_in_the_sources_is_found(self):
        metrics = catalogue()
        self.assertEqual(metrics["daybook_http_requests_total"].labels, {"method", "path", "status"})
        self.assertEqual(metrics["daybook_streams_windows"].labels, {"job", "window"})
        self.assertEqual(metrics["daybook_journal_epoch"].labels, {"topic", "partition"})

    def test_only_a_histogram_has_parts(self):
        metrics = {
            "daybook_seconds": Metric("Histogram", frozenset({"view"})),
            "daybook_events_total": Metric("Counter", frozenset({"view"})),
        }
        self.assertEqual(find(metrics, "daybook_seconds_count"), Metric("Counter", frozenset({"view"})))
        self.assertEqual(find(metrics, "daybook_seconds"), Metric("Histogram", frozenset({"view", "quantile"})))
        self.assertIsNone(find(metrics, "daybook_events_total_count"))


if __name__ == "__main__":
    unittest.main()
