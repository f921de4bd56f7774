//! Bad lines in a batch: each is refused with its error, and the lines around it are accepted.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use system_tests::{
    Deployment, audit_log, expect_eq,
    http::check_problem,
    sale::{import_sale, sale},
};

/// Bytes of a line that is one byte too long.
const LONG_LINE_BYTES: usize = (1 << 20) + 1;

const INVALID: &str = "BODY_INVALID";
const MALFORMED: &str = "BODY_MALFORMED";
const FIELD: &str = "FIELD_INVALID";

/// Members that make a sale invalid; the code and a part of the detail.
const BAD_SALES: &[(&str, &str, &str)] = &[
    (r#"{"colour":1}"#, FIELD, "colour"),
    (r#"{"invoice":7}"#, FIELD, "string"),
    (r#"{"invoice":""}"#, FIELD, "invoice"),
    (r#"{"currency":"PND"}"#, FIELD, "currency"),
    (r#"{"ordered_at":"12/1/2010 8:26"}"#, FIELD, "ordered_at"),
    (
        r#"{"ordered_at":"2010-12-01 08:26:00Z"}"#,
        FIELD,
        "ordered_at",
    ),
    (
        r#"{"ordered_at":"2010-12-01T08:26:60Z"}"#,
        FIELD,
        "leap second",
    ),
    (
        r#"{"ordered_at":"2010-12-01T08:26:00.0000001Z"}"#,
        FIELD,
        "microsecond",
    ),
    (
        r#"{"ordered_at":"9999-12-30T22:00:00.5Z"}"#,
        FIELD,
        "before 9999",
    ),
    (r#"{"customer":"."}"#, FIELD, "customer"),
    (
        r#"{"customer":" .."}"#,
        FIELD,
        "can't be part of a URL's path",
    ),
    (r#"{"country":" "}"#, FIELD, "must not be empty"),
    (r#"{"country":"A\u0000"}"#, FIELD, "country"),
    (r#"{"lines":"none"}"#, FIELD, "a sequence"),
    (r#"{"lines":[]}"#, "SALE_WITHOUT_LINES", "no lines"),
];

/// Members that make a sale's only line invalid; the code and a part of the detail.
const BAD_LINES: &[(&str, &str, &str)] = &[
    (r#"{"sku":" A"}"#, FIELD, "lines[0].sku"),
    (r#"{"quantity":1.5}"#, FIELD, "i64"),
    (r#"{"quantity":1e30}"#, FIELD, "i64"),
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
    (r#"{"unit_price":9223372036854775808}"#, FIELD, "i64"),
];

/// A line and its expected answer.
struct Line {
    text: String,
    status: u16,
    code: &'static str,
    part: &'static str,
}

pub async fn a_bad_line_is_refused_and_the_lines_around_it_are_accepted(
    deployment: &Deployment,
) -> Result<()> {
    let node = deployment.commands().await?;
    let lines = lines()?;
    let body: Vec<&str> = lines.iter().map(|line| line.text.as_str()).collect();
    let answers = node.client().post_lines(body.join("\n")).await?;
    expect_eq("answers", &answers.len(), &lines.len())?;
    for (number, (line, answer)) in (1..).zip(lines.iter().zip(&answers)) {
        let shown: String = line.text.chars().take(80).collect();
        ensure!(
            answer["line"] == number,
            "{answer} instead of an answer to line {number}"
        );
        line.check(answer)
            .with_context(|| format!("line {number}: {shown}"))?;
    }
    let good = lines.iter().filter(|line| line.status == 201).count();
    let decisions = audit_log::decisions(deployment, &[]).await?;
    let events: usize = decisions.iter().map(|decision| decision.events.len()).sum();
    expect_eq("events of the good lines", &events, &good)?;
    audit_log::verify(deployment).await.map(drop)
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
            FIELD,
            "Burn",
        ),
        Line::bad(product("A").replace("sku", "skew"), 422, FIELD, "skew"),
        Line::bad(product(&"A".repeat(65)), 422, FIELD, "sku"),
        Line::bad(
            product("A").replace("key/", "\u{e9}"),
            400,
            "IDEMPOTENCY_KEY_INVALID",
            "ASCII",
        ),
    ];
    for (members, code, part) in BAD_SALES {
        let sale = with(sale("1"), serde_json::from_str(members)?);
        bad.push(Line::bad(command(&sale), 422, code, part));
    }
    for (members, code, part) in BAD_LINES {
        let mut sale = sale("1");
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

/// The key is the sale itself, because with the same key later sales would be repetitions of the first.
fn command(sale: &Value) -> String {
    import_sale(&sale.to_string(), sale).to_string()
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
            ensure!(
                answer["status"] == self.status,
                "status is not {}: {answer}",
                self.status
            );
            return Ok(());
        }
        check_problem(answer, self.status, self.code)?;
        let detail = answer["detail"].as_str().unwrap_or_default();
        ensure!(
            detail.contains(self.part),
            "no {:?} in the detail: {answer}",
            self.part
        );
        Ok(())
    }
}
