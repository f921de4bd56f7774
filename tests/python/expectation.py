#!/usr/bin/env python3
"""Computes the expected result of an import of Online Retail from the CSV file alone.

It shares no code with the importer, the service or their libraries on purpose, so that the system tests compare two
independent readings of the same file. It uses Python's standard library only.

Prints one JSON object. Amounts are whole pence: the sum of each line's quantity x unit price, rounded half-even. An
invoice belongs to the UTC day and hour of its first line's time, which is local time in Europe/London. An unreadable row
is an error: the shipped file has none.

    python3 tests/python/expectation.py [FILE]
"""

import collections
import csv
import datetime
import gzip
import io
import json
import pathlib
import sys
import zoneinfo
from decimal import ROUND_HALF_EVEN, Decimal

LONDON = zoneinfo.ZoneInfo("Europe/London")
SHIPPED = pathlib.Path(__file__).resolve().parents[2] / "data" / "online-retail.csv.gz"
COLUMNS = [
    "InvoiceNo",
    "StockCode",
    "Description",
    "Quantity",
    "InvoiceDate",
    "UnitPrice",
    "CustomerID",
    "Country",
]
ASCII_BLANKS = " \t\n\v\f\r"

Line = collections.namedtuple(
    "Line", "number invoice sku description raw_description quantity local price customer country ascii"
)


def read_lines(path):
    """Checks the header and yields every line of the file; `number` counts from 1 at the header."""
    raw = pathlib.Path(path).read_bytes()
    if raw[:2] == b"\x1f\x8b":
        raw = gzip.decompress(raw)
    rows = csv.reader(io.StringIO(raw.decode("utf-8"), newline=""), strict=True)
    header = next(rows)
    if header != COLUMNS:
        raise SystemExit(f"unexpected header: {header}")
    for row in rows:
        invoice, sku, description, quantity, date, price, customer, country = row
        yield Line(
            number=rows.line_num,
            invoice=invoice,
            sku=sku,
            description=description.strip(ASCII_BLANKS),
            raw_description=description,
            quantity=int(quantity),
            local=datetime.datetime.strptime(date, "%m/%d/%Y %H:%M"),
            price=Decimal(price),
            customer=customer,
            country=country,
            ascii="".join(row).isascii(),
        )


def pence(line):
    """The line's amount in pence, rounded half-even."""
    return int((line.quantity * line.price * 100).quantize(Decimal(1), rounding=ROUND_HALF_EVEN))


def to_utc(local):
    """Converts London local time to UTC. A repeated time is the first one; a skipped time has the offset before it."""
    return local.replace(tzinfo=LONDON).astimezone(datetime.timezone.utc)


def last_prices(lines):
    """The last price of each stock code, in pence: the price in the sale with the latest time. Among sales of the same
    time, the later line of the file counts. Credit notes and prices that round to less than a penny do not count."""
    prices = {}
    for line in lines:
        amount = int((line.price * 100).quantize(Decimal(1), rounding=ROUND_HALF_EVEN))
        if line.invoice.startswith("C") or amount <= 0:
            continue
        at = to_utc(line.local)
        if line.sku not in prices or prices[line.sku][0] <= at:
            prices[line.sku] = (at, amount)
    return {sku: amount for sku, (_, amount) in prices.items()}


def describe(lines):
    """The first description of each stock code; empty if no line has one."""
    products = {}
    for line in lines:
        products[line.sku] = products.get(line.sku) or line.description
    return products


def is_skipped_or_repeated(local):
    """Whether this local time in London never existed, or existed twice."""
    first = local.replace(tzinfo=LONDON, fold=0).utcoffset()
    second = local.replace(tzinfo=LONDON, fold=1).utcoffset()
    return first != second


def group_by_invoice(lines):
    """The lines of each invoice, ordered by the invoices' first lines."""
    invoices = {}
    for line in lines:
        invoices.setdefault(line.invoice, []).append(line)
    for number, members in invoices.items():
        if len({(line.customer, line.country) for line in members}) != 1:
            raise SystemExit(f"invoice {number} has several customers or countries")
    return invoices


