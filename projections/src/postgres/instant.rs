//! `timestamptz` without a conversion through a calendar type: both sides count whole microseconds.

use schemas::Timestamp;
use sqlx::{
    Decode, Encode, Postgres, Type,
    encode::IsNull,
    error::BoxDynError,
    postgres::{PgArgumentBuffer, PgHasArrayType, PgTypeInfo, PgValueRef, types::Oid},
};

/// The server's `pg_type.oid` of `timestamptz` and of its array.
const OIDS: (Oid, Oid) = (Oid(1184), Oid(1185));
/// 2000-01-01T00:00:00Z, which Postgres counts from, in microseconds since 1970.
const EPOCH_US: i64 = 946_684_800_000_000;

/// A `timestamptz`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instant(pub Timestamp);

impl Type<Postgres> for Instant {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(OIDS.0)
    }
}

impl PgHasArrayType for Instant {
    fn array_type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(OIDS.1)
    }
}

impl Encode<'_, Postgres> for Instant {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        let since_2000 = self.0.0.checked_sub(EPOCH_US);
        Encode::<Postgres>::encode(since_2000.ok_or("the time is beyond 64 bits")?, buffer)
    }

    fn size_hint(&self) -> usize {
        size_of::<i64>()
    }
}

impl<'r> Decode<'r, Postgres> for Instant {
    fn decode(value: PgValueRef<'r>) -> Result<Self, BoxDynError> {
        // The value is binary, because rows are read with prepared statements only.
        let micros: [u8; 8] = value.as_bytes()?.try_into()?;
        let since_1970 = i64::from_be_bytes(micros)
            .checked_add(EPOCH_US)
            .ok_or("the time is infinite or beyond 64 bits")?;
        Ok(Self(Timestamp(since_1970)))
    }
}
