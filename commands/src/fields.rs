//! Fields of request bodies. Each checks itself when it is deserialised, so that an invalid value is refused
//! like a wrong JSON type, with the path of the field, such as `lines[3].sku`.
//!
//! Serialisation reproduces the client's values, because a command's hash is computed from them. Only texts
//! are normalised on arrival, so that two forms of the same text are the same command.

use schemas::{
    Currency, Money, Quantity, Timestamp, UnitPrice,
    ids::{check_chosen, check_path_segment},
    text::normalised,
};
use serde::{Deserialize, Deserializer, Serialize, de::Error};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{KnownFormat, ObjectBuilder, RefOr, SchemaFormat, schema::Schema, schema::Type},
};

/// Longest description of a product or a line, in characters.
pub const DESCRIPTION_CHARS_MAX: usize = 500;
/// Longest invoice number, customer id or country, in characters.
pub const NAME_CHARS_MAX: usize = 64;
/// Largest quantity, either sign: a billion pieces.
pub const QUANTITY_MAX: i64 = 1_000_000_000;
/// Largest unit price in millionths, either sign: a billion pounds.
pub const UNIT_PRICE_MAX: i64 = 1_000_000_000_000_000;
/// Largest amount of money, in minor units, either sign. It is below 2^53, up to which canonical JSON
/// represents every integer exactly; a command's hash is computed from canonical JSON.
pub const AMOUNT_MAX: i64 = 1_000_000_000_000_000;

/// The end of the accepted times: `9999-01-01T00:00:00Z`. Clients and databases can express every earlier
/// time, and the end of every window around it.
pub const TIME_END: Timestamp = Timestamp(253_370_764_800_000_000);

/// A text of at most `MAX` characters, without control characters, in its normalised form: white space at
/// either end is removed, and letters are composed (NFC). `MIN` is 0 or 1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(transparent)]
#[schema(value_type = String)]
pub struct Text<const MIN: usize, const MAX: usize>(String);

/// An invoice number or a country.
pub type Name = Text<1, NAME_CHARS_MAX>;

/// An opaque customer id: like a [`Name`], but not `.` or `..`, because the id is part of a URL's path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct CustomerId(Name);

/// A product's description. It may be empty.
pub type Description = Text<0, DESCRIPTION_CHARS_MAX>;

/// A SKU: 1 to 64 printable ASCII characters, but not `.` or `..`. Case counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(transparent)]
#[schema(value_type = String, example = "85123A")]
pub struct Sku(schemas::Sku);

/// The id of an aggregate, chosen by the client: 1 to 64 printable ASCII characters without blanks at either
/// end, but not `.` or `..`. Case counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(transparent)]
#[schema(value_type = String, min_length = 1, max_length = 64)]
pub struct Id(String);

/// The time of something that was imported, as RFC 3339 text: from 1970 on and before [`TIME_END`]. A command
/// about the present has no such field; its time is that of its receipt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(into = "String")]
pub struct Time {
    text: String,
    at: Timestamp,
}

/// A currency code of ISO 4217.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(transparent)]
#[schema(value_type = String, example = "GBP")]
pub struct CurrencyCode(Currency);

/// A whole number between `-MAX` and `MAX`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(transparent)]
#[schema(value_type = i64)]
pub struct Within<const MAX: i64>(i64);

/// Money: whole minor units of a currency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MoneyField {
    /// The amount, in minor units.
    #[schema(value_type = i64, example = 1999)]
    amount: Within<AMOUNT_MAX>,
    /// The currency, as a code of ISO 4217.
    currency: CurrencyCode,
}

/// A list with at most `MAX` items.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(transparent)]
pub struct AtMost<const MAX: usize, T>(Vec<T>);

impl<const MIN: usize, const MAX: usize> Text<MIN, MAX> {
    /// The text itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<const MIN: usize, const MAX: usize> From<&Text<MIN, MAX>> for String {
    fn from(text: &Text<MIN, MAX>) -> Self {
        text.0.clone()
    }
}

impl<'de, const MIN: usize, const MAX: usize> Deserialize<'de> for Text<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = normalised(&String::deserialize(deserializer)?);
        if text.len() < MIN {
            return Err(D::Error::custom("must not be empty"));
        }
        match text.chars().nth(MAX) {
            Some(_) => Err(D::Error::custom(format!(
                "must have at most {MAX} characters"
            ))),
            None if text.chars().any(char::is_control) => {
                Err(D::Error::custom("must not have control characters"))
            }
            None => Ok(Self(text)),
        }
    }
}

