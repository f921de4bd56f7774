//! A credit note: money given back. An aggregate of its own, for the source may name no order.

use crate::{
    decider::Decider,
    sale::{Sale, SaleRejection},
};
use schemas::orders::{CreditNoteIssued, Event};
use serde::{Deserialize, Serialize};

/// The aggregate `creditnote`.
pub struct CreditNote;

/// A credit note's life.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// It does not exist.
    #[default]
    NotIssued,
    /// It stands.
    Issued,
}

/// What may be asked of a credit note.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Take over a credit note that was issued elsewhere, against no order that we know.
    ImportCreditNote(Sale),
}

impl Decider for CreditNote {
    const AGGREGATE_TYPE: &'static str = "creditnote";
    type State = State;
    type Command = Command;
    type Event = Event;
    type Rejection = SaleRejection;

    fn decide(state: &State, command: &Command) -> Result<Vec<Event>, SaleRejection> {
        match command {
            Command::ImportCreditNote(note) => import(state, note),
        }
    }

    fn evolve(state: State, event: &Event) -> State {
        match event {
            Event::CreditNoteIssued(_) => State::Issued,
            // A fact about another aggregate.
            Event::SaleImported(_) => state,
        }
    }
}

fn import(state: &State, note: &Sale) -> Result<Vec<Event>, SaleRejection> {
    match state {
        State::Issued => Ok(vec![]),
        State::NotIssued => {
            let (lines, total) = note.priced()?;
            Ok(vec![Event::CreditNoteIssued(CreditNoteIssued {
                invoice: note.invoice.clone(),
                order_id: None,
                customer: note.customer.clone(),
                country: note.country.clone(),
                issued_at: note.at,
                currency: note.currency,
                lines,
                total,
            })])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{sale::examples::sale, spec::given};

    #[test]
    fn takes_a_credit_note_over_once() {
        let note = sale(&[(-6, 2_550_000)]);
        let expected = Event::CreditNoteIssued(CreditNoteIssued {
            invoice: note.invoice.clone(),
            order_id: None,
            customer: note.customer.clone(),
            country: note.country.clone(),
            issued_at: note.at,
            currency: note.currency,
            lines: note.priced().unwrap().0,
            total: -1530,
        });
        given::<CreditNote>([])
            .when(Command::ImportCreditNote(note))
            .then([expected])
            .and_again_nothing();
    }

    #[test]
    fn refuses_one_without_lines() {
        let invoice = "536365".into();
        given::<CreditNote>([])
            .when(Command::ImportCreditNote(sale(&[])))
            .then_rejected(SaleRejection::NoLines { invoice });
    }
}
