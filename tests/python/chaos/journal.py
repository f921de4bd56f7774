"""A journal partition, read by the rule of ARCHITECTURE.md, written down here once more from that page alone: neither the
service nor its auditor has a line in this."""

import io
import json
import struct
import time

import fastavro
from blake3 import blake3
from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition
from confluent_kafka.schema_registry import SchemaRegistryClient

ANNOUNCEMENT, NO_OP, DECISION = 0, 1, 2
TIMEOUT_S = 30.0


class NotACommit(Exception):
    """Bytes that can't be one."""


class LogError(Exception):
    """The log can't be what honest owners wrote."""


def varint(value, at):
    """A zigzag varint: the number, and where it ends."""
    bits = shift = 0
    while True:
        if at >= len(value) or shift > 63:
            raise NotACommit("varint")
        byte = value[at]
        bits |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return (bits >> 1) ^ -(bits & 1), at


class Frame:
    """What stands before a record's body."""

    def __init__(self, value):
        if value is None or len(value) < 53 or value[0] != 0:
            raise NotACommit("header")
        self.schema_id = struct.unpack(">I", value[1:5])[0]
        self.prev = value[5:37]
        self.term = value[37:53]
        self.epoch, at = varint(value, 53)
        self.seq, at = varint(value, at)
        self.recorded_at, at = varint(value, at)
        self.kind, _ = varint(value, at)
        if self.kind not in (ANNOUNCEMENT, NO_OP, DECISION):
            raise NotACommit("body")


class Rule:
    """Which records are true."""

    def __init__(self, topic, partition):
        name = topic.encode()
        self.hash = blake3(b"daybook/1" + struct.pack(">I", len(name)) + name + struct.pack(">i", partition)).digest()
        self.epoch = 0
        self.term = None
        self.seq = 0

    def judge(self, key, value):
        """The frame of a valid record, None for a void one."""
        if key is None:
            return None
        try:
            frame = Frame(value)
        except NotACommit:
            return None
        if (frame.kind == DECISION) != (key != b""):
            return None
        if frame.kind == ANNOUNCEMENT:
            if frame.seq != 0 or frame.epoch <= self.epoch:
                return None
            if frame.epoch != self.epoch + 1:
                raise LogError(f"epoch {frame.epoch} is announced in epoch {self.epoch}")
        else:
            if frame.epoch > self.epoch:
                raise LogError(f"a commit of epoch {frame.epoch} in epoch {self.epoch}")
            if (frame.epoch, frame.term) != (self.epoch, self.term) or frame.seq != self.seq + 1:
                return None
            if frame.prev != self.hash:
                raise LogError("the chain is broken")
        self.epoch, self.term, self.seq = frame.epoch, frame.term, frame.seq
        self.hash = blake3(self.hash + struct.pack(">I", len(key)) + key + value).digest()
        return frame


class Decision:
    """A valid decision, and where and when it stands."""

    def __init__(self, partition, message, frame, body):
        self.partition = partition
        self.offset = message.offset()
        self.appended_at = message.timestamp()[1] / 1000
        self.recorded_at = frame.recorded_at
        self.key = message.key().decode()
        self.version = body["version"]
        self.id = body["command_id"]
        self.outcome = body["outcome"]
        self.events = body["events"]


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
        self.counts = {"records": 0, "void": 0, "terms": 0, "no-ops": 0, "decisions": 0}

    def decisions(self):
        """Every valid decision, partition after partition, in order."""
        consumer = Consumer(self.settings)
        try:
            for partition in consumer.list_topics(self.topic, timeout=TIMEOUT_S).topics[self.topic].partitions:
                yield from self.of_partition(consumer, partition)
        finally:
            consumer.close()

    def of_partition(self, consumer, partition):
        place = TopicPartition(self.topic, partition, OFFSET_BEGINNING)
        _, end = consumer.get_watermark_offsets(place, timeout=TIMEOUT_S)
        rule, at, heard = Rule(self.topic, partition), 0, time.monotonic()
        consumer.assign([place])
        while at < end:
            for message in consumer.consume(1_000, timeout=0.2):
                if message.error():
                    raise SystemExit(f"{self.topic}/{partition}: {message.error()}")
                heard, at = time.monotonic(), message.offset() + 1
                try:
                    frame = rule.judge(message.key(), message.value())
                except LogError as error:
                    raise LogError(f"{self.topic}/{partition}@{message.offset()}: {error}") from error
                self.count(frame)
                if frame is not None and frame.kind == DECISION:
                    yield Decision(partition, message, frame, self.body(frame, message.value()))
            if time.monotonic() - heard > TIMEOUT_S:
                raise SystemExit(f"{self.topic}/{partition}: nothing came after offset {at} of {end}")

    def count(self, frame):
        self.counts["records"] += 1
        names = {None: "void", ANNOUNCEMENT: "terms", NO_OP: "no-ops", DECISION: "decisions"}
        self.counts[names[frame and frame.kind]] += 1

    def body(self, frame, value):
        if frame.schema_id not in self.schemas:
            text = self.registry.get_schema(frame.schema_id).schema_str
            self.schemas[frame.schema_id] = fastavro.parse_schema(json.loads(text))
        record = fastavro.schemaless_reader(io.BytesIO(value[5:]), self.schemas[frame.schema_id])
        return record["body"]
