//! A client: creates commands one after another, each with a unique id, like a client that sends an
//! `Idempotency-Key`. Every run creates the same commands.

use crate::workload::Command;
use journal::owner::Request;
use schemas::{Origin, Timestamp, ids::CommandId, product::Sku};
use std::{
    fmt::Write,
    time::{SystemTime, UNIX_EPOCH},
};

/// Number of products over which commands are spread.
pub const PRODUCTS: u64 = 100_000;
/// Opaque id of the principal.
const ACTOR: &str = "service:bench";
/// A product's description, without the number that makes each text unique. A record has about 400 bytes,
/// key and headers included.
const DESCRIPTION: &str = "white hanging heart t-light holder, cast metal, hand finished, with a \
                           cotton cord, for indoor and sheltered outdoor use, box of six, number";

/// Maximum length of a space, two numbers and a slash, in bytes.
const NUMBERS_BYTES_MAX: usize = 42;

/// One client.
#[derive(Debug, Clone)]
pub struct Client {
    number: u64,
    request_count: u64,
}

impl Client {
    /// `number` must be unique among the clients of a log.
    pub fn new(number: u64) -> Self {
        Self {
            number,
            request_count: 0,
        }
    }

    /// The next command, for one of the [`PRODUCTS`].
    pub fn next_request(&mut self) -> Request<Command> {
        let (sku, command) = self.next_description();
        self.request(&sku, command)
    }

    /// The next command and its aggregate's id, without the owner's request: for the baseline.
    pub fn next_description(&mut self) -> (String, Command) {
        self.request_count += 1;
        let sku = format!(
            "STOCK-{:06}",
            mix(self.number, self.request_count) % PRODUCTS
        );
        let command = Command::Describe {
            sku: Sku::parse(&sku).expect("a short printable text without spaces is a valid SKU"),
            description: self.description(),
        };
        (sku, command)
    }

    /// Allocates once, because the figures include the clients' work.
    fn description(&self) -> String {
        let mut text = String::with_capacity(DESCRIPTION.len() + NUMBERS_BYTES_MAX);
        text.push_str(DESCRIPTION);
        write!(text, " {}/{}", self.number, self.request_count)
            .expect("writing to a string does not fail");
        text
    }

    /// A request with a command for a given product.
    pub fn request_for(&mut self, sku: &str, command: Command) -> Request<Command> {
        self.request_count += 1;
        self.request(sku, command)
    }

    fn request(&self, sku: &str, command: Command) -> Request<Command> {
        let id = self.id();
        Request {
            key: ["product_", sku].concat(),
            command,
            id: CommandId(id),
            hash: id.map(|byte| !byte),
            origin: Origin::Keyed,
            actor: ACTOR.to_owned(),
            correlation_id: id,
            causation_id: None,
            traceparent: Some(self.traceparent()),
            trace_id: Some(format!("{:032x}", u128::from_be_bytes(id))),
            expected_version: None,
            received_at: now(),
        }
    }

    /// The metadata that the baseline stores with an event: the same fields that a decision has.
    pub fn metadata(&self) -> impl Iterator<Item = (&'static str, String)> {
        let id = format!("{:032x}", u128::from_be_bytes(self.id()));
        [
            ("command_id", id.clone()),
            (
                "command_hash",
                format!("{:032x}", !u128::from_be_bytes(self.id())),
            ),
            ("actor", ACTOR.to_owned()),
            ("correlation_id", id),
            ("traceparent", self.traceparent()),
        ]
        .into_iter()
    }

    /// The id of the last command.
    fn id(&self) -> [u8; 16] {
        let high = mix(self.number, self.request_count);
        ((u128::from(high) << 64)
            | (u128::from(self.number) << 40)
            | u128::from(self.request_count))
        .to_be_bytes()
    }

    fn traceparent(&self) -> String {
        let id = u128::from_be_bytes(self.id());
        format!(
            "00-{id:032x}-{:016x}-01",
            mix(self.request_count, self.number)
        )
    }
}

/// The machine's clock.
fn now() -> Timestamp {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

/// The finalizer of splitmix64: spreads numbers evenly, and equally in every run.
fn mix(number: u64, count: u64) -> u64 {
    let mut mixed =
        number.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ count.wrapping_mul(0xd1b5_4a32_d192_ed03);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{BTreeMap, HashSet};

    #[test]
    fn no_two_commands_share_an_id() {
        let mut ids = HashSet::new();
        for number in 0..100 {
            let mut client = Client::new(number);
            for _ in 0..100 {
                let id = client.next_request().id.0;
                assert!(ids.insert(id), "{id:?} twice");
            }
        }
    }

    #[test]
    fn every_partition_gets_its_share() {
        let mut client = Client::new(7);
        let mut counts = BTreeMap::new();
        for _ in 0..4_000 {
            let key = client.next_request().key;
            let partition = kafka::partition::of_key(key.as_bytes(), 4);
            *counts.entry(partition).or_insert(0) += 1;
        }
        assert_eq!(counts.len(), 4);
        assert!(
            counts.values().all(|count| *count > 800),
            "not each count is above 800: {counts:?}"
        );
    }
}