def codes_differing_in_case_only(codes):
    """Number of stock codes that differ from another one in case only."""
    spellings = collections.Counter(code.upper() for code in codes)
    return sum(count for count in spellings.values() if count > 1)


def exact_duplicates(lines):
    """Number of lines that equal an earlier line in every column, with trimmed descriptions."""
    distinct = {line._replace(number=0, raw_description="") for line in lines}
    return len(lines) - len(distinct)


def count_data_quality(lines, invoices, products):
    """The count of each data quality issue, with the names of the importer's report."""
    times = {line.local for line in lines}
    odd_times = {time for time in times if is_skipped_or_repeated(time)}
    return {
        "lines_without_customer": sum(line.customer == "" for line in lines),
        "lines_without_description": sum(line.description == "" for line in lines),
        "negative_quantities_outside_credit_notes": sum(
            line.quantity < 0 and not line.invoice.startswith("C") for line in lines
        ),
        "zero_prices": sum(line.price == 0 for line in lines),
        "negative_prices": sum(line.price < 0 for line in lines),
        "prices_below_a_penny": sum(0 < line.price < Decimal("0.01") for line in lines),
        "prices_finer_than_a_penny": sum(line.price * 100 % 1 != 0 for line in lines),
        "exact_duplicate_lines": exact_duplicates(lines),
        "invoices_with_several_timestamps": sum(
            len({line.local for line in members}) > 1 for members in invoices.values()
        ),
        "invoices_not_together": sum(
            members[-1].number - members[0].number + 1 != len(members) for members in invoices.values()
        ),
        "invoices_starting_with_a": sum(number.startswith("A") for number in invoices),
        "stock_codes_differing_in_case_only": codes_differing_in_case_only(products),
        "stock_codes_with_blanks": sum(" " in sku for sku in products),
        "stock_codes_without_description": sum(description == "" for description in products.values()),
        "descriptions_trimmed": sum(line.description != line.raw_description for line in lines),
        "lines_beyond_ascii": sum(not line.ascii for line in lines),
        "lines_read_as_windows_1252": 0,
        "times_skipped_or_repeated": sum(line.local in odd_times for line in lines),
    }


class Totals:
    """Invoices, lines and pence of a group of invoices."""

    def __init__(self):
        self.invoices = 0
        self.lines = 0
        self.total_minor = 0

    def add(self, lines, total_minor):
        self.invoices += 1
        self.lines += len(lines)
        self.total_minor += total_minor


def expect(path):
    """Computes the expectation as one object for JSON."""
    lines = list(read_lines(path))
    invoices = group_by_invoice(lines)
    products = describe(lines)

    whole = Totals()
    countries = collections.defaultdict(Totals)
    customers = collections.defaultdict(Totals)
    days = collections.defaultdict(Totals)
    windows = {width: collections.defaultdict(lambda: collections.defaultdict(Totals)) for width in ("day", "hour")}
    for members in invoices.values():
        first = members[0]
        total = sum(map(pence, members))
        at = to_utc(first.local)
        groups = [
            whole,
            countries[first.country],
            days[at.strftime("%Y-%m-%d")],
            windows["day"][at.strftime("%Y-%m-%dT00:00:00Z")][first.country],
            windows["hour"][at.strftime("%Y-%m-%dT%H:00:00Z")][first.country],
        ]
        if first.customer:
            groups.append(customers[first.customer])
        for group in groups:
            group.add(members, total)

    credit_notes = sum(number.startswith("C") for number in invoices)
    return {
        "invoices": whole.invoices,
        "sales": whole.invoices - credit_notes,
        "credit_notes": credit_notes,
        "lines": whole.lines,
        "total_minor": whole.total_minor,
        "currency": "GBP",
        "products": len(products),
        "priced_products": len(last_prices(lines)),
        "data_quality": count_data_quality(lines, invoices, products),
        "countries": countries,
        "customers": customers,
        "days": days,
        "windows": windows,
    }


def main():
    path = sys.argv[1] if len(sys.argv) > 1 else SHIPPED
    json.dump(expect(path), sys.stdout, ensure_ascii=False, default=vars, indent=1)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
