//! Fills templates, which are files with words between `@`.

use super::names::{AggregateName, CommandName, ContextName, ViewName};

/// The words of a template and their values.
pub struct Values(Vec<(&'static str, String)>);

impl Values {
    /// The values of a context.
    pub fn of_context(context: &ContextName) -> Self {
        Self(vec![("context", context.as_str().to_owned())])
    }

    /// Adds the values of an aggregate.
    pub fn with_aggregate(mut self, aggregate: &AggregateName) -> Self {
        let values = [
            ("Aggregate", aggregate.type_name().to_owned()),
            ("aggregate", aggregate.module()),
            ("stored", aggregate.stored()),
            ("words", aggregate.words()),
            ("a words", aggregate.with_article()),
            ("A words", capitalised(&aggregate.with_article())),
            ("CODE", aggregate.code()),
            ("path", aggregate.path()),
        ];
        self.0.extend(values);
        self
    }

    /// Adds the values of an aggregate's command.
    pub fn with_command(mut self, command: &CommandName, aggregate: &AggregateName) -> Self {
        let values = [
            ("Command", command.type_name().to_owned()),
            ("Verb", command.verb(aggregate).to_owned()),
            ("function", command.function(aggregate)),
            ("operation", command.operation()),
            ("verb path", command.path(aggregate)),
            ("Sentence", command.sentence(aggregate)),
        ];
        self.0.extend(values);
        self
    }

    /// Adds the values of a view.
    pub fn with_view(mut self, view: &ViewName) -> Self {
        let values = [
            ("view", view.as_str().to_owned()),
            ("View", view.type_name()),
            ("VIEW", view.code()),
            ("view path", view.path()),
        ];
        self.0.extend(values);
        self
    }

    /// Adds one value.
    pub fn with(mut self, word: &'static str, value: String) -> Self {
        self.0.push((word, value));
        self
    }

    /// Fills a template.
    pub fn fill(&self, template: &str) -> String {
        let mut text = template.to_owned();
        for (word, value) in &self.0 {
            text = text.replace(&format!("@{word}@"), value);
        }
        text
    }
}

fn capitalised(text: &str) -> String {
    let (first, rest) = text.split_at(1);
    first.to_uppercase() + rest
}
