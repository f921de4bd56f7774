"""Judges the records of a journal partition: a third implementation of the rule, from schemas/golden/journal/README.md
alone. It shares no code with the service or its auditor, and does not depend on Kafka."""

import struct

from blake3 import blake3

ANNOUNCEMENT, NO_OP, DECISION = 0, 1, 2
RULE_VERSION = 1
LONG_BYTES_MAX = 10
PREV = slice(5, 37)
TERM = slice(37, 53)


class Void(Exception):
    """The record is void, for this reason."""


class Halt(Exception):
    """An alarm, for this reason: correct owners do not write this record."""


class AvroReader:
    """Reads Avro's primitive types from a position on."""

    def __init__(self, value, at):
        self.value = value
        self.at = at

    def take(self, count):
        """The next `count` bytes."""
        if len(self.value) - self.at < count:
            raise Void("malformed_truncated")
        self.at += count
        return self.value[self.at - count : self.at]

    def long(self):
        """A zigzag varint of 64 bits."""
        bits = 0
        for index in range(LONG_BYTES_MAX):
            byte = self.take(1)[0]
            bits |= (byte & 0x7F) << (7 * index)
            if byte < 0x80:
                if bits >= 1 << 64:
                    raise Void("malformed_range")
                return (bits >> 1) ^ -(bits & 1)
        raise Void("malformed_varint")

    def int(self):
        """A zigzag varint of 32 bits."""
        number = self.long()
        if not -(1 << 31) <= number < 1 << 31:
            raise Void("malformed_range")
        return number

    def text(self):
        """A string."""
        length = self.long()
        if length < 0:
            raise Void("malformed_length")
        try:
            return self.take(length).decode()
        except UnicodeDecodeError as error:
            raise Void("malformed_text") from error


class Frame:
    """The fields before a record's body, and all fields of an announcement."""

    def __init__(self, value):
        # The first byte is checked first, because the first reason from the front of the value counts.
        if value[:1] not in (b"", b"\0"):
            raise Void("malformed_magic")
        reader = AvroReader(value, 0)
        reader.take(TERM.stop)
        self.schema_id = struct.unpack(">I", value[1:5])[0]
        self.prev = value[PREV]
        self.term = value[TERM]
        self.epoch = reader.long()
        self.seq = reader.long()
        self.recorded_at = reader.long()
        self.kind = reader.long()
        if self.kind not in (ANNOUNCEMENT, NO_OP, DECISION):
            raise Void("malformed_body")
        if self.kind == ANNOUNCEMENT:
            self.rule_version = reader.int()
            self.partitions = reader.int()
            self.owner_url = reader.text()


class Rule:
    """The whole state of a reader after the records that it has judged."""

    def __init__(self, topic, partition):
        self.topic = topic
        self.partition = partition
        name = topic.encode()
        self.hash = blake3(b"daybook/1" + struct.pack(">I", len(name)) + name + struct.pack(">i", partition)).digest()
        self.prev_hash = bytes(32)
        self.log_id = None
        self.next_offset = 0
        self.probe_offset = None
        self.epoch = 0
        self.term = bytes(16)
        self.seq = 0
        self.log_time = 0

    def judge(self, offset, key, value):
        """Returns the frame of a valid record. Raises `Void`, or `Halt` without changing the state."""
        if offset < self.next_offset:
            raise Halt("offset_went_back")
        try:
            frame = self.valid_frame(key, value)
        except Void:
            # A record whose prev is the current hash was the next commit, so it was altered.
            if value is not None and value[PREV] == self.hash:
                raise Halt("altered") from None
            self.next_offset = offset + 1
            raise
        self.next_offset = offset + 1
        self.epoch, self.term, self.seq = frame.epoch, frame.term, frame.seq
        self.prev_hash = self.hash
        self.hash = blake3(self.hash + struct.pack(">I", len(key)) + key + value).digest()
        self.log_id = self.log_id or self.hash
        self.probe_offset = offset
        if frame.kind != ANNOUNCEMENT:
            self.log_time = max(self.log_time, frame.recorded_at)
        return frame

    def valid_frame(self, key, value):
        """Returns the frame if the record is valid."""
        if key is None:
            raise Void("null_key")
        if value is None:
            raise Void("null_value")
        frame = Frame(value)
        if frame.kind == DECISION and key == b"":
            raise Void("key_missing")
        if frame.kind != DECISION and key != b"":
            raise Void("key_forbidden")
        if frame.kind == ANNOUNCEMENT:
            self.check_announcement(frame)
        else:
            self.check_commit(frame)
        return frame

    def check_announcement(self, frame):
        """Checks that an announcement starts the next term."""
        if frame.seq != 0:
            raise Void("announcement_seq")
        if frame.epoch <= self.epoch:
            raise Void("announcement_too_late")
        if frame.epoch != self.epoch + 1:
            raise Halt("announcement_skips_epoch")
        if frame.rule_version > RULE_VERSION:
            raise Halt("newer_rule")

    def check_commit(self, frame):
        """Checks that a commit is the current term's next record."""
        if self.log_id is None:
            raise Halt("before_first_term")
        if frame.epoch > self.epoch:
            raise Halt("future_epoch")
        if frame.epoch < self.epoch:
            raise Void("other_term")
        if frame.term != self.term:
            raise Halt("term_unknown")
        if frame.seq <= self.seq:
            raise Void("seq_repeated")
        if frame.seq != self.seq + 1:
            raise Void("seq_gap")
        if frame.prev != self.hash:
            raise Halt("chain_broken")
