//! Counts a batch's answers. A counter is looked up once per batch, not once per line.

use crate::metrics as names;
use axum::http::StatusCode;
use metrics::{Counter, counter};

/// The counters of one batch, by command and status. A batch has few combinations of the two.
#[derive(Default)]
pub struct AnswerCounters {
    counters: Vec<((&'static str, StatusCode), Counter)>,
}

impl AnswerCounters {
    /// Counts an answer.
    pub fn count(&mut self, command: &'static str, status: StatusCode) {
        let labels = (command, status);
        if let Some((_, counter)) = self.counters.iter().find(|(known, _)| *known == labels) {
            return counter.increment(1);
        }
        let text = status.as_u16().to_string();
        let counter = counter!(names::COMMANDS, "command" => command, "status" => text);
        counter.increment(1);
        self.counters.push((labels, counter));
    }
}
