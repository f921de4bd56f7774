//! Unions of Avro records as Rust enums, by the record's name.
//!
//! A reader gets a branch by the record's full name, such as `daybook.orders.Decision`. The namespace differs
//! by context although the Rust type is the same, so only the last part of the name counts. Serde's derive
//! can't express that.

use serde::Deserialize;
use std::borrow::Cow;

/// The last part of a record's full name.
pub(crate) struct RecordName<'de>(Cow<'de, str>);

impl RecordName<'_> {
    pub(crate) fn short(&self) -> &str {
        self.0.rsplit_once('.').map_or(&self.0, |(_, last)| last)
    }
}

impl<'de> Deserialize<'de> for RecordName<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Name;
        impl<'de> serde::de::Visitor<'de> for Name {
            type Value = RecordName<'de>;
            fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                f.write_str("the name of a record")
            }
            fn visit_str<E>(self, name: &str) -> Result<RecordName<'de>, E> {
                Ok(RecordName(Cow::Owned(name.to_owned())))
            }
            fn visit_borrowed_str<E>(self, name: &'de str) -> Result<RecordName<'de>, E> {
                Ok(RecordName(Cow::Borrowed(name)))
            }
        }
        deserializer.deserialize_identifier(Name)
    }
}

/// Implements `Deserialize` for an enum whose variants hold the records of the same names.
macro_rules! deserialize_record_union {
    ($union:ident $(<$parameter:ident>)?, $($variant:ident),+ $(,)?) => {
        impl<'de $(, $parameter: serde::Deserialize<'de>)?> serde::Deserialize<'de>
            for $union $(<$parameter>)?
        {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                const NAMES: &[&str] = &[$(stringify!($variant)),+];
                struct Union<T>(std::marker::PhantomData<T>);
                impl<'de $(, $parameter: serde::Deserialize<'de>)?> serde::de::Visitor<'de>
                    for Union<$union $(<$parameter>)?>
                {
                    type Value = $union $(<$parameter>)?;
                    fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                        write!(f, "one of the records {}", NAMES.join(", "))
                    }
                    fn visit_enum<A>(self, access: A) -> Result<Self::Value, A::Error>
                    where
                        A: serde::de::EnumAccess<'de>,
                    {
                        use serde::de::{Error, VariantAccess};
                        let (name, record) = access.variant::<$crate::union::RecordName>()?;
                        match name.short() {
                            $(stringify!($variant) => record.newtype_variant().map($union::$variant),)+
                            other => Err(A::Error::unknown_variant(other, NAMES)),
                        }
                    }
                }
                let visitor = Union(std::marker::PhantomData);
                deserializer.deserialize_enum(stringify!($union), NAMES, visitor)
            }
        }
    };
}

/// Implements `Deserialize` for a union whose variants are grouped by aggregate: the record of name `$variant` becomes
/// `$union::$group($events::$variant(..))`.
macro_rules! deserialize_nested_record_union {
    ($union:ident, $($variant:ident => $group:ident $events:ident),+ $(,)?) => {
        impl<'de> serde::Deserialize<'de> for $union {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                const NAMES: &[&str] = &[$(stringify!($variant)),+];
                struct Union;
                impl<'de> serde::de::Visitor<'de> for Union {
                    type Value = $union;
                    fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                        write!(f, "one of the records {}", NAMES.join(", "))
                    }
                    fn visit_enum<A>(self, access: A) -> Result<Self::Value, A::Error>
                    where
                        A: serde::de::EnumAccess<'de>,
                    {
                        use serde::de::{Error, VariantAccess};
                        let (name, record) = access.variant::<$crate::union::RecordName>()?;
                        match name.short() {
                            $(stringify!($variant) => record
                                .newtype_variant()
                                .map(|event| $union::$group($events::$variant(event))),)+
                            other => Err(A::Error::unknown_variant(other, NAMES)),
                        }
                    }
                }
                deserializer.deserialize_enum(stringify!($union), NAMES, Union)
            }
        }
    };
}
pub(crate) use {deserialize_nested_record_union, deserialize_record_union};
