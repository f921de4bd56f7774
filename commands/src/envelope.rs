//! A command with its identity, which is the same on every node that handles the command.

use crate::{
    command::{CommandContext, ErasedCommand, Target},
    contexts,
    identity::{HashError, Hasher, IdempotencyKey, Principal},
    owners::TypedCommand,
};
use journal::owner::machine_clock;
use schemas::{Timestamp, ids::CommandId, topics::PartitionCounts};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;
use std::{borrow::Cow, fmt::Debug};

/// A command with its id, which a retry shares.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommandEnvelope {
    /// Created once, on the node that received the command.
    #[serde(with = "id_text")]
    pub id: CommandId,
    /// Whether the client named the command by an idempotency key.
    pub keyed: bool,
    /// The time at which the first node received the command, by that node's clock. An owner uses it to
    /// detect a command that was delayed for too long.
    pub received_at: Timestamp,
    /// Opaque id of the principal.
    pub actor: String,
    /// `If-Match`.
    pub expected_version: Option<i64>,
    /// W3C trace context.
    pub traceparent: Option<String>,
    /// The command's name and body.
    pub call: CommandBody,
}

/// A command's name and its body, whose type is erased.
#[derive(Debug)]
pub struct CommandBody(Box<dyn ErasedCommand>);

/// The JSON form of a [`CommandBody`].
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct NamedBody<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    body: Cow<'a, RawValue>,
}

impl CommandEnvelope {
    /// A command that this node has just received from `principal`. Its id is derived from the idempotency
    /// key, if there is one, and is random otherwise.
    pub fn new(
        principal: &Principal,
        key: Option<&IdempotencyKey>,
        command: Box<dyn ErasedCommand>,
    ) -> Self {
        Self {
            id: principal.command_id(&command.scope(), key),
            keyed: key.is_some(),
            received_at: machine_clock(),
            actor: principal.0.clone(),
            expected_version: None,
            traceparent: None,
            call: CommandBody(command),
        }
    }

    /// The command's name.
    pub fn name(&self) -> &'static str {
        self.call.0.name()
    }

    /// The aggregate's id as clients know it: the id that they gave, else the record's key.
    pub fn subject<'a>(&'a self, key: &'a str) -> &'a str {
        match self.call.0.target() {
            Target::Named(id) => id,
            Target::CreatedByThisCommand => key,
        }
    }

    /// Converts the command for an owner of its context.
    ///
    /// # Errors
    /// The body has no canonical JSON form.
    pub fn prepare(
        &self,
        hasher: &Hasher,
        partitions: &PartitionCounts,
    ) -> Result<TypedCommand, HashError> {
        self.call.0.prepare(&CommandContext {
            id: self.id,
            keyed: self.keyed,
            received_at: self.received_at,
            actor: &self.actor,
            expected_version: self.expected_version,
            traceparent: self.traceparent.as_deref(),
            hasher,
            partitions,
        })
    }
}

impl Serialize for CommandBody {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let body = self.0.to_json().map_err(serde::ser::Error::custom)?;
        let named = NamedBody {
            name: Cow::Borrowed(self.0.name()),
            body: Cow::Owned(body),
        };
        named.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for CommandBody {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        let NamedBody { name, body } = NamedBody::deserialize(deserializer)?;
        let command = contexts::command(&name)
            .ok_or_else(|| D::Error::custom(format!("unknown command {name:?}")))?;
        let body = command.read(body.get().as_bytes());
        Ok(Self(body.map_err(D::Error::custom)?))
    }
}

