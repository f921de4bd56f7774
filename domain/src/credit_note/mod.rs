//! A credit note: money returned to a customer. It is an aggregate of its own because the source may name
//! no order.

use crate::{
    decider::Decider,
    sale::{Sale, SaleRejection},
};
use schemas::orders::{CreditNoteEvent as Event, CreditNoteIssued};
use serde::{Deserialize, Serialize};

/// The aggregate `creditnote`.
pub struct CreditNote;

/// A credit note's life.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// It does not exist.
    #[default]
    NotIssued,
    /// It was issued.
    Issued,
}

/// A request to change a credit note.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Import a credit note of another system, against no order that we know.
    ImportCreditNote(Sale),
}

impl Decider for CreditNote {
    type State = State;
    type Command = Command;
    type Event = Event;
    type Rejection = SaleRejection;

    fn decide(state: &State, command: &Command) -> Result<Vec<Event>, SaleRejection> {
        match command {
            Command::ImportCreditNote(note) => import(state, note),
        }
    }

    fn evolve(_: State, event: &Event) -> State {
        match event {
            Event::CreditNoteIssued(_) => State::Issued,
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
    fn a_credit_note_is_imported_once() {
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
    fn a_credit_note_without_lines_is_rejected() {
        let invoice = "536365".into();
        given::<CreditNote>([])
            .when(Command::ImportCreditNote(sale(&[])))
            .then_rejected(SaleRejection::NoLines { invoice });
    }
}
