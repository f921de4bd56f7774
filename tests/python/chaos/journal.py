"""Reads a journal topic by the rule, with Confluent's client and fastavro."""

import io
import json
import time

import fastavro
from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition
from confluent_kafka.schema_registry import SchemaRegistryClient
from rule import ANNOUNCEMENT, DECISION, NO_OP, Halt, Rule, Void

TIMEOUT_S = 30.0
MESSAGES_MAX = 1_000
# What stands before Avro: a zero and the schema's id.
WIRE_HEADER_BYTES = 5


class LogError(Exception):
    """The log can't be what honest owners wrote; says where and why."""


class Decision:
    """A valid decision, and where and when it stands."""

    def __init__(self, place, appended_at, recorded_at, key, body):
        self.place = place
        # The broker's clock, in seconds.
        self.appended_at = appended_at
        # Log time, in microseconds.
        self.recorded_at = recorded_at
        self.key = key
        self.aggregate_type = body["aggregate_type"]
        self.version = body["version"]
        self.id = body["command_id"]
        self.origin = body["origin"]
        self.outcome = body["outcome"]
        # Each a name and its fields.
        self.events = body["events"]

    @property
    def topic_partition(self):
        """Where log time runs: `<topic>/<partition>`."""
        return self.place.split("@")[0]


class Journal:
    """A whole topic."""

    def __init__(self, brokers, registry_url, topic):
        self.topic = topic
        self.settings = {
            "bootstrap.servers": brokers,
            "group.id": "chaos-checker",
            "enable.auto.commit": False,
            "auto.offset.reset": "error",
            "isolation.level": "read_uncommitted",
        }
        self.registry = SchemaRegistryClient({"url": registry_url})
        self.schemas = {}
        self.counts = {"records": 0, "void": 0, "announcements": 0, "no-ops": 0, "decisions": 0}

    def decisions(self):
        """Every valid decision, partition after partition, in order. Raises `LogError`."""
        consumer = Consumer(self.settings)
        try:
            topics = consumer.list_topics(self.topic, timeout=TIMEOUT_S).topics
            for partition in sorted(topics[self.topic].partitions):
                yield from self.of_partition(consumer, partition)
        finally:
            consumer.close()

    def of_partition(self, consumer, partition):
        """The same of one partition."""
        rule = Rule(self.topic, partition)
        for message in self.messages(consumer, partition):
            place = f"{self.topic}/{partition}@{message.offset()}"
            self.counts["records"] += 1
            try:
                frame = rule.judge(message.offset(), message.key(), message.value())
            except Void:
                self.counts["void"] += 1
                continue
            except Halt as halt:
                raise LogError(f"{place}: alarm: {halt}") from halt
            names = {ANNOUNCEMENT: "announcements", NO_OP: "no-ops", DECISION: "decisions"}
            self.counts[names[frame.kind]] += 1
            if frame.kind == DECISION:
                body = self.body(place, frame, message.value())
                appended_at = message.timestamp()[1] / 1000
                yield Decision(place, appended_at, frame.recorded_at, message.key().decode(), body)

    def messages(self, consumer, partition):
        """Every record that the partition has now."""
        place = TopicPartition(self.topic, partition, OFFSET_BEGINNING)
        start, end = consumer.get_watermark_offsets(place, timeout=TIMEOUT_S)
        if start != 0:
            raise LogError(f"{self.topic}/{partition} begins at offset {start}")
        at, heard = 0, time.monotonic()
        consumer.assign([place])
        while at < end:
            # This waits for all of them or for the whole time, so it is a short one.
            for message in consumer.consume(MESSAGES_MAX, timeout=0.2):
                if message.error():
                    raise SystemExit(f"{self.topic}/{partition}: {message.error()}")
                heard, at = time.monotonic(), message.offset() + 1
                yield message
            if time.monotonic() - heard > TIMEOUT_S:
                raise SystemExit(f"{self.topic}/{partition}: nothing came after offset {at} of {end}")

    def body(self, place, frame, value):
        """A decision's fields."""
        if frame.schema_id not in self.schemas:
            text = self.registry.get_schema(frame.schema_id).schema_str
            self.schemas[frame.schema_id] = fastavro.parse_schema(json.loads(text))
        try:
            record = fastavro.schemaless_reader(
                io.BytesIO(value[WIRE_HEADER_BYTES:]),
                self.schemas[frame.schema_id],
                return_record_name=True,
                return_record_name_override=True,
            )
        except (EOFError, IndexError, ValueError) as error:
            raise LogError(f"{place}: its decision can't be decoded: {error!r}") from error
        return record["body"][1]
