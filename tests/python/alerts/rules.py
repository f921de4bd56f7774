"""Checks the alerting rules of Prometheus: each finding is a text.

A parser of PromQL reads the expressions. Each metric and each label must exist in the catalogue, also the labels in the
texts of alerts. Each alert must have a line in the table of actions in README.md.
"""

import pathlib
import re

import promql_parser
import yaml
from catalogue import ROOT, find

RULES = "deploy/prometheus/alerts.yml"
GUIDE = "README.md"
# The labels that Prometheus adds to each metric that it scrapes.
SCRAPED = frozenset({"job", "instance"})
# Functions of a counter's growth; a gauge's values make no sense there.
OF_COUNTERS = {"rate", "irate", "increase"}
NAME = re.compile(r"Daybook[A-Za-z]+")
FIELDS = {"alert", "expr", "for", "labels", "annotations"}
SEVERITIES = {"page", "ticket"}
TEMPLATE = re.compile(r"\{\{(.*?)\}\}")
LABEL_IN_TEMPLATE = re.compile(r"\$labels\.([A-Za-z_]+)")
ACTION = re.compile(r"^\| `(Daybook[A-Za-z]+)` \|(.*)\|$", re.MULTILINE)


def alerting_rules(root=ROOT):
    """The alerting rules, in the order of the file."""
    document = yaml.safe_load((root / RULES).read_text(encoding="utf-8"))
    return [rule for group in document["groups"] for rule in group["rules"]]


def actions(root=ROOT):
    """The actions of README.md, by alert."""
    guide = pathlib.Path(root / GUIDE).read_text(encoding="utf-8")
    return {name: action.strip() for name, action in ACTION.findall(guide)}


def check(rules, metrics, described):
    """The findings about all rules. `metrics` is the catalogue, `described` has the actions by alert."""
    findings = []
    names = [rule.get("alert", "") for rule in rules]
    for name in sorted({name for name in names if names.count(name) > 1}):
        findings.append(f"{name}: two rules have this name")
    for name in sorted(set(described) - set(names)):
        findings.append(f"{name}: {GUIDE} has an action, but no rule has this name")
    for rule in rules:
        findings.extend(check_rule(rule, metrics, described))
    return findings


def check_rule(rule, metrics, described):
    """The findings about one rule."""
    name = rule.get("alert", "")
    findings = []
    if not NAME.fullmatch(name):
        findings.append(f"the name does not match {NAME.pattern}")
    findings.extend(f"unknown field {field}" for field in sorted(set(rule) - FIELDS))
    if not described.get(name):
        findings.append(f"{GUIDE} has no action")
    if rule.get("labels", {}).get("severity") not in SEVERITIES:
        findings.append(f"the severity is not one of {sorted(SEVERITIES)}")
    if "for" in rule:
        try:
            promql_parser.parse_duration(str(rule["for"]))
        except ValueError as error:
            findings.append(f"for: {error}")
    try:
        expression = promql_parser.parse(rule.get("expr", ""))
    except ValueError as error:
        findings.append(f"expr: {error}")
    else:
        result = labels_of(expression, metrics, findings)
        findings.extend(check_texts(rule, result))
    return [f"{name}: {finding}" for finding in findings]


def check_texts(rule, result):
    """The findings about the texts of an alert, whose labels are those of the expression's result."""
    annotations = rule.get("annotations", {})
    if not annotations.get("summary"):
        yield "no summary"
    for text in annotations.values():
        for template in TEMPLATE.findall(text):
            used = LABEL_IN_TEMPLATE.findall(template)
            if not used and template.strip() != "$value":
                yield f"a text has {{{{{template}}}}}, which is neither a label nor the value"
            for label in used:
                if label not in result:
                    yield f"a text has the label {label}, but the result has only {sorted(result)}"


def labels_of(expression, metrics, findings):
    """The labels of an expression's result. Adds unknown metrics, and labels that no operand has, to `findings`."""
    match expression:
        case promql_parser.VectorSelector():
            return labels_of_selector(expression, metrics, findings)
        case promql_parser.MatrixSelector():
            return labels_of(expression.vector_selector, metrics, findings)
        case promql_parser.AggregateExpr():
            inner = labels_of(expression.expr, metrics, findings)
            return aggregated(expression.modifier, inner, findings)
        case promql_parser.BinaryExpr():
            sides = [labels_of(side, metrics, findings) for side in (expression.lhs, expression.rhs)]
            matching = expression.modifier and expression.modifier.matching
            for label in matching.labels if matching else ():
                if not all(label in side for side in sides):
                    findings.append(f"the label {label} is not on both sides of an operator")
            return sides[0] | sides[1]
        case promql_parser.Call():
            if expression.func.name in OF_COUNTERS:
                for selector in selectors(expression):
                    metric = find(metrics, selector.name or "")
                    if metric is not None and metric.kind != "Counter":
                        findings.append(f"{expression.func.name} of {selector.name}, which is a {metric.kind}")
            return frozenset().union(*(labels_of(argument, metrics, findings) for argument in expression.args))
        case promql_parser.ParenExpr() | promql_parser.UnaryExpr() | promql_parser.SubqueryExpr():
            return labels_of(expression.expr, metrics, findings)
        case promql_parser.NumberLiteral() | promql_parser.StringLiteral():
            return frozenset()
    raise ValueError(f"this check does not know {type(expression).__name__}: {expression}")


def labels_of_selector(selector, metrics, findings):
    """The labels of the metric that a selector names."""
    metric = find(metrics, selector.name or "")
    if metric is None:
        findings.append(f"no metric {selector.name}")
        return frozenset()
    labels = metric.labels | SCRAPED
    alternatives = [selector.matchers.matchers, *selector.matchers.or_matchers]
    for matcher in (matcher for matchers in alternatives for matcher in matchers):
        if matcher.name not in labels:
            findings.append(f"{selector.name} has no label {matcher.name}, only {sorted(metric.labels)}")
    return labels


def aggregated(modifier, inner, findings):
    """The labels that an aggregation keeps of those of its operand."""
    if modifier is None:
        return frozenset()
    for label in modifier.labels:
        if label not in inner:
            findings.append(f"an aggregation names the label {label}, but its operand has only {sorted(inner)}")
    named = frozenset(modifier.labels)
    return inner & named if modifier.type == promql_parser.AggModifierType.By else inner - named


def selectors(expression):
    """All selectors of an expression."""
    found = []

    def visit(part):
        if isinstance(part, promql_parser.MatrixSelector):
            found.append(part.vector_selector)
        elif isinstance(part, promql_parser.VectorSelector):
            found.append(part)

    promql_parser.walk(expression, visit)
    return list({selector.name: selector for selector in found}.values())
