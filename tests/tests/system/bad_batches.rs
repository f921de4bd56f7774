//! Bad lines in a batch: each is refused by name and costs the lines beside it nothing.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use system_tests::{World, audit_log, http::check_problem};

/// One byte more than a line may have.
const LONG_LINE_BYTES: usize = (1 << 20) + 1;

const INVALID: &str = "BODY_INVALID";
const MALFORMED: &str = "BODY_MALFORMED";
const FIELD: &str = "FIELD_INVALID";

/// Members of a sale that make it a bad one; code, and a part of the detail.
const BAD_SALES: &[(&str, &str, &str)] = &[
    (r#"{"colour":1}"#, INVALID, "colour"),
    (r#"{"invoice":7}"#, INVALID, "string"),
    (r#"{"invoice":""}"#, FIELD, "invoice"),
    (r#"{"currency":"PND"}"#, FIELD, "currency"),
    (r#"{"ordered_at":"12/1/2010 8:26"}"#, FIELD, "ordered_at"),
    (r#"{"country":"A\u0000"}"#, FIELD, "country"),
    (r#"{"lines":"none"}"#, INVALID, "a sequence"),
    (r#"{"lines":[]}"#, "SALE_WITHOUT_LINES", "no lines"),
];

/// The same of its only line.
const BAD_LINES: &[(&str, &str, &str)] = &[
    (r#"{"sku":" A"}"#, FIELD, "lines[0].sku"),
    (r#"{"quantity":1.5}"#, INVALID, "i64"),
    (r#"{"quantity":1e30}"#, INVALID, "i64"),
    (
        r#"{"quantity":9223372036854775807}"#,
        FIELD,
        "lines[0].quantity",
    ),
    (
        r#"{"unit_price":-9223372036854775808}"#,
        FIELD,
        "lines[0].unit_price",
    ),
    (r#"{"unit_price":9223372036854775808}"#, INVALID, "i64"),
];

/// A line, and how it must be answered.
struct Line {
    text: String,
    status: u16,
    code: &'static str,
    part: &'static str,
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_line_in_a_batch_costs_only_itself() -> Result<()> {
    let world = World::wiped("bad_batches").await?;
    let daybook = world.serve().await?;
    let lines = lines()?;
    let body: Vec<&str> = lines.iter().map(|line| line.text.as_str()).collect();
    let answers = daybook.client().post_lines(body.join("\n")).await?;
    ensure!(answers.len() == lines.len(), "{} answers", answers.len());
    for (index, (line, answer)) in lines.iter().zip(&answers).enumerate() {
        let shown: String = line.text.chars().take(80).collect();
        ensure!(answer["line"] == index + 1, "line {}: {answer}", index + 1);
        line.check(answer).with_context(|| shown)?;
    }
    let made = lines.iter().filter(|line| line.status == 201).count();
    let mut found = 0;
    audit_log::read(&world, &[], |decision| {
        found += decision.events.len();
        Ok(())
    })
    .await?;
    ensure!(found == made, "{found} events, {made} were answered");
    audit_log::verify(&world).await.map(drop)
}

/// Bad lines of every kind, each between good ones.
fn lines() -> Result<Vec<Line>> {
    let mut bad = vec![
        Line::bad("", 400, MALFORMED, "EOF"),
        Line::bad("{", 400, MALFORMED, "EOF"),
        Line::bad("\u{0}", 400, MALFORMED, "expected value"),
        Line::bad("x".repeat(LONG_LINE_BYTES), 413, "LINE_TOO_LONG", "1048576"),
        Line::bad("{}", 422, INVALID, "key"),
        Line::bad(
            r#"{"key":"k","command":"Burn","body":{}}"#,
            422,
            INVALID,
            "Burn",
        ),
        Line::bad(product("A").replace("sku", "skew"), 422, INVALID, "skew"),
        Line::bad(product(&"A".repeat(65)), 422, FIELD, "sku"),
        Line::bad(
            product("A").replace("key/", "\u{e9}"),
            400,
            "IDEMPOTENCY_KEY_INVALID",
            "ASCII",
        ),
    ];
    for (members, code, part) in BAD_SALES {
        let sale = with(sale(), serde_json::from_str(members)?);
        bad.push(Line::bad(command(&sale), 422, code, part));
    }
    for (members, code, part) in BAD_LINES {
        let mut sale = sale();
        let line = sale["lines"][0].take();
        sale["lines"][0] = with(line, serde_json::from_str(members)?);
        bad.push(Line::bad(command(&sale), 422, code, part));
    }
    let between = (0..).map(|number| Line::good(&format!("GOOD-{number}")));
    Ok(bad
        .into_iter()
        .zip(between)
        .flat_map(<[Line; 2]>::from)
        .collect())
}

fn product(sku: &str) -> String {
    let body = json!({"sku": sku, "description": "a product"});
    json!({"key": format!("key/{sku}"), "command": "CreateProduct", "body": body}).to_string()
}

fn sale() -> Value {
    json!({"invoice": "1", "country": "EIRE", "currency": "GBP",
        "ordered_at": "2010-12-01T08:26:00Z",
        "lines": [{"sku": "A", "quantity": 1, "unit_price": 1_000_000}]})
}

/// A command of its own for every sale, or later ones would count as repetitions of the first.
fn command(sale: &Value) -> String {
    json!({"key": sale.to_string(), "command": "ImportSale", "body": sale}).to_string()
}

fn with(mut object: Value, members: serde_json::Map<String, Value>) -> Value {
    for (name, value) in members {
        object[name] = value;
    }
    object
}

impl Line {
    fn good(sku: &str) -> Self {
        let text = product(sku);
        Self {
            text,
            status: 201,
            code: "",
            part: "",
        }
    }

    fn bad(text: impl Into<String>, status: u16, code: &'static str, part: &'static str) -> Self {
        let text = text.into();
        Self {
            text,
            status,
            code,
            part,
        }
    }

    fn check(&self, answer: &Value) -> Result<()> {
        if self.status == 201 {
            ensure!(answer["status"] == self.status, "{answer}");
            return Ok(());
        }
        check_problem(answer, self.status, self.code)?;
        let detail = answer["detail"].as_str().unwrap_or_default();
        ensure!(
            detail.contains(self.part),
            "it does not say {:?}: {answer}",
            self.part
        );
        Ok(())
    }
}
