//! Writes Rust for the contexts that were read.
//!
//! A context file is Avro with three attributes of ours, which the registered schema does not have:
//! - `"aggregate": "CreditNote"` on each event record: the aggregate that the event belongs to.
//! - `"rust": "Sku"` on a field's type: the type of this crate that the field has in Rust.
//! - `"example": ...` on a field: its value in the golden records, where the usual one does not fit.
//!
//! A record is read by the schema that it was written with. If a field was added since, it has its default.

use crate::avro::{Context, NamedType, camel_case};
use std::fmt::Write;

/// The Rust code of all contexts, for `src/context.rs` to include.
pub fn code(contexts: &[Context]) -> String {
    let mut code = String::new();
    registry(contexts, &mut code).expect("writing to a string does not fail");
    code
}

/// The Rust types of one context's records and enums, without the context itself.
pub fn types(context: &Context) -> String {
    let mut code = String::new();
    for defined in &context.types {
        named_type(defined, &mut code).expect("writing to a string does not fail");
    }
    code
}

fn registry(contexts: &[Context], code: &mut String) -> std::fmt::Result {
    let count = contexts.len();
    writeln!(code, "/// Every context, by name.")?;
    writeln!(code, "pub const CONTEXTS: [&Context; {count}] = [")?;
    for context in contexts {
        writeln!(code, "    &{},", context.name.to_uppercase())?;
    }
    writeln!(code, "];")?;
    writeln!(
        code,
        "/// Calls `$visit!` once for each context's event type: `$visit!(orders::Event)`."
    )?;
    writeln!(code, "#[macro_export]")?;
    writeln!(
        code,
        "macro_rules! for_each_context {{ ($visit:ident) => {{"
    )?;
    for context in contexts {
        writeln!(code, "    $visit!($crate::{}::Event);", context.name)?;
    }
    writeln!(code, "}} }}")?;
    for context in contexts {
        constant(context, code)?;
        module(context, code)?;
    }
    Ok(())
}

fn constant(context: &Context, code: &mut String) -> std::fmt::Result {
    let name = &context.name;
    writeln!(
        code,
        "/// The context `{name}`: `avro/{name}.avsc` has its events."
    )?;
    writeln!(
        code,
        "pub const {}: Context = Context {{",
        name.to_uppercase()
    )?;
    writeln!(code, "    name: {name:?},")?;
    writeln!(code, "    topic: \"journal.{name}\",")?;
    writeln!(code, "    subject: \"journal.{name}-value\",")?;
    writeln!(code, "    events_avsc: {:?},", context.schema)?;
    writeln!(code, "}};")
}

fn module(context: &Context, code: &mut String) -> std::fmt::Result {
    let name = &context.name;
    writeln!(
        code,
        "/// Events of the context `{name}`, generated from `avro/{name}.avsc`."
    )?;
    writeln!(code, "pub mod {name} {{")?;
    writeln!(
        code,
        "    #[allow(unused_imports, reason = \"not every context uses each type\")]"
    )?;
    writeln!(
        code,
        "    use crate::{{Currency, Money, Quantity, Sku, Timestamp, UnitPrice}};"
    )?;
    writeln!(
        code,
        "    crate::context::context_events!({}",
        name.to_uppercase()
    )?;
    for aggregate in &context.aggregates {
        let (rust, events) = (&aggregate.name, aggregate.events.join(", "));
        let stored = rust.to_lowercase();
        writeln!(code, "        , {rust} {rust}Event {stored:?} [{events}]")?;
    }
    writeln!(code, "    );")?;
    for defined in &context.types {
        named_type(defined, code)?;
    }
    writeln!(code, "}}")
}

fn named_type(defined: &NamedType, code: &mut String) -> std::fmt::Result {
    match defined {
        NamedType::Record { name, doc, fields } => {
            writeln!(code, "    #[doc = {doc:?}]")?;
            writeln!(
                code,
                "    #[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]"
            )?;
            writeln!(code, "    pub struct {name} {{")?;
            for field in fields {
                writeln!(code, "        #[doc = {:?}]", field.doc)?;
                if field.is_bytes {
                    writeln!(code, "        #[serde(with = \"serde_bytes\")]")?;
                }
                if field.default.is_some() {
                    let function = default_function(name, &field.name);
                    writeln!(code, "        #[serde(default = {function:?})]")?;
                }
                writeln!(code, "        pub {}: {},", field.name, field.rust_type)?;
            }
            writeln!(code, "    }}")?;
            for field in fields {
                if let Some(default) = &field.default {
                    let function = default_function(name, &field.name);
                    let rust_type = &field.rust_type;
                    writeln!(code, "    fn {function}() -> {rust_type} {{ {default} }}")?;
                }
            }
            Ok(())
        }
        NamedType::Enum { name, doc, symbols } => {
            writeln!(code, "    #[doc = {doc:?}]")?;
            writeln!(
                code,
                "    #[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]"
            )?;
            writeln!(code, "    pub enum {name} {{")?;
            for symbol in symbols.iter().filter(|symbol| *symbol != "UNKNOWN") {
                writeln!(code, "        #[doc = \"The symbol `{symbol}`.\"]")?;
                writeln!(code, "        #[serde(rename = {symbol:?})]")?;
                writeln!(code, "        {},", camel_case(symbol))?;
            }
            writeln!(code, "        /// Written by software newer than this.")?;
            writeln!(code, "        #[serde(rename = \"UNKNOWN\", other)]")?;
            writeln!(code, "        Unknown,")?;
            writeln!(code, "    }}")
        }
    }
}

/// The name of the function that gives a field's default.
fn default_function(record: &str, field: &str) -> String {
    format!("default_{}_{field}", record.to_lowercase())
}
