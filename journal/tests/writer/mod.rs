//! Writes journal records with its own code, so that the tests of the rule don't depend on the rule's crate for
//! the format of a record or of the chain.
#![allow(dead_code, reason = "every test file uses its own part of this")]

/// A term; the tests name owners by letters.
pub type Term = [u8; 16];
pub const A: Term = *b"the term, called";
pub const B: Term = *b"the other's term";

/// The key of every decision here.
pub const KEY: &[u8] = b"order_1";

/// `recorded_at` of offset 0, in microseconds; every later offset is a second later.
pub const RECORDED_AT_US: i64 = 1_291_191_960_000_000;

/// Changes or removes a value.
pub type Spoil = fn(Vec<u8>) -> Option<Vec<u8>>;

/// A record before it is written, when the chain's hash and the time become known.
#[derive(Debug, Clone)]
pub struct Draft {
    pub key: Option<Vec<u8>>,
    pub term: Term,
    pub epoch: i64,
    pub seq: i64,
    pub body: Vec<u8>,
    pub schema_id: u32,
    /// `None`: the chain's hash, or zeros in an announcement.
    pub prev: Option<[u8; 32]>,
    /// `None`: by the offset.
    pub recorded_at_us: Option<i64>,
    /// The last step, which may corrupt the value.
    pub spoil: Spoil,
}

/// A record as Kafka returns it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Written {
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
}

pub fn announcement(epoch: i64, term: Term) -> Draft {
    let body = [long(0), long(1), long(4), text("http://127.0.0.1:8080")].concat();
    let draft = draft(epoch, term, 0, b"", body);
    draft.prev([0; 32])
}

pub fn no_op(epoch: i64, term: Term, seq: i64) -> Draft {
    draft(epoch, term, seq, b"", long(1))
}

/// The decision of an accepted command that changed nothing. The rule treats a decision with events in the same way.
pub fn decision(epoch: i64, term: Term, seq: i64) -> Draft {
    decision_of(epoch, term, seq, 0, [seq as u8; 16])
}

/// A decision with its aggregate's version and its command's id.
pub fn decision_of(epoch: i64, term: Term, seq: i64, version: i64, command: [u8; 16]) -> Draft {
    let keyed = 1;
    let body = [
        long(2),
        text("order"),
        long(version),
        command.to_vec(),
        [0xc0; 16].to_vec(), // command_hash
        long(keyed),
        text("service:import"),
        [0xc1; 16].to_vec(), // correlation_id
        long(0),             // causation_id: null
        long(0),             // traceparent: null
        long(0),             // outcome: null
        long(0),             // events: none
    ];
    draft(epoch, term, seq, KEY, body.concat())
}

fn draft(epoch: i64, term: Term, seq: i64, key: &[u8], body: Vec<u8>) -> Draft {
    Draft {
        key: Some(key.to_vec()),
        term,
        epoch,
        seq,
        body,
        schema_id: 7,
        prev: None,
        recorded_at_us: None,
        spoil: Some,
    }
}

impl Draft {
    pub fn key(mut self, key: Option<&[u8]>) -> Self {
        self.key = key.map(<[u8]>::to_vec);
        self
    }

    pub fn prev(mut self, prev: [u8; 32]) -> Self {
        self.prev = Some(prev);
        self
    }

    pub fn recorded_at(mut self, micros: i64) -> Self {
        self.recorded_at_us = Some(micros);
        self
    }

    pub fn schema_id(mut self, id: u32) -> Self {
        self.schema_id = id;
        self
    }

    pub fn body(mut self, body: Vec<u8>) -> Self {
        self.body = body;
        self
    }

    pub fn spoil(mut self, spoil: Spoil) -> Self {
        self.spoil = spoil;
        self
    }

    pub fn time_us(&self, offset: i64) -> i64 {
        self.recorded_at_us
            .unwrap_or(RECORDED_AT_US.saturating_add(offset.saturating_mul(1_000_000)))
    }

    /// The record at an offset, after a record with the chain's hash `hash`.
    pub fn write(&self, offset: i64, hash: &[u8; 32]) -> Written {
        let value = [
            vec![0],
            self.schema_id.to_be_bytes().to_vec(),
            self.prev.as_ref().unwrap_or(hash).to_vec(),
            self.term.to_vec(),
            long(self.epoch),
            long(self.seq),
            long(self.time_us(offset)),
            self.body.clone(),
        ];
        Written {
            key: self.key.clone(),
            value: (self.spoil)(value.concat()),
        }
    }
}

/// Avro's long: zigzag, then 7 bits a byte from the lowest.
pub fn long(number: i64) -> Vec<u8> {
    let mut rest = ((number << 1) ^ (number >> 63)) as u64;
    let mut bytes = Vec::new();
    while rest >= 0x80 {
        bytes.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    bytes.push(rest as u8);
    bytes
}

/// Avro's string.
pub fn text(text: &str) -> Vec<u8> {
    [long(text.len() as i64), text.as_bytes().to_vec()].concat()
}

/// h(0).
pub fn first_link(topic: &str, partition: i32) -> [u8; 32] {
    let mut input = b"daybook/1".to_vec();
    input.extend((topic.len() as u32).to_be_bytes());
    input.extend(topic.bytes());
    input.extend(partition.to_be_bytes());
    *blake3::hash(&input).as_bytes()
}

/// h(n) from h(n-1).
pub fn next_link(before: &[u8; 32], record: &Written) -> [u8; 32] {
    let key = record.key.as_ref().expect("a valid record has a key");
    let value = record.value.as_ref().expect("a valid record has a value");
    let mut input = before.to_vec();
    input.extend((key.len() as u32).to_be_bytes());
    input.extend(key);
    input.extend(value);
    *blake3::hash(&input).as_bytes()
}
