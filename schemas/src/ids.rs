//! Ids: of aggregates, of commands, of events, of logs.

use type_safe_id::{DynamicType, TypeSafeId};
use uuid::Uuid;

/// Under this namespace command ids are derived (uuid5).
const COMMAND_NAMESPACE: Uuid = Uuid::from_u128(0x6f1c_56a4_2f0b_4d0e_9d8e_7a31_c0d4_b00c);

/// The id that makes a retry the same command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CommandId(pub [u8; 16]);

impl CommandId {
    /// The id of a command that a client keyed: the same principal, scope and key give the same id.
    pub fn keyed(principal: &str, scope: &str, idempotency_key: &str) -> Self {
        // Lengths stand before the parts, so that no two triples read alike.
        let name = format!(
            "{}:{principal}{}:{scope}{}:{idempotency_key}",
            principal.len(),
            scope.len(),
            idempotency_key.len()
        );
        Self(Uuid::new_v5(&COMMAND_NAMESPACE, name.as_bytes()).into_bytes())
    }

    /// A fresh id for a command without a key. The only place of this crate with a clock.
    pub fn fresh() -> Self {
        Self(Uuid::now_v7().into_bytes())
    }

    /// The id of the aggregate that this command creates, so that a retry finds the same one: a
    /// TypeID of a UUIDv8 made of the command id, such as `order_01h4...`.
    ///
    /// # Panics
    /// If `aggregate_type` is not 1 to 63 lower-case ASCII letters, which is a mistake in the code.
    pub fn aggregate_id(self, aggregate_type: &str) -> String {
        let prefix = DynamicType::new(aggregate_type)
            .expect("aggregate types are lower-case ASCII letters, by the decider's tests");
        TypeSafeId::from_type_and_uuid(prefix, Uuid::new_v8(self.0)).to_string()
    }
}

/// Splits a journal record's key into aggregate type and id: `order_01h4...` is an `order`,
/// `product_A_1` the product `A_1`. Aggregate types hold no underscore.
pub fn split_key(key: &str) -> Option<(&str, &str)> {
    key.split_once('_')
        .filter(|(kind, id)| !kind.is_empty() && !id.is_empty())
}

/// Whether a text is a TypeID of the given prefix.
pub fn is_type_id(text: &str, prefix: &str) -> bool {
    text.parse::<TypeSafeId<DynamicType>>()
        .is_ok_and(|id| id.type_prefix() == prefix)
}

/// An event's name for ever: `<log id>/<epoch>/<seq>#<index>`. Free of offsets, so it survives
/// mirroring to another cluster.
pub fn event_id(log_id: &[u8; 32], epoch: i64, seq: i64, index: usize) -> String {
    let mut log = String::with_capacity(64);
    for byte in log_id {
        use std::fmt::Write;
        write!(log, "{byte:02x}").expect("writing to a string does not fail");
    }
    format!("{log}/{epoch}/{seq}#{index}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keyed_ids_are_the_same_again_and_differ_by_each_part() {
        let id = CommandId::keyed("service:import", "ImportSale", "sale/1");
        assert_eq!(
            id,
            CommandId::keyed("service:import", "ImportSale", "sale/1")
        );
        assert_ne!(
            id,
            CommandId::keyed("service:impor", "tImportSale", "sale/1")
        );
        assert_ne!(
            id,
            CommandId::keyed("service:import", "ImportSale", "sale/2")
        );
    }

    #[test]
    fn an_aggregate_id_is_a_type_id_of_a_uuid_version_8() {
        let id = CommandId([0xff; 16]).aggregate_id("order");
        let parsed: TypeSafeId<DynamicType> = id.parse().unwrap();
        assert_eq!(
            (parsed.type_prefix(), parsed.uuid().get_version_num()),
            ("order", 8)
        );
        assert!(is_type_id(&id, "order") && !is_type_id(&id, "product"));
    }

    #[test]
    fn keys_split_at_the_first_underscore() {
        assert_eq!(
            split_key("product_gift_0001_10"),
            Some(("product", "gift_0001_10"))
        );
        assert_eq!(split_key("product_"), None);
        assert_eq!(split_key("product"), None);
    }
}
