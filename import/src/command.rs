//! Builds the commands of a dataset: one line of JSON each, as `POST /api/v1/admin/commands` expects them.
//!
//! A command's idempotency key is derived from the file's own identifiers, so importing the file again
//! executes nothing twice. A product's key also has a hash of the description, and a price's key has the price: another
//! file may describe or price the product differently, and that needs another command. Amounts and totals are not
//! sent; the service computes them.

use crate::{
    dataset::Dataset,
    invoices::{Invoice, Kind, LastPrice, Line, Product},
    row::CURRENCY,
};
use bytes::Bytes;
use schemas::{Currency, Money, Quantity, Timestamp, UnitPrice};
use serde::Serialize;
use std::sync::Arc;

/// A serialised command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// The idempotency key.
    pub key: String,
    /// Position in the file of the first row from which the command was built.
    pub line: u64,
    /// One line of JSON, including its line feed.
    pub json: Bytes,
}

#[derive(Serialize)]
struct Envelope<'a, Body> {
    key: &'a str,
    command: &'static str,
    body: Body,
}

#[derive(Serialize)]
struct ProductBody<'a> {
    sku: &'a str,
    description: &'a str,
}

#[derive(Serialize)]
struct PriceBody<'a> {
    sku: &'a str,
    price: Money,
}

#[derive(Serialize)]
struct InvoiceBody<'a> {
    invoice: &'a str,
    customer: Option<&'a str>,
    country: &'a str,
    /// RFC 3339, in UTC.
    ordered_at: String,
    currency: Currency,
    lines: Vec<LineBody<'a>>,
}

#[derive(Serialize)]
struct LineBody<'a> {
    sku: &'a str,
    description: Option<&'a str>,
    quantity: Quantity,
    unit_price: UnitPrice,
}

/// A command per product, in the order of the dataset.
pub fn for_products(dataset: Arc<Dataset>) -> impl ExactSizeIterator<Item = Command> + Send {
    (0..dataset.products.len()).map(move |index| Command::for_product(&dataset.products[index]))
}

/// A command per product that has a price, in the order of the dataset.
pub fn for_prices(dataset: &Dataset) -> impl ExactSizeIterator<Item = Command> + Send + use<> {
    let products = dataset.products.iter();
    let priced = products.filter_map(|product| Some(Command::for_price(product, &product.price?)));
    // These few thousand short commands are collected, because their number must be known before sending starts.
    priced.collect::<Vec<_>>().into_iter()
}

/// A command per invoice, in the order of the dataset.
pub fn for_invoices(dataset: Arc<Dataset>) -> impl ExactSizeIterator<Item = Command> + Send {
    (0..dataset.invoices.len()).map(move |index| Command::for_invoice(&dataset.invoices[index]))
}

impl Command {
    fn for_product(product: &Product) -> Self {
        let description = product.description.as_deref().unwrap_or_default();
        let body = ProductBody {
            sku: &product.sku,
            description,
        };
        let key = format!("product/{}/{:016x}", product.sku, hash(description));
        Self::new(key, product.first_line, "CreateProduct", body)
    }

    fn for_price(product: &Product, price: &LastPrice) -> Self {
        let amount = price.amount;
        let body = PriceBody {
            sku: &product.sku,
            price: Money {
                amount,
                currency: CURRENCY,
            },
        };
        let key = format!("price/{}/{CURRENCY}/{amount}", product.sku);
        Self::new(key, price.line, "ChangePrice", body)
    }

    fn for_invoice(invoice: &Invoice) -> Self {
        let (key_prefix, command) = match invoice.kind {
            Kind::Sale => ("sale", "ImportSale"),
            Kind::CreditNote => ("credit-note", "ImportCreditNote"),
        };
        let ordered_at: Timestamp = invoice.ordered_at;
        let body = InvoiceBody {
            invoice: &invoice.number,
            customer: invoice.customer.as_deref(),
            country: &invoice.country,
            ordered_at: ordered_at.to_string(),
            currency: CURRENCY,
            lines: invoice.lines.iter().map(LineBody::from).collect(),
        };
        let key = format!("{key_prefix}/{}", invoice.number);
        Self::new(key, invoice.first_line, command, body)
    }

    fn new(key: String, line: u64, command: &'static str, body: impl Serialize) -> Self {
        let envelope = Envelope {
            key: &key,
            command,
            body,
        };
        let mut json =
            serde_json::to_vec(&envelope).expect("strings and integers are always valid JSON");
        json.push(b'\n');
        Self {
            key,
            line,
            json: json.into(),
        }
    }
}

/// The FNV-1a hash, which is the same in every version of this program and is enough to tell descriptions of
/// one product apart.
fn hash(text: &str) -> u64 {
    const OFFSET_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0100_0000_01b3;
    text.bytes().fold(OFFSET_BASIS, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(PRIME)
    })
}