impl From<&CustomerId> for String {
    fn from(id: &CustomerId) -> Self {
        (&id.0).into()
    }
}

impl<'de> Deserialize<'de> for CustomerId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let id = Name::deserialize(deserializer)?;
        check_path_segment(id.as_str()).map_err(D::Error::custom)?;
        Ok(Self(id))
    }
}

impl Sku {
    /// The domain's SKU.
    pub fn get(&self) -> &schemas::Sku {
        &self.0
    }

    /// The text itself.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl<'de> Deserialize<'de> for Sku {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let sku = schemas::Sku::parse(&text);
        Ok(Self(sku.map_err(D::Error::custom)?))
    }
}

impl Id {
    /// The text itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        check_chosen(&text).map_err(D::Error::custom)?;
        Ok(Self(text))
    }
}

impl Time {
    /// The point in time.
    pub fn get(&self) -> Timestamp {
        self.at
    }
}

impl PartialSchema for Time {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
            .examples(["2010-12-01T08:26:00Z"])
            .into()
    }
}

impl ToSchema for Time {}

impl From<Time> for String {
    fn from(time: Time) -> Self {
        time.text
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let at = Timestamp::parse(&text).map_err(D::Error::custom)?;
        match (Timestamp(0)..TIME_END).contains(&at) {
            true => Ok(Self { text, at }),
            false => Err(D::Error::custom("must be from 1970 on and before 9999")),
        }
    }
}

impl CurrencyCode {
    /// The currency.
    pub fn get(self) -> Currency {
        self.0
    }
}

impl<'de> Deserialize<'de> for CurrencyCode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Currency::deserialize(deserializer).map(Self)
    }
}

impl<const MAX: i64> Within<MAX> {
    /// The number.
    pub fn get(self) -> i64 {
        self.0
    }
}

impl<'de, const MAX: i64> Deserialize<'de> for Within<MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = i64::deserialize(deserializer)?;
        match (-MAX..=MAX).contains(&value) {
            true => Ok(Self(value)),
            false => Err(D::Error::custom(format!(
                "must be between -{MAX} and {MAX}"
            ))),
        }
    }
}

impl From<Within<QUANTITY_MAX>> for Quantity {
    fn from(value: Within<QUANTITY_MAX>) -> Self {
        Self(value.0)
    }
}

impl From<Within<UNIT_PRICE_MAX>> for UnitPrice {
    fn from(value: Within<UNIT_PRICE_MAX>) -> Self {
        Self(value.0)
    }
}

impl From<MoneyField> for Money {
    fn from(money: MoneyField) -> Self {
        Self {
            amount: money.amount.get(),
            currency: money.currency.get(),
        }
    }
}

impl<const MAX: usize, T> AtMost<MAX, T> {
    /// The items.
    pub fn as_slice(&self) -> &[T] {
        &self.0
    }
}

