//! Events for the tests of the views.

use schemas::{
    Currency, Money, Quantity, Sku, Timestamp, UnitPrice,
    catalog::{self, ProductCreated, ProductEvent, ProductPriceChanged},
    orders::{CreditNoteEvent, CreditNoteIssued, Event, OrderEvent, SaleImported, SaleLine},
};

pub fn line(sku: &str, quantity: i64, amount: i64) -> SaleLine {
    SaleLine {
        sku: Sku::parse(sku).unwrap(),
        description: Some("HEART".into()),
        quantity: Quantity(quantity),
        unit_price: UnitPrice(2_550_000),
        amount,
    }
}

pub fn sale(invoice: &str, customer: Option<&str>, lines: Vec<SaleLine>) -> Event {
    Event::Order(OrderEvent::SaleImported(SaleImported {
        invoice: invoice.into(),
        customer: customer.map(str::to_owned),
        country: "United Kingdom".into(),
        ordered_at: ordered_at(),
        currency: Currency::GBP,
        total: lines.iter().map(|line| line.amount).sum(),
        lines,
    }))
}

pub fn credit_note(invoice: &str, customer: Option<&str>, lines: Vec<SaleLine>) -> Event {
    Event::CreditNote(CreditNoteEvent::CreditNoteIssued(CreditNoteIssued {
        invoice: invoice.into(),
        order_id: None,
        customer: customer.map(str::to_owned),
        country: "United Kingdom".into(),
        issued_at: ordered_at(),
        currency: Currency::GBP,
        total: lines.iter().map(|line| line.amount).sum(),
        lines,
    }))
}

/// Sets the event's time.
pub fn at(time: Timestamp, mut event: Event) -> Event {
    match &mut event {
        Event::Order(OrderEvent::SaleImported(sale)) => sale.ordered_at = time,
        Event::CreditNote(CreditNoteEvent::CreditNoteIssued(note)) => note.issued_at = time,
    }
    event
}

/// Sets the event's country.
pub fn of_country(country: &str, mut event: Event) -> Event {
    match &mut event {
        Event::Order(OrderEvent::SaleImported(sale)) => sale.country = country.into(),
        Event::CreditNote(CreditNoteEvent::CreditNoteIssued(note)) => note.country = country.into(),
    }
    event
}

pub fn ordered_at() -> Timestamp {
    Timestamp::parse("2010-12-01T08:26:00Z").unwrap()
}

pub fn created(sku: &str, description: &str) -> catalog::Event {
    catalog::Event::Product(ProductEvent::ProductCreated(ProductCreated {
        sku: Sku::parse(sku).unwrap(),
        description: description.into(),
    }))
}

pub fn priced(old: Option<i64>, new: i64) -> catalog::Event {
    let pence = |amount| Money {
        amount,
        currency: Currency::GBP,
    };
    catalog::Event::Product(ProductEvent::ProductPriceChanged(ProductPriceChanged {
        old: old.map(pence),
        new: pence(new),
    }))
}