impl<'a> From<&'a Line> for LineBody<'a> {
    fn from(line: &'a Line) -> Self {
        Self {
            sku: &line.sku,
            description: line.description.as_deref(),
            quantity: line.quantity,
            unit_price: line.unit_price,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{local_time::DateOrder, reading, rejects::Rejects, source::Rows};
    use std::io::Cursor;

    fn dataset(rows: &str) -> Arc<Dataset> {
        let header =
            "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country";
        let folder = tempfile::tempdir().unwrap();
        let mut rejects = Rejects::create(&folder.path().join("rejects.csv")).unwrap();
        let rows = || Rows::new(Cursor::new(format!("{header}\n{rows}"))).unwrap();
        let dates = Some(DateOrder::MonthFirst);
        Arc::new(reading::read(rows(), || Ok(rows()), dates, &mut rejects).unwrap())
    }

    fn texts(commands: impl Iterator<Item = Command>) -> Vec<String> {
        commands
            .map(|command| String::from_utf8(command.json.to_vec()).unwrap())
            .collect()
    }

    #[test]
    fn commands_are_the_json_lines_of_the_api() {
        let dataset = dataset(concat!(
            "536365,85123A,\"7\"\" £ \",6,12/1/2010 8:26,2.55,17850,United Kingdom\n",
            "C1,D,,-1,8/1/2011 8:26,0.001,,EIRE\n",
        ));
        assert_eq!(
            texts(for_invoices(dataset.clone())),
            [
                concat!(
                    r#"{"key":"sale/536365","command":"ImportSale","body":{"invoice":"536365","#,
                    r#""customer":"17850","country":"United Kingdom","#,
                    r#""ordered_at":"2010-12-01T08:26:00Z","currency":"GBP","#,
                    r#""lines":[{"sku":"85123A","description":"7\" £","#,
                    r#""quantity":6,"unit_price":2550000}]}}"#,
                    "\n"
                ),
                concat!(
                    r#"{"key":"credit-note/C1","command":"ImportCreditNote","#,
                    r#""body":{"invoice":"C1","customer":null,"country":"EIRE","#,
                    r#""ordered_at":"2011-08-01T07:26:00Z","currency":"GBP","#,
                    r#""lines":[{"sku":"D","description":null,"#,
                    r#""quantity":-1,"unit_price":1000}]}}"#,
                    "\n"
                ),
            ]
        );
        assert_eq!(
            texts(for_products(dataset)),
            [
                concat!(
                    r#"{"key":"product/85123A/cae4e7ac91c42593","command":"CreateProduct","#,
                    r#""body":{"sku":"85123A","description":"7\" £"}}"#,
                    "\n"
                ),
                concat!(
                    r#"{"key":"product/D/cbf29ce484222325","command":"CreateProduct","#,
                    r#""body":{"sku":"D","description":""}}"#,
                    "\n"
                ),
            ]
        );
    }

    #[test]
    fn a_product_with_a_price_has_a_command_for_it() {
        let dataset = dataset(concat!(
            "1,A,cup,1,12/1/2010 8:26,2.55,7,France\n",
            "2,B,,1,12/1/2010 8:26,0,7,France\n",
            "3,A,cup,1,12/2/2010 8:26,2.95,7,France\n",
        ));
        let prices: Vec<Command> = for_prices(&dataset).collect();
        assert_eq!(
            texts(prices.iter().cloned()),
            [concat!(
                r#"{"key":"price/A/GBP/295","command":"ChangePrice","#,
                r#""body":{"sku":"A","price":{"amount":295,"currency":"GBP"}}}"#,
                "\n"
            )]
        );
        assert_eq!(prices[0].line, 4);
    }

    #[test]
    fn a_product_with_another_description_has_another_key() {
        let keys: Vec<String> = ["cup", "mug"]
            .into_iter()
            .map(|description| {
                let dataset = dataset(&format!("1,A,{description},1,12/1/2010 8:26,1,,EIRE\n"));
                let products: Vec<Command> = for_products(dataset).collect();
                products[0].key.clone()
            })
            .collect();
        assert_ne!(keys[0], keys[1]);
        for key in keys {
            assert!(
                key.starts_with("product/A/"),
                "no \"product/A/\" at the start of: {key}"
            );
        }
    }

    #[test]
    fn a_command_has_the_line_of_its_first_row() {
        let dataset = dataset(
            "1,A,,1,12/1/2010 8:26,1,,EIRE\n2,B,,1,12/1/2010 8:26,1,,EIRE\n1,C,,1,12/1/2010 8:26,1,,EIRE\n",
        );
        let origins: Vec<_> = for_invoices(dataset.clone())
            .chain(for_products(dataset))
            .map(|command| (command.key, command.line))
            .collect();
        let expected = [
            ("sale/1", 2),
            ("sale/2", 3),
            ("product/A/cbf29ce484222325", 2),
            ("product/B/cbf29ce484222325", 3),
            ("product/C/cbf29ce484222325", 4),
        ];
        assert_eq!(origins, expected.map(|(key, line)| (key.to_owned(), line)));
    }
}
