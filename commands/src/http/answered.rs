//! Counts a batch's answers; a counter is looked up once a batch, not once a line.

use crate::metrics as names;
use axum::http::StatusCode;
use metrics::{Counter, counter};

/// The counters of the commands and statuses that a batch met, few as they are.
#[derive(Default)]
pub struct Answered {
    counters: Vec<((&'static str, StatusCode), Counter)>,
}

impl Answered {
    /// Counts an answer.
    pub fn count(&mut self, command: &'static str, status: StatusCode) {
        let met = (command, status);
        if let Some((_, counter)) = self.counters.iter().find(|(known, _)| *known == met) {
            return counter.increment(1);
        }
        let text = status.as_u16().to_string();
        let counter = counter!(names::COMMANDS, "command" => command, "status" => text);
        counter.increment(1);
        self.counters.push((met, counter));
    }
}
