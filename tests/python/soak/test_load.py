"""Tests of the load: steps of products, slices of the data, the answers of queries, and reads of own writes."""

import csv
import email.message
import gzip
import itertools
import pathlib
import tempfile
import threading
import unittest

import load
import queries
from client import Answer
from counts import Counts


def answer(status, body=None, **headers):
    """An answer with headers, whose names have underscores for hyphens."""
    message = email.message.Message()
    for name, value in headers.items():
        message[name.replace("_", "-")] = value
    return Answer(status, message, body)


class Answers:
    """A client that gets its answers from a function of the path and the headers."""

    def __init__(self, answer_of):
        self.answer_of = answer_of
        self.paths = []

    def send(self, method, path, body=None, headers=None, accepted=(200,)):
        self.paths.append(path)
        return self.answer_of(path, headers or {})


class ProductSteps(unittest.TestCase):
    def test_that_each_product_is_created_and_then_gets_its_prices(self):
        found = list(itertools.islice(load.product_steps(), 2 * (load.PRICES_PER_PRODUCT + 1)))
        expected = [(number, step) for number in range(2) for step in range(load.PRICES_PER_PRODUCT + 1)]
        self.assertEqual(found, expected)


class Slices(unittest.TestCase):
    def slices(self, count):
        """Slices of 30 lines: ten invoices of three lines."""
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        path = pathlib.Path(folder.name) / "data.csv.gz"
        with gzip.open(path, "wt", encoding="utf-8", newline="") as file:
            file.write("InvoiceNo,StockCode\n" + "".join(f"{line // 3},{line}\n" for line in range(30)))
        paths = load.slices_of(path, folder.name, count)
        return [[row["StockCode"] for row in csv.DictReader(path.read_text().splitlines())] for path in paths]

    def test_slices_of_a_short_run_have_the_rate_of_a_long_one(self):
        before = load.SLICE_LINES
        self.addCleanup(setattr, load, "SLICE_LINES", before)
        load.SLICE_LINES = 6
        self.assertEqual([len(lines) for lines in self.slices(2)], [6, 6])

    def test_slices_have_each_line_once_and_whole_invoices(self):
        found = self.slices(4)
        self.assertEqual([line for lines in found for line in lines], [str(line) for line in range(30)])
        self.assertTrue(all(len(lines) % 3 == 0 for lines in found), found)

    def test_there_are_at_most_as_many_slices_as_invoices(self):
        self.assertEqual(len(self.slices(50)), 10)


class Restarts(unittest.TestCase):
    def test_a_short_run_has_restarts(self):
        self.assertEqual(load.restart_interval(120), 40)
        self.assertEqual(load.restart_interval(3600), load.RESTART_INTERVAL_S)


class Reads(unittest.TestCase):
    def setUp(self):
        self.counts, self.stop = Counts(), threading.Event()
        for module, name in [(queries, "QUERIES_PER_S"), (queries, "LAG_INTERVAL_S")]:
            self.addCleanup(setattr, module, name, getattr(module, name))
        queries.QUERIES_PER_S, queries.LAG_INTERVAL_S = 1e6, 0.0

    def reader(self, answer_of):
        return queries.Reader(Answers(answer_of), self.counts, self.stop)

    def test_each_cursor_is_sent_until_the_list_ends(self):
        def page(path, headers):
            last = "cursor=b" in path
            return answer(200, {"next_cursor": None if last else "b" if "cursor=a" in path else "a"}, ETag='"1"')

        reader = self.reader(page)
        self.assertEqual(len(list(reader.pages("/orders?limit=1"))), 3)
        self.assertEqual(self.counts.done["later pages"], 2)
        self.assertEqual(reader.client.paths[-1], "/api/v1/orders?limit=1&cursor=b")

    def test_an_answer_that_has_not_changed_is_counted(self):
        self.reader(lambda path, headers: answer(304 if headers else 200, ETag='"1"')).get("/countries")
        self.assertEqual(self.counts.done["unchanged answers"], 1)

    def test_an_answer_without_a_tag_is_an_error(self):
        self.reader(lambda path, headers: answer(200, {})).get("/countries")
        self.assertEqual(self.counts.errors, 1, self.counts.first_errors)

    def test_a_resource_that_stays_unknown_is_an_error(self):
        self.assertIsNone(self.reader(lambda path, headers: answer(404)).get("/orders/order_x"))
        self.assertIn("still 404", self.counts.first_errors[0])

    def read_own_write(self, found):
        written = answer(201, {}, ETag='"6"', Daybook_Position="journal.catalog/1@7")
        load.read_own_write(Answers(lambda path, headers: found), self.counts, "A", written)

    def test_a_read_of_an_own_write_has_its_version(self):
        self.read_own_write(answer(200, {}, ETag='"6"'))
        self.assertEqual(self.counts.done["reads of own writes"], 1)

    def test_an_older_version_without_a_mark_is_an_error(self):
        self.read_own_write(answer(200, {}, ETag='"5"'))
        self.assertIn("instead of \"6\"", self.counts.first_errors[0])

    def test_an_older_version_that_is_marked_as_stale_is_no_error(self):
        self.read_own_write(answer(200, {}, ETag='"5"', Daybook_Stale="true"))
        self.assertEqual((self.counts.errors, self.counts.done["stale answers"]), (0, 1))


if __name__ == "__main__":
    unittest.main()
