//! Ids: of aggregates, of commands, of events, of logs.

use type_safe_id::{DynamicType, TypeSafeId};
use uuid::Uuid;

/// Namespace of derived command ids (uuid5).
const COMMAND_NAMESPACE: Uuid = Uuid::from_u128(0x6f1c_56a4_2f0b_4d0e_9d8e_7a31_c0d4_b00c);

/// The id of a command. A retry has the same id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CommandId(pub [u8; 16]);

impl CommandId {
    /// The id of a command with an idempotency key: the same principal, scope and key give the same id.
    pub fn keyed(principal: &str, scope: &str, idempotency_key: &str) -> Self {
        // Each part has its length in front, so that different triples have different texts.
        let name = format!(
            "{}:{principal}{}:{scope}{}:{idempotency_key}",
            principal.len(),
            scope.len(),
            idempotency_key.len()
        );
        Self(Uuid::new_v5(&COMMAND_NAMESPACE, name.as_bytes()).into_bytes())
    }

    /// A fresh id for a command without a key. Nothing else in this crate reads a clock.
    pub fn fresh() -> Self {
        Self(Uuid::now_v7().into_bytes())
    }

    /// The id of the aggregate that this command creates: a TypeID such as `order_01h4...`, of a UUIDv8 derived
    /// from the command's id, so that a retry finds the same aggregate.
    ///
    /// # Panics
    /// If `aggregate_type` is not 1 to 63 lower-case ASCII letters, which is an error in the code.
    pub fn aggregate_id(self, aggregate_type: &str) -> String {
        let prefix =
            DynamicType::new(aggregate_type).expect("aggregate types are lower-case ASCII letters");
        TypeSafeId::from_type_and_uuid(prefix, Uuid::new_v8(self.0)).to_string()
    }
}

/// Splits a journal record's key into aggregate type and id: `order_01h4...` is an `order`, `product_A_1` is
/// the product `A_1`. Aggregate types have no underscore.
pub fn split_key(key: &str) -> Option<(&str, &str)> {
    key.split_once('_')
        .filter(|(kind, id)| !kind.is_empty() && !id.is_empty())
}

/// Whether a text is a TypeID of the given prefix.
pub fn is_type_id(text: &str, prefix: &str) -> bool {
    text.parse::<TypeSafeId<DynamicType>>()
        .is_ok_and(|id| id.type_prefix() == prefix)
}

/// An event's permanent id: `<log id>/<epoch>/<seq>#<index>`. It has no offset, so it survives mirroring to
/// another cluster.
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
    fn a_keyed_id_depends_on_each_part_and_nothing_else() {
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
        let types = ["order", "product"].map(|name| is_type_id(&id, name));
        assert_eq!(types, [true, false], "{id}");
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
