"""Reads the valid decisions of a journal topic, with Confluent's client and fastavro."""

import io
import json
import time

import fastavro
from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition
from confluent_kafka.schema_registry import SchemaRegistryClient
from rule import ANNOUNCEMENT, DECISION, NO_OP, Halt, Rule, Void

TIMEOUT_S = 30.0
MESSAGES_MAX = 1_000
# Length of the wire header before the Avro datum: a zero and the schema's id.
WIRE_HEADER_BYTES = 5


class LogError(Exception):
    """The log is incomplete, or correct owners did not write it. The text names position and reason."""


class Decision:
    """A valid decision with its position and its time."""

    def __init__(self, position, appended_at, recorded_at, key, body):
        self.position = position
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
        # Each event is a name and its fields.
        self.events = body["events"]

    @property
    def topic_partition(self):
        """The partition, in which log time never decreases: `<topic>/<partition>`."""
        return self.position.split("@")[0]


class Journal:
    """A journal topic."""

    def __init__(self, brokers, registry_url, topic, prefix=""):
        # The topic's name in the rule; its name at the broker begins with the deployment's prefix.
        self.topic = topic
        self.broker_topic = prefix + topic
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
            topics = consumer.list_topics(self.broker_topic, timeout=TIMEOUT_S).topics
            for partition in sorted(topics[self.broker_topic].partitions):
                yield from self.of_partition(consumer, partition)
        finally:
            consumer.close()

    def of_partition(self, consumer, partition):
        """Every valid decision of a partition, in order. Raises `LogError`."""
        rule = Rule(self.topic, partition)
        for message in self.messages(consumer, partition):
            position = f"{self.topic}/{partition}@{message.offset()}"
            self.counts["records"] += 1
            try:
                frame = rule.judge(message.offset(), message.key(), message.value())
            except Void:
                self.counts["void"] += 1
                continue
            except Halt as halt:
                raise LogError(f"{position}: alarm: {halt}") from halt
            names = {ANNOUNCEMENT: "announcements", NO_OP: "no-ops", DECISION: "decisions"}
            self.counts[names[frame.kind]] += 1
            if frame.kind == DECISION:
                body = self.body(position, frame, message.value())
                appended_at = message.timestamp()[1] / 1000
                yield Decision(position, appended_at, frame.recorded_at, message.key().decode(), body)

    def messages(self, consumer, partition):
        """Every current record of a partition."""
        start_position = TopicPartition(self.broker_topic, partition, OFFSET_BEGINNING)
        start, end = consumer.get_watermark_offsets(start_position, timeout=TIMEOUT_S)
        if start != 0:
            raise LogError(f"{self.topic}/{partition} starts at offset {start}, not 0")
        next_offset, received_at = 0, time.monotonic()
        consumer.assign([start_position])
        while next_offset < end:
            # This waits for the full number of messages or the full timeout, so the timeout is short.
            for message in consumer.consume(MESSAGES_MAX, timeout=0.2):
                if message.error():
                    raise SystemExit(f"{self.topic}/{partition}: {message.error()}")
                received_at, next_offset = time.monotonic(), message.offset() + 1
                yield message
            # Control records of another program's transaction take offsets, but arrive as no message.
            next_offset = max(next_offset, consumer.position([start_position])[0].offset)
            if time.monotonic() - received_at > TIMEOUT_S:
                raise SystemExit(
                    f"{self.topic}/{partition}: no record arrived at offset {next_offset}, before the end offset {end}"
                )

    def body(self, position, frame, value):
        """Decodes a decision's fields."""
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
            raise LogError(f"{position}: its decision can't be decoded: {error!r}") from error
        return record["body"][1]
