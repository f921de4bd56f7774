//! Figures of a group of orders: their number, their total, and the times of the first and the last one.
//!
//! They are sums, minima and maxima, so they do not depend on the order of the events. Views store them in columns.
//! If their meaning changes, the views that store them need new versions.

use crate::{
    order::{Amount, Kind},
    recorded::{FoldError, Recorded},
};
use schemas::{
    Currency, Timestamp,
    orders::{CreditNoteEvent, Event, OrderEvent},
};
use serde::Serialize;
use utoipa::ToSchema;

/// The figures of one or several orders and credit notes in one currency.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Figures {
    /// Number of orders.
    pub orders: i64,
    /// Number of credit notes.
    pub credit_notes: i64,
    /// Minor units, signed.
    pub total: i64,
    /// Time of the earliest order or credit note.
    pub first_ordered_at: Timestamp,
    /// Time of the latest order or credit note.
    pub last_ordered_at: Timestamp,
}

/// One order or credit note: the groups that it belongs to, and its figures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Booking<'e> {
    /// Opaque id; `None` if the source has none.
    pub customer: Option<&'e str>,
    /// The country, spelled as in the source.
    pub country: &'e str,
    /// The currency of the total.
    pub currency: Currency,
    /// The figures of this order or credit note alone.
    pub figures: Figures,
}

/// Figures in an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct SalesFigures {
    /// Number of orders.
    #[schema(example = 34)]
    pub orders: i64,
    /// Number of credit notes.
    #[schema(example = 1)]
    pub credit_notes: i64,
    /// The sum of the orders and credit notes; negative if more money was given back than paid.
    pub total: Amount,
    /// Time of the earliest order or credit note: RFC 3339, in UTC.
    #[schema(example = "2010-12-01T08:26:00Z")]
    pub first_ordered_at: String,
    /// Time of the latest order or credit note: RFC 3339, in UTC.
    #[schema(example = "2011-12-02T15:41:00Z")]
    pub last_ordered_at: String,
}

impl Figures {
    /// The figures of both groups together; `None` if a sum is beyond 64 bits.
    pub fn checked_add(self, other: Self) -> Option<Self> {
        Some(Self {
            orders: self.orders.checked_add(other.orders)?,
            credit_notes: self.credit_notes.checked_add(other.credit_notes)?,
            total: self.total.checked_add(other.total)?,
            first_ordered_at: self.first_ordered_at.min(other.first_ordered_at),
            last_ordered_at: self.last_ordered_at.max(other.last_ordered_at),
        })
    }

    /// The figures as they are shown.
    pub fn in_currency(self, currency: &str) -> SalesFigures {
        SalesFigures {
            orders: self.orders,
            credit_notes: self.credit_notes,
            total: Amount::new(self.total, currency),
            first_ordered_at: self.first_ordered_at.to_string(),
            last_ordered_at: self.last_ordered_at.to_string(),
        }
    }
}

impl<'e> Booking<'e> {
    /// The order or credit note of an event.
    ///
    /// # Errors
    /// [`FoldError::Time`] for a time outside of the years 1 to 9999.
    pub fn of(event: &Recorded<'e, Event>) -> Result<Self, FoldError> {
        let (kind, customer, country, currency, total, time) = match event.event {
            Event::Order(OrderEvent::SaleImported(sale)) => (
                Kind::Sale,
                &sale.customer,
                &sale.country,
                sale.currency,
                sale.total,
                sale.ordered_at,
            ),
            Event::CreditNote(CreditNoteEvent::CreditNoteIssued(note)) => (
                Kind::CreditNote,
                &note.customer,
                &note.country,
                note.currency,
                note.total,
                note.issued_at,
            ),
        };
        let time = event.calendar_time(time)?;
        let (orders, credit_notes) = match kind {
            Kind::Sale => (1, 0),
            Kind::CreditNote => (0, 1),
        };
        Ok(Self {
            // An empty id does not identify a customer.
            customer: customer.as_deref().filter(|customer| !customer.is_empty()),
            country,
            currency,
            figures: Figures {
                orders,
                credit_notes,
                total,
                first_ordered_at: time,
                last_ordered_at: time,
            },
        })
    }

    /// The figures of a group after an event that belongs to it; `before` has the group's figures, if it has any.
    ///
    /// # Errors
    /// [`FoldError::Overflow`] if a sum is beyond 64 bits, and those of [`Booking::of`].
    pub fn add_to(
        before: Option<Figures>,
        event: &Recorded<'e, Event>,
    ) -> Result<Figures, FoldError> {
        let figures = Self::of(event)?.figures;
        match before {
            Some(before) => before.checked_add(figures).ok_or_else(|| event.overflow()),
            None => Ok(figures),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn figures() -> impl Strategy<Value = Figures> {
        let counts = (0..1_000_i64, 0..1_000_i64, -1_000_000..1_000_000_i64);
        (counts, any::<(i64, i64)>()).prop_map(|((orders, credit_notes, total), (a, b))| Figures {
            orders,
            credit_notes,
            total,
            first_ordered_at: Timestamp(a.min(b)),
            last_ordered_at: Timestamp(a.max(b)),
        })
    }

    proptest! {
        #[test]
        fn figures_do_not_depend_on_the_order_of_the_events(
            (groups, others) in proptest::collection::vec(figures(), 1..8)
                .prop_flat_map(|groups| (Just(groups.clone()), Just(groups).prop_shuffle())),
        ) {
            let sum = |groups: Vec<Figures>| groups.into_iter().reduce(|a, b| a.checked_add(b).unwrap());
            prop_assert_eq!(sum(groups), sum(others));
        }
    }

    #[test]
    fn a_sum_beyond_64_bits_is_refused() {
        let figures = |total| Figures {
            orders: 1,
            credit_notes: 0,
            total,
            first_ordered_at: Timestamp(0),
            last_ordered_at: Timestamp(0),
        };
        assert_eq!(figures(i64::MAX).checked_add(figures(1)), None);
    }
}
