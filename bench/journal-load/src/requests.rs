//! A client: asks one command after the other, each under an id of its own, as one that sends an
//! `Idempotency-Key` does. Another run asks the same.

use crate::shelf::Command;
use journal::owner::Request;
use schemas::{Origin, Timestamp, ids::CommandId, product::Sku};
use std::{
    fmt::Write,
    time::{SystemTime, UNIX_EPOCH},
};

/// Shelves that commands are spread over.
pub const SHELVES: u64 = 100_000;
/// Opaque id of the principal.
const ACTOR: &str = "service:bench";
/// What a shelf says, before the number that makes each text another one; with it a record has about
/// 400 bytes, key and headers included.
const DESCRIPTION: &str = "white hanging heart t-light holder, cast metal, hand finished, with a \
                           cotton cord, for indoor and sheltered outdoor use, box of six, number";

/// Most bytes of a blank, two numbers and a stroke.
const NUMBERS_BYTES_MAX: usize = 42;

/// One client.
#[derive(Debug, Clone)]
pub struct Client {
    number: u64,
    asked: u64,
}

impl Client {
    /// `number` tells it from every other client of the same log.
    pub fn new(number: u64) -> Self {
        Self { number, asked: 0 }
    }

    /// The next command, about any of the [`SHELVES`].
    pub fn describe(&mut self) -> Request<Command> {
        let (sku, command) = self.describing();
        self.request(&sku, command)
    }

    /// The same without what an owner needs, for the peer: the aggregate's id and the command.
    pub fn describing(&mut self) -> (String, Command) {
        self.asked += 1;
        let sku = format!("SHELF-{:06}", scramble(self.number, self.asked) % SHELVES);
        let command = Command::Describe {
            sku: Sku::parse(&sku).expect("it is short, printable and without blanks at its ends"),
            description: self.description(),
        };
        (sku, command)
    }

    /// Made at once in its length, for clients' work is in the figures.
    fn description(&self) -> String {
        let mut text = String::with_capacity(DESCRIPTION.len() + NUMBERS_BYTES_MAX);
        text.push_str(DESCRIPTION);
        write!(text, " {}/{}", self.number, self.asked).expect("writing to a string does not fail");
        text
    }

    /// The next command, about a given shelf.
    pub fn about(&mut self, sku: &str, command: Command) -> Request<Command> {
        self.asked += 1;
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
            expected_version: None,
            received_at: now(),
        }
    }

    /// What the peer stores beside an event: the same things that a decision holds.
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
        let high = scramble(self.number, self.asked);
        ((u128::from(high) << 64) | (u128::from(self.number) << 40) | u128::from(self.asked))
            .to_be_bytes()
    }

    fn traceparent(&self) -> String {
        let id = u128::from_be_bytes(self.id());
        format!("00-{id:032x}-{:016x}-01", scramble(self.asked, self.number))
    }
}

/// The machine's clock.
fn now() -> Timestamp {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

/// Splitmix64's finish: spreads numbers evenly, the same way in every run.
fn scramble(number: u64, asked: u64) -> u64 {
    let mut mixed =
        number.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ asked.wrapping_mul(0xd1b5_4a32_d192_ed03);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn no_two_commands_share_an_id() {
        let mut ids = HashSet::new();
        for number in 0..100 {
            let mut client = Client::new(number);
            for _ in 0..100 {
                assert!(ids.insert(client.describe().id.0));
            }
        }
    }

    #[test]
    fn every_partition_gets_its_share() {
        let mut client = Client::new(7);
        let mut counts = [0_u32; 4];
        for _ in 0..4_000 {
            let key = client.describe().key;
            counts[usize::try_from(kafka::partition::of_key(key.as_bytes(), 4)).unwrap()] += 1;
        }
        assert!(counts.iter().all(|count| *count > 800), "{counts:?}");
    }
}
