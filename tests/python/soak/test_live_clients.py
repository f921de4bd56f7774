"""Tests of the live clients: a gap and a repetition of events are errors."""

import io
import json
import threading
import unittest

import live_clients
from counts import Counts


class Journal:
    """The sales of a customer, and streams of them, as a node sends them."""

    def __init__(self, alter=lambda number, event: [event]):
        self.sales = []
        self.alter = alter

    def sell(self, number):
        self.sales.append(number)

    def open_stream(self, last_id):
        """A stream of the sales behind an id, or of new sales."""
        return live_clients.Stream(Lines(self, 0 if last_id is None else int(last_id) + 1), lambda: None, last_id)


class Lines:
    """The lines of a stream."""

    def __init__(self, journal, first):
        self.journal = journal
        self.next = first
        self.waiting = [b"retry: 1000\n", f"id: {first - 1}\n".encode(), b"\n"] if first == 0 else []

    def readline(self):
        while not self.waiting:
            if self.next == len(self.journal.sales):
                # The event of the newest sale was left out, so the stream continues with the next sale.
                self.journal.sell(self.next)
            number = self.journal.sales[self.next]
            self.next += 1
            for event in self.journal.alter(number, number):
                data = json.dumps({"data": {"invoice": f"soak-{event}"}})
                self.waiting += [b":\n", b"\n", f"id: {number}\n".encode(), f"data: {data}\n".encode(), b"\n"]
        return self.waiting.pop(0)


class LiveClients(unittest.TestCase):
    def setUp(self):
        self.counts, self.stop = Counts(), threading.Event()
        before = live_clients.SALE_INTERVAL_S
        live_clients.SALE_INTERVAL_S = 0.0
        self.addCleanup(setattr, live_clients, "SALE_INTERVAL_S", before)

    def run_client(self, journal, sales=60):
        """Runs a client until it has made some sales."""

        def sell(number):
            journal.sell(number)
            if number + 1 >= sales:
                self.stop.set()

        live_clients.LiveClient(sell, journal.open_stream, self.counts, self.stop).run()

    def test_a_client_that_gets_every_event_once_resumes_its_streams(self):
        self.run_client(Journal())
        self.assertGreater(self.counts.done["resumed streams"], 2)
        self.assertGreater(self.counts.done["live events"], 50)

    def test_a_missing_event_is_an_error(self):
        journal = Journal(lambda number, event: [] if number == 10 else [event])
        with self.assertRaisesRegex(ValueError, "the event of sale 11 came instead of that of sale 10"):
            self.run_client(journal)

    def test_an_event_in_place_of_another_is_an_error(self):
        journal = Journal(lambda number, event: [event + 1 if number == 10 else event])
        with self.assertRaisesRegex(ValueError, "the event of sale 11 came instead of that of sale 10"):
            self.run_client(journal)

    def test_a_repeated_event_of_a_resumed_stream_is_an_error(self):
        # Sale 6 is the first one behind a resume.
        journal = Journal(lambda number, event: [event, event] if number == 7 else [event])
        with self.assertRaisesRegex(ValueError, "the event of sale 7 came instead of that of sale 8"):
            self.run_client(journal)

    def test_the_end_of_a_stream_shows_its_reason(self):
        text = b'id: 5\n\nevent: error\ndata: {"code": "CLIENT_TOO_SLOW"}\n\n'
        stream = live_clients.Stream(io.BytesIO(text), lambda: None)
        stream.await_connected()
        with self.assertRaisesRegex(EOFError, "CLIENT_TOO_SLOW"):
            stream.next_event()


if __name__ == "__main__":
    unittest.main()