impl<'de, const MAX: usize, T: Deserialize<'de>> Deserialize<'de> for AtMost<MAX, T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let items = Vec::deserialize(deserializer)?;
        match items.len() <= MAX {
            true => Ok(Self(items)),
            false => Err(D::Error::custom(format!(
                "has {} items; send at most {MAX}",
                items.len()
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Hasher;
    use schemas::ids::CHOSEN_BYTES_MAX;
    use serde_json::{Value, json};

    fn money(amount: i64) -> Result<MoneyField, String> {
        let text = json!({ "amount": amount, "currency": "GBP" }).to_string();
        service::json::read(text.as_bytes()).map_err(|error| error.to_string())
    }

    #[test]
    fn amounts_within_the_bound_have_different_hashes() {
        for amount in [AMOUNT_MAX, -AMOUNT_MAX] {
            assert_eq!(
                money(amount).map(|money| Money::from(money).amount),
                Ok(amount)
            );
            let beyond = money(amount + amount.signum()).unwrap_err();
            assert!(
                beyond.contains("amount: must be between"),
                "no \"amount: must be between\" in: {beyond}"
            );
        }
        let hash = |amount| {
            Hasher::new([7; 32])
                .hash("", &money(amount).unwrap())
                .unwrap()
        };
        assert_ne!(hash(AMOUNT_MAX), hash(AMOUNT_MAX - 1));
    }

    #[test]
    fn a_list_is_bounded() {
        let read = |value: Value| serde_json::from_value::<AtMost<2, i64>>(value);
        assert_eq!(read(json!([1, 2])).unwrap().as_slice(), [1, 2]);
        let error = read(json!([1, 2, 3])).unwrap_err().to_string();
        assert!(error.contains("at most 2"), "no \"at most 2\" in: {error}");
    }

    #[test]
    fn an_id_is_one_that_a_client_can_choose() {
        let read = |text: &str| serde_json::from_value::<Id>(json!(text));
        assert_eq!(read("A-1").unwrap().as_str(), "A-1");
        let long = "x".repeat(CHOSEN_BYTES_MAX + 1);
        for bad in ["", " A", "\u{e9}", "..", &long] {
            let found = read(bad);
            assert!(found.is_err(), "no error from {bad:?}: {found:?}");
        }
    }

    /// An attribute can't name a constant.
    #[test]
    fn the_document_has_the_bound_of_an_id() {
        let schema = serde_json::to_value(Id::schema()).unwrap();
        assert_eq!(schema["maxLength"], json!(CHOSEN_BYTES_MAX), "{schema}");
    }

    #[test]
    fn a_text_is_trimmed_and_composed_before_it_is_checked() {
        let read = |text: &str| serde_json::from_value::<Name>(json!(text));
        assert_eq!(read(" Re\u{301}union ").unwrap().as_str(), "R\u{e9}union");
        assert_eq!(
            read("Re\u{301}union").unwrap(),
            read("R\u{e9}union").unwrap()
        );
        let long = format!(" {}\n", "e\u{301}".repeat(NAME_CHARS_MAX));
        assert_eq!(
            read(&long).unwrap().as_str(),
            "\u{e9}".repeat(NAME_CHARS_MAX)
        );
        for blank in [" ", "\u{a0}\n"] {
            let error = read(blank).unwrap_err().to_string();
            assert!(
                error.contains("must not be empty"),
                "{blank:?}: no \"must not be empty\" in: {error}"
            );
        }
        let inner = read("A\nB").unwrap_err().to_string();
        assert!(
            inner.contains("control character"),
            "no \"control character\" in: {inner}"
        );
    }

    #[test]
    fn a_customer_id_is_a_name_that_can_be_part_of_a_path() {
        let read = |text: &str| serde_json::from_value::<CustomerId>(json!(text));
        for good in ["17850", "...", "a/b", "Ren\u{e9}", "%2E"] {
            let id = read(good).unwrap();
            assert_eq!(String::from(&id), good);
            assert_eq!(serde_json::to_value(&id).unwrap(), json!(good));
        }
        // A name is trimmed before it is checked.
        for bad in [".", "..", " .. "] {
            let error = read(bad).unwrap_err().to_string();
            assert!(
                error.contains("can't be part of a URL's path"),
                "{bad:?}: no \"can't be part of a URL's path\" in: {error}"
            );
        }
    }

    #[test]
    fn an_imported_time_is_from_1970_on_and_before_9999() {
        let read = |text: &str| serde_json::from_value::<Time>(json!(text));
        for good in ["1970-01-01T00:00:00Z", "9998-12-31T23:59:59.999999Z"] {
            let time = read(good);
            assert!(time.is_ok(), "an error from {good}: {time:?}");
        }
        for bad in [
            "1969-12-31T23:59:59.999999Z",
            "1970-01-01T00:00:00+00:01",
            "9999-01-01T00:00:00Z",
            "9998-12-31T23:59:59-01:00",
        ] {
            let error = read(bad).unwrap_err().to_string();
            assert!(
                error.contains("must be from 1970 on"),
                "{bad}: no \"must be from 1970 on\" in: {error}"
            );
        }
        assert_eq!(TIME_END, Timestamp::parse("9999-01-01T00:00:00Z").unwrap());
    }

    #[test]
    fn a_time_is_serialised_as_it_was_sent() {
        let time: Time = serde_json::from_value(json!("2010-12-01T09:26:00+01:00")).unwrap();
        assert_eq!(time.get(), Timestamp(1_291_191_960_000_000));
        assert_eq!(
            serde_json::to_value(&time).unwrap(),
            json!("2010-12-01T09:26:00+01:00")
        );
    }
}
