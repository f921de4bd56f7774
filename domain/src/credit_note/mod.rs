//! A credit note: money returned to a customer. It is an aggregate of its own because the source may name
//! no order.

use crate::{
    decider::Decider,
    sale::{Sale, SaleRejection},
};
use schemas::{
    ContentHash,
    orders::{CreditNoteEvent as Event, CreditNoteIssued},
};
use serde::{Deserialize, Serialize};

/// The aggregate `creditnote`.
pub struct CreditNote;

/// The state of a credit note.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// It does not exist.
    #[default]
    NotIssued,
    /// It was issued.
    Issued {
        /// The hash of its event.
        content: ContentHash,
    },
}

/// A request to change a credit note.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Import a credit note of another system, without an order.
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
            Event::CreditNoteIssued(issued) => State::Issued {
                content: ContentHash::of(issued),
            },
        }
    }
}

fn import(state: &State, note: &Sale) -> Result<Vec<Event>, SaleRejection> {
    let (lines, total) = note.priced()?;
    let issued = CreditNoteIssued {
        invoice: note.invoice.clone(),
        order_id: None,
        customer: note.customer.clone(),
        country: note.country.clone(),
        issued_at: note.at,
        currency: note.currency,
        lines,
        total,
    };
    match state {
        State::NotIssued => Ok(vec![Event::CreditNoteIssued(issued)]),
        State::Issued { content } if *content == ContentHash::of(&issued) => Ok(vec![]),
        State::Issued { .. } => Err(SaleRejection::Exists {
            invoice: issued.invoice,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        sale::examples::{other_contents, sale},
        spec::given,
    };

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
    fn a_second_import_with_other_content_is_rejected() {
        let first = sale(&[(-6, 2_550_000)]);
        let command = Command::ImportCreditNote(first.clone());
        let events = CreditNote::decide(&State::NotIssued, &command).unwrap();
        for other in other_contents(&first) {
            let invoice = other.invoice.clone();
            given::<CreditNote>(events.clone())
                .when(Command::ImportCreditNote(other))
                .then_rejected(SaleRejection::Exists { invoice });
        }
    }

    #[test]
    fn a_credit_note_without_lines_is_rejected() {
        let invoice = "536365".into();
        given::<CreditNote>([])
            .when(Command::ImportCreditNote(sale(&[])))
            .then_rejected(SaleRejection::NoLines { invoice });
    }
}
