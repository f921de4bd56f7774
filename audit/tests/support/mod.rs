//! Builds small journals and copies of them.
#![allow(dead_code, reason = "each test file uses a part of it")]

use audit::{
    copy::{CopyWriter, PartitionEnd, RecordLine, TopicPartitions},
    finding::Problem,
    model::{AlarmReason, Entry, first_hash, next_hash},
    report::Report,
    verify::verify_copy,
};
use schemas::{
    Announcement, Body, Commit, Currency, Decision, NoOp, Origin, Quantity, Sku, Timestamp,
    UnitPrice,
    orders::{Event, OrderEvent, SaleImported, SaleLine},
};

pub const TOPIC: &str = "journal.orders";
pub const PARTITION: i32 = 2;
/// Partitions of the topic in a copy.
pub const PARTITION_COUNT: i32 = 4;
pub const SCHEMA_ID: u32 = 7;
const START_US: i64 = 1_700_000_000_000_000;

/// An owner that writes a log in memory and follows the rule.
pub struct Journal {
    pub records: Vec<RecordLine>,
    pub hash: [u8; 32],
    pub epoch: i64,
    pub seq: i64,
    pub term: [u8; 16],
    /// Offset of this owner's clock from the correct time, in microseconds.
    pub clock_us: i64,
    commands: u8,
}

impl Journal {
    pub fn new() -> Self {
        Self {
            records: Vec::new(),
            hash: first_hash(TOPIC, PARTITION),
            epoch: 0,
            seq: 0,
            term: [0; 16],
            clock_us: 0,
            commands: 0,
        }
    }

    /// A log of three terms, one of them without a commit, with the kinds of void records that a correct run has.
    pub fn with_every_kind() -> Self {
        let mut journal = Self::new();
        journal.announce();
        journal.decide("order_1", 0, 1);
        journal.no_op();
        journal.decide("order_1", 1, 1);
        let zombie = journal.clone_owner();
        journal.repeat_last();
        journal.announce();
        journal.announce();
        journal.decide("order_2", 0, 2);
        let (value, key) = zombie.encoded(zombie.seq + 1, no_op());
        journal.push(key, value);
        journal.push(b"garbage".to_vec(), b"hello".to_vec());
        journal.decide("order_2", 2, 0);
        journal.no_op();
        journal.decide("order_3", 0, 1);
        journal
    }

    pub fn clone_owner(&self) -> Self {
        Self {
            records: Vec::new(),
            ..*self
        }
    }

    pub fn announce(&mut self) {
        self.announce_version(1);
    }

    pub fn announce_version(&mut self, rule_version: i32) {
        self.epoch += 1;
        self.seq = 0;
        let epoch = u8::try_from(self.epoch).unwrap();
        self.term = [0x40 + epoch; 16];
        let (value, key) = self.encoded(
            0,
            Body::Announcement(Announcement {
                rule_version,
                partitions: PARTITION_COUNT,
                owner_url: "http://127.0.0.1:8080".into(),
            }),
        );
        self.append_valid(key, value);
    }

    pub fn no_op(&mut self) {
        let (value, key) = self.encoded(self.seq + 1, no_op());
        self.seq += 1;
        self.append_valid(key, value);
    }

    pub fn decide(&mut self, key: &str, version: i64, events: usize) {
        self.commands += 1;
        let command_id = [self.commands; 16];
        self.decide_as(key, version, events, command_id);
    }

    pub fn decide_as(&mut self, key: &str, version: i64, events: usize, command_id: [u8; 16]) {
        let body = decision(version, events, command_id);
        let (value, _) = self.encoded(self.seq + 1, body);
        self.seq += 1;
        self.append_valid(key.as_bytes().to_vec(), value);
    }

    /// Loses a commit of this term: the owner counts it, but the log does not have it.
    pub fn lose(&mut self) {
        let (value, key) = self.encoded(self.seq + 1, no_op());
        self.seq += 1;
        self.hash = next_hash(&self.hash, &key, &value);
    }

    /// Appends the last record a second time.
    pub fn repeat_last(&mut self) {
        let last = self.records.last().unwrap().clone();
        self.push(last.key.unwrap(), last.value.unwrap());
    }

    /// Value and key of this owner's next record, with the given seq.
    pub fn encoded(&self, seq: i64, body: Body<Event>) -> (Vec<u8>, Vec<u8>) {
        let is_announcement = matches!(body, Body::Announcement(_));
        let key = match body {
            Body::Decision(_) => b"order_9".to_vec(),
            Body::Announcement(_) | Body::NoOp(_) => Vec::new(),
        };
        let commit = Commit {
            prev: if is_announcement { [0; 32] } else { self.hash },
            term: self.term,
            epoch: self.epoch,
            seq,
            recorded_at: Timestamp(
                START_US + self.clock_us + i64::try_from(self.records.len()).unwrap(),
            ),
            body,
        };
        (encode(&commit), key)
    }

    /// Appends a valid record.
    fn append_valid(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.hash = next_hash(&self.hash, &key, &value);
        self.push(key, value);
    }