/// A command's id as 32 hexadecimal digits.
mod id_text {
    use schemas::ids::CommandId;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(id: &CommandId, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(id.0))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<CommandId, D::Error> {
        let text = String::deserialize(deserializer)?;
        let mut id = [0; 16];
        hex::decode_to_slice(&text, &mut id).map_err(D::Error::custom)?;
        Ok(CommandId(id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, body: &serde_json::Value) -> Box<dyn ErasedCommand> {
        let command = contexts::command(name).unwrap();
        command.read(body.to_string().as_bytes()).unwrap()
    }

    fn sale() -> Box<dyn ErasedCommand> {
        let body = serde_json::json!({"invoice": "1", "country": "EIRE", "currency": "GBP",
            "ordered_at": "2010-12-01T08:26:00Z",
            "lines": [{"sku": "A", "quantity": -1, "unit_price": 1}]});
        read("ImportSale", &body)
    }

    fn price(sku: &str, amount: i64) -> Box<dyn ErasedCommand> {
        let body = serde_json::json!({"sku": sku, "price": {"amount": amount, "currency": "GBP"}});
        read("ChangePrice", &body)
    }

    #[test]
    fn an_idempotency_key_identifies_one_command_per_product() {
        let key = IdempotencyKey::parse("k").unwrap();
        let id = |command| CommandEnvelope::new(&Principal::import(), Some(&key), command).id;
        assert_eq!(id(price("LAMP-1", 5)), id(price("LAMP-1", 6)));
        assert_ne!(id(price("LAMP-1", 5)), id(price("LAMP-2", 5)));
        assert_eq!(id(sale()), id(sale()));
    }

    #[test]
    fn if_match_does_not_change_the_identity_of_a_command() {
        let (hasher, partitions) = (Hasher::new([7; 32]), PartitionCounts::uniform(4));
        let key = IdempotencyKey::parse("k").unwrap();
        let [first, retry] = [Some(1), Some(2)].map(|expected_version| {
            let command = price("LAMP-1", 5);
            let envelope = CommandEnvelope {
                expected_version,
                ..CommandEnvelope::new(&Principal::import(), Some(&key), command)
            };
            envelope.prepare(&hasher, &partitions).unwrap()
        });
        assert_eq!((first.id(), first.hash()), (retry.id(), retry.hash()));
    }

    #[test]
    fn a_forwarded_command_keeps_its_identity() {
        let hasher = Hasher::new([7; 32]);
        let partitions = PartitionCounts::uniform(4);
        // Without a key, the id can't be derived again from the client's request.
        for command in [sale(), price("LAMP-1", 5)] {
            let here = CommandEnvelope {
                expected_version: Some(3),
                ..CommandEnvelope::new(&Principal::import(), None, command)
            };
            let line = serde_json::to_string(&here).unwrap();
            let there: CommandEnvelope = serde_json::from_str(&line).unwrap();
            assert_eq!(line, serde_json::to_string(&there).unwrap());
            assert_eq!(there.expected_version, Some(3));
            let typed =
                |envelope: &CommandEnvelope| envelope.prepare(&hasher, &partitions).unwrap();
            let (here, there) = (typed(&here), typed(&there));
            assert_eq!((here.key(), here.target()), (there.key(), there.target()));
            assert_eq!((here.id(), here.hash()), (there.id(), there.hash()));
        }
    }

    #[test]
    fn a_forwarded_line_keeps_its_form() {
        let command = CommandEnvelope {
            id: CommandId([7; 16]),
            keyed: true,
            received_at: Timestamp(1_291_191_960_000_000),
            expected_version: Some(3),
            ..CommandEnvelope::new(&Principal::import(), None, price("LAMP-1", 5))
        };
        let expected = concat!(
            r#"{"id":"07070707070707070707070707070707","keyed":true,"#,
            r#""received_at":1291191960000000,"actor":"service:import","expected_version":3,"#,
            r#""traceparent":null,"call":{"name":"ChangePrice","body":{"sku":"LAMP-1","#,
            r#""price":{"amount":5,"currency":"GBP"}}}}"#,
        );
        assert_eq!(serde_json::to_string(&command).unwrap(), expected);
    }

    #[test]
    fn an_unknown_command_is_an_error_that_names_it() {
        let line = r#"{"name":"NoSuch","body":{}}"#;
        let error = serde_json::from_str::<CommandBody>(line).unwrap_err();
        assert!(
            error.to_string().contains("unknown command \"NoSuch\""),
            "no \"unknown command \"NoSuch\"\" in: {error}"
        );
    }
}
