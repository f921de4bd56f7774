//! Ids: of aggregates, of commands, of events, of logs.

use type_safe_id::{DynamicType, TypeSafeId};
use uuid::Uuid;

/// Namespace of derived command ids (uuid5).
const COMMAND_NAMESPACE: Uuid = Uuid::from_u128(0x6f1c_56a4_2f0b_4d0e_9d8e_7a31_c0d4_b00c);

/// Longest id that a client chooses, in bytes. The id is ASCII, so it has as many characters.
pub const CHOSEN_BYTES_MAX: usize = 64;

/// The reason why a client can't choose a text as an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChosenIdError {
    /// The text is empty, or starts or ends with a blank.
    #[error("must not be empty, and must not start or end with a blank")]
    Blank,
    /// The text is `.` or `..`, which every client removes from the path of a URL, encoded or not.
    #[error("must not be {text:?}, which can't be part of a URL's path")]
    Dots {
        /// The text.
        text: String,
    },
    /// The text is longer than [`CHOSEN_BYTES_MAX`].
    #[error("must have at most {CHOSEN_BYTES_MAX} bytes, this one has {bytes}")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// The text has a character that is not printable ASCII.
    #[error("must be printable ASCII, this one has {character:?}")]
    NotPrintable {
        /// The first such character.
        character: char,
    },
}

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

/// Checks an id that a client chooses: 1 to [`CHOSEN_BYTES_MAX`] printable ASCII characters without blanks at either
/// end, but not `.` or `..`. Fields of commands, SKUs and the sort keys of views share this grammar.
///
/// # Errors
/// [`ChosenIdError`]: the text violates one of these conditions.
pub fn check_chosen(text: &str) -> Result<(), ChosenIdError> {
    if text.is_empty() || text.starts_with(' ') || text.ends_with(' ') {
        return Err(ChosenIdError::Blank);
    }
    check_path_segment(text)?;
    if text.len() > CHOSEN_BYTES_MAX {
        return Err(ChosenIdError::TooLong { bytes: text.len() });
    }
    match text.chars().find(|c| !matches!(c, ' '..='~')) {
        Some(character) => Err(ChosenIdError::NotPrintable { character }),
        None => Ok(()),
    }
}

/// Checks that a text can be a segment of a URL's path. Percent-encoding makes every text such a segment, but for the
/// empty one, which the caller excludes, and `.` and `..`.
///
/// # Errors
/// [`ChosenIdError::Dots`]
pub fn check_path_segment(text: &str) -> Result<(), ChosenIdError> {
    match matches!(text, "." | "..") {
        true => Err(ChosenIdError::Dots {
            text: text.to_owned(),
        }),
        false => Ok(()),
    }
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
    fn a_chosen_id_may_have_any_printable_character() {
        for id in ["85123A", "BANK CHARGES", "a_b/%", "...", ".a"] {
            assert_eq!(check_chosen(id), Ok(()), "{id}");
        }
        assert_eq!(check_chosen(&"A".repeat(CHOSEN_BYTES_MAX)), Ok(()));
    }

    #[test]
    fn a_text_that_cannot_be_part_of_a_key_or_a_path_is_refused() {
        for text in ["", " ", " A", "A "] {
            assert_eq!(check_chosen(text), Err(ChosenIdError::Blank), "{text:?}");
        }
        for text in [".", ".."] {
            let refused = check_chosen(text);
            let text = text.to_owned();
            assert_eq!(refused, Err(ChosenIdError::Dots { text }));
        }
        for character in ['\u{a3}', '\n', '\u{7f}'] {
            let refused = check_chosen(&format!("A{character}"));
            assert_eq!(refused, Err(ChosenIdError::NotPrintable { character }));
        }
        let bytes = CHOSEN_BYTES_MAX + 1;
        let refused = check_chosen(&"A".repeat(bytes));
        assert_eq!(refused, Err(ChosenIdError::TooLong { bytes }));
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