    /// Appends any record; the chain does not include it.
    pub fn push(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.push_entry(|offset| Entry {
            offset,
            timestamp_ms: START_US / 1_000,
            key: Some(&key),
            value: Some(&value),
        });
    }

    /// Appends the record that `entry` returns for the next offset.
    pub fn push_entry<'a>(&mut self, entry: impl FnOnce(i64) -> Entry<'a>) {
        let offset = self.records.last().map_or(0, |last| last.offset + 1);
        self.records
            .push(RecordLine::new(TOPIC, PARTITION, entry(offset)));
    }
}

pub fn no_op() -> Body<Event> {
    Body::NoOp(NoOp {})
}

pub fn decision(version: i64, events: usize, command_id: [u8; 16]) -> Body<Event> {
    let line = SaleLine {
        sku: Sku::parse("85123A").unwrap(),
        description: None,
        quantity: Quantity(1),
        unit_price: UnitPrice(1_000_000),
        amount: 100,
    };
    let sale = Event::Order(OrderEvent::SaleImported(SaleImported {
        invoice: "536365".into(),
        customer: None,
        country: "EIRE".into(),
        ordered_at: Timestamp(0),
        currency: Currency::GBP,
        lines: vec![line],
        total: 100,
    }));
    Body::Decision(Decision {
        aggregate_type: "order".into(),
        version,
        command_id,
        command_hash: [9; 16],
        origin: Origin::Keyed,
        actor: "service:import".into(),
        correlation_id: [3; 16],
        causation_id: None,
        traceparent: None,
        outcome: None,
        events: vec![sale; events],
    })
}

fn encode(commit: &Commit<Event>) -> Vec<u8> {
    let schema: serde_avro_fast::Schema = schema().parse().unwrap();
    let mut value = vec![0];
    value.extend(SCHEMA_ID.to_be_bytes());
    let mut config = serde_avro_fast::ser::SerializerConfig::new(&schema);
    serde_avro_fast::to_datum(commit, value, &mut config).unwrap()
}

pub fn schema() -> String {
    schemas::context::ORDERS.schema()
}

/// A copy, written like an export.
pub fn copy(records: &[RecordLine]) -> Vec<u8> {
    let end_offset = records.last().map_or(0, |last| last.offset + 1);
    let topics = vec![TopicPartitions {
        topic: TOPIC.into(),
        partitions: PARTITION_COUNT,
    }];
    let mut copy = CopyWriter::new(Vec::new(), topics).unwrap();
    for partition in 0..PARTITION_COUNT {
        let has_records = partition == PARTITION;
        let mut end = PartitionEnd::new(TOPIC, partition, if has_records { end_offset } else { 0 });
        for record in records.iter().filter(|_| has_records) {
            let (line, needed) = end.add(record.entry());
            if let Some(id) = needed.filter(|id| copy.lacks(*id)) {
                let text = (id == SCHEMA_ID).then(schema);
                copy.schema(id, text.as_deref()).unwrap();
            }
            copy.record(line).unwrap();
        }
        copy.end(&end).unwrap();
    }
    copy.into_inner()
}

/// A copy with the end lines of the original records and the lines of the altered ones.
pub fn copy_altered(original: &[RecordLine], altered: &[RecordLine]) -> Vec<u8> {
    let is_record = |line: &&[u8]| line.starts_with(b"{\"topic\"") && !is_end(line);
    let original = copy(original);
    let lines = || original.split_inclusive(|byte| *byte == b'\n');
    let first = lines().position(|line| is_record(&line)).unwrap();
    let mut result: Vec<u8> = lines().take(first).flatten().copied().collect();
    for schema in lines().filter(|line| line.starts_with(b"{\"schema_id\"")) {
        result.extend(schema);
    }
    for record in altered {
        result.extend(serde_json::to_vec(record).unwrap());
        result.push(b'\n');
    }
    let rest = lines().skip(first).filter(|line| is_end(line));
    result.extend(rest.flatten());
    result
}

pub fn is_end(line: &[u8]) -> bool {
    line.windows(12).any(|window| window == b"\"end_offset\"")
}

pub fn verify(copy: &[u8]) -> Report {
    verify_copy(copy, &[]).unwrap()
}

pub fn problems(report: &Report) -> Vec<&'static str> {
    report
        .findings()
        .map(|finding| finding.problem.name())
        .collect()
}

pub fn text(report: &Report) -> String {
    let mut text = Vec::new();
    report.write_text(&mut text).unwrap();
    String::from_utf8(text).unwrap()
}

/// Whether a finding names the record with this offset.
pub fn names(report: &Report, wanted: i64) -> bool {
    report.findings().any(|finding| match &finding.problem {
        Problem::Alarm {
            reason: AlarmReason::ChainBroken { since, .. },
            ..
        } => (*since..=finding.offset.unwrap()).contains(&wanted),
        problem => finding.offset == Some(wanted) || problem.since() == Some(wanted),
    })
}
