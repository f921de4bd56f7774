#!/usr/bin/env python3
"""Folds the CSV file of Online Retail into the cells that the read models must have after an import.

On purpose, it shares no code with the service or the importer. It prints one JSON object with these members:

- `customers` (keys: `<customer>/<currency>`), `countries` (`<country>/<currency>`) and `products` (stock code): the
  entries of the API's lists. A product's entry lacks `created_at`, which depends on the time of the import.
- `orders` (invoice): the columns of the invoice's order in both views of orders.
- `lines` (invoice): the columns of the order's lines, in the order of the file.
- `timelines` (invoice): the events of the invoice's order, without the times at which they were recorded.

    python3 tests/python/read_models.py [FILE]
"""

import json
import sys
import unicodedata

from expectation import SHIPPED, describe, group_by_invoice, last_prices, pence, read_lines, to_utc

CURRENCY = "GBP"


def stored(text):
    """A text in the form in which the service stores it."""
    return unicodedata.normalize("NFC", text.strip())


def rfc3339(local):
    """A local time of the file as the API writes it."""
    return to_utc(local).strftime("%Y-%m-%dT%H:%M:%SZ")


def money(amount):
    return {"amount": amount, "currency": CURRENCY}


class Sums:
    """The totals of some invoices."""

    def __init__(self):
        self.orders = 0
        self.credit_notes = 0
        self.lines = 0
        self.total = 0
        self.times = []

    def add(self, number, members):
        if number.startswith("C"):
            self.credit_notes += 1
        else:
            self.orders += 1
        self.lines += len(members)
        self.total += sum(map(pence, members))
        # Times in one format and time zone have the same order as their texts.
        self.times.append(rfc3339(members[0].local))

    def cells(self):
        return {
            "orders": self.orders,
            "credit_notes": self.credit_notes,
            "lines": self.lines,
            "total": money(self.total),
            "first_order_at": min(self.times),
            "last_order_at": max(self.times),
        }


def fold_totals(invoices):
    """The entries of customers and of countries."""
    customers, countries = {}, {}
    for number, members in invoices.items():
        first = members[0]
        countries.setdefault(stored(first.country), Sums()).add(number, members)
        if first.customer:
            customers.setdefault(first.customer, Sums()).add(number, members)
    by_customer = {f"{id}/{CURRENCY}": {"id": id, **sums.cells()} for id, sums in customers.items()}
    by_country = {f"{name}/{CURRENCY}": {"country": name, **sums.cells()} for name, sums in countries.items()}
    return by_customer, by_country


def fold_products(lines):
    """The entries of products. The importer creates each product once, and sets its price once if a sale has one."""
    prices = last_prices(lines)
    products = {}
    for sku, description in describe(lines).items():
        products[sku] = {
            "sku": sku,
            "description": stored(description),
            "price": money(prices[sku]) if sku in prices else None,
            "version": 2 if sku in prices else 1,
        }
    return products


def fold_orders(invoices):
    """The orders, and the lines of each."""
    orders, lines = {}, {}
    for number, members in invoices.items():
        first = members[0]
        orders[number] = {
            "kind": "CREDIT_NOTE" if number.startswith("C") else "SALE",
            "customer": first.customer or None,
            "country": stored(first.country),
            "ordered_at": rfc3339(first.local),
            "total": money(sum(map(pence, members))),
            "line_count": len(members),
            "version": 1,
        }
        lines[number] = [
            {
                "sku": line.sku,
                "description": stored(line.description) or None,
                "quantity": line.quantity,
                "unit_price": int(line.price * 1_000_000),
                "amount": pence(line),
            }
            for line in members
        ]
    return orders, lines


def fold_timelines(invoices):
    """The events of each order. An imported order has one event, its import."""
    timelines = {}
    for number, members in invoices.items():
        first = members[0]
        timelines[number] = [
            {
                "version": 1,
                "event": "CreditNoteIssued" if number.startswith("C") else "SaleImported",
                "happened_at": rfc3339(first.local),
                "invoice": number,
                "customer": first.customer or None,
                "country": stored(first.country),
                "total": money(sum(map(pence, members))),
                "line_count": len(members),
            }
        ]
    return timelines


def main():
    lines = list(read_lines(sys.argv[1] if len(sys.argv) > 1 else SHIPPED))
    invoices = group_by_invoice(lines)
    customers, countries = fold_totals(invoices)
    orders, order_lines = fold_orders(invoices)
    models = {
        "customers": customers,
        "countries": countries,
        "products": fold_products(lines),
        "orders": orders,
        "lines": order_lines,
        "timelines": fold_timelines(invoices),
    }
    json.dump(models, sys.stdout, ensure_ascii=False)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
