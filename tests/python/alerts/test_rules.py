"""Tests of the alerting rules, and of the check: it must find each kind of error."""

import unittest

import rules
from catalogue import Metric, catalogue

METRICS = {
    "daybook_view_lag": Metric("Gauge", frozenset({"view", "partition"})),
    "daybook_errors_total": Metric("Counter", frozenset({"topic"})),
    "daybook_seconds": Metric("Histogram", frozenset({"view"})),
}
NAME = "DaybookBehind"
ACTIONS = {NAME: "start the database"}


def rule(**changed):
    """A correct rule with changed fields."""
    correct = {
        "alert": NAME,
        "expr": "max by (view) (daybook_view_lag) > 60",
        "for": "5m",
        "labels": {"severity": "page"},
        "annotations": {"summary": "view {{ $labels.view }} is {{ $value }} s behind"},
    }
    return correct | changed


def findings(**changed):
    return rules.check([rule(**changed)], METRICS, ACTIONS)


class Deployed(unittest.TestCase):
    def test_the_rules_have_no_error(self):
        deployed = rules.alerting_rules()
        self.assertNotEqual(deployed, [])
        self.assertEqual(rules.check(deployed, catalogue(), rules.actions()), [])


class Check(unittest.TestCase):
    def assert_found(self, part, **changed):
        found = findings(**changed)
        self.assertTrue(len(found) == 1 and part in found[0], f"{found} instead of one finding with {part!r}")

    def test_a_correct_rule_has_no_finding(self):
        self.assertEqual(findings(), [])

    def test_all_forms_of_expressions_are_known(self):
        texts = {"summary": "{{ $value }} errors"}
        for expression in [
            'increase(daybook_errors_total{topic=~"journal.*", job="daybook"}[10m]) > 0',
            "sum(rate(daybook_seconds_sum[5m])) / sum(rate(daybook_seconds_count[5m])) > 1",
            'daybook_seconds{quantile="0.99"} > 1 and on (view) -(daybook_view_lag) < 0',
            "max_over_time(daybook_view_lag[1h:1m] offset 5m) > 7 or absent(daybook_view_lag)",
            "sum without (partition) (daybook_view_lag) > scalar(sum(daybook_errors_total))",
        ]:
            self.assertEqual(findings(expr=expression, annotations=texts), [], expression)

    def test_an_expression_that_is_not_promql(self):
        self.assert_found("expr:", expr="max by (view) (daybook_view_lag > 60")

    def test_a_range_that_is_not_a_duration(self):
        texts = {"summary": "errors"}
        self.assert_found("expr:", expr="increase(daybook_errors_total[5 minutes]) > 0", annotations=texts)

    def test_a_function_of_the_wrong_kind_of_value(self):
        self.assert_found("expr:", expr="increase(daybook_errors_total) > 0", annotations={"summary": "errors"})

    def test_a_metric_that_does_not_exist(self):
        self.assert_found("no metric daybook_lag", expr="daybook_lag > 60", annotations={"summary": "behind"})

    def test_a_part_of_a_metric_that_has_no_parts(self):
        self.assert_found("no metric", expr="daybook_view_lag_sum > 60", annotations={"summary": "behind"})

    def test_a_matched_label_that_the_metric_lacks(self):
        self.assert_found("no label topic", expr='daybook_view_lag{topic="journal.orders"} > 60')

    def test_an_aggregated_label_that_the_metric_lacks(self):
        self.assert_found("names the label build", expr="max by (view, build) (daybook_view_lag) > 60")

    def test_a_label_that_an_inner_aggregation_has_dropped(self):
        expression = "max by (view) (sum by (partition) (daybook_view_lag)) > 60"
        texts = {"summary": "behind"}
        self.assert_found("names the label view", expr=expression, annotations=texts)

    def test_an_operator_that_matches_a_label_of_one_side(self):
        expression = "daybook_view_lag > on (view) daybook_errors_total"
        self.assert_found("the label view is not on both sides", expr=expression)

    def test_the_growth_of_a_gauge(self):
        self.assert_found("which is a Gauge", expr="increase(daybook_view_lag[5m]) > 0")

    def test_a_label_in_a_text_that_the_result_lacks(self):
        self.assert_found("the label topic", annotations={"summary": "see {{ $labels.topic }}"})

    def test_a_template_that_is_neither_a_label_nor_the_value(self):
        self.assert_found("neither a label nor the value", annotations={"summary": "{{ $vlaue }} s"})

    def test_a_time_that_is_not_a_duration(self):
        self.assert_found("for:", **{"for": "5 minutes"})

    def test_a_field_that_prometheus_does_not_know(self):
        self.assert_found("unknown field fro", fro="5m")

    def test_a_severity_that_nobody_routes(self):
        self.assert_found("severity", labels={"severity": "pgae"})

    def test_a_rule_without_a_summary(self):
        self.assert_found("no summary", annotations={})

    def test_a_rule_without_an_action(self):
        found = rules.check([rule()], METRICS, {})
        self.assertEqual(found, [f"{NAME}: README.md has no action"])

    def test_an_action_without_a_rule(self):
        found = rules.check([], METRICS, ACTIONS)
        self.assertEqual(found, [f"{NAME}: README.md has an action, but no rule has this name"])

    def test_two_rules_with_one_name(self):
        found = rules.check([rule(), rule()], METRICS, ACTIONS)
        self.assertEqual(found, [f"{NAME}: two rules have this name"])


if __name__ == "__main__":
    unittest.main()
