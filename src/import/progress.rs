//! How far the sending has come, on standard error: a bar on a terminal, else a line now and then.

use indicatif::{HumanCount, ProgressBar, ProgressStyle};
use std::{
    io::IsTerminal,
    time::{Duration, Instant},
};

/// Time between two lines where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);

const BAR: &str = "{msg:9} [{bar:40}] {human_pos}/{human_len}  {per_sec}  {eta} left";

/// In which form progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Not at all.
    Silent,
    /// A bar that moves.
    Bar,
    /// A line every few seconds.
    Lines,
}

/// The progress of one lot of commands.
pub struct Progress {
    what: &'static str,
    total: u64,
    done: u64,
    started: Instant,
    view: View,
}

enum View {
    Silent,
    Bar(ProgressBar),
    Lines { last: Instant },
}

impl Form {
    /// What suits standard error.
    pub fn choose(is_wanted: bool) -> Self {
        match (is_wanted, std::io::stderr().is_terminal()) {
            (false, _) => Self::Silent,
            (true, true) => Self::Bar,
            (true, false) => Self::Lines,
        }
    }
}

impl Progress {
    /// Begins at nothing.
    pub fn begin(form: Form, what: &'static str, total: u64) -> Self {
        let started = Instant::now();
        let view = match form {
            Form::Silent => View::Silent,
            Form::Bar => {
                let style = ProgressStyle::with_template(BAR).expect("the template is a constant");
                View::Bar(ProgressBar::new(total).with_style(style).with_message(what))
            }
            Form::Lines => View::Lines { last: started },
        };
        Self {
            what,
            total,
            done: 0,
            started,
            view,
        }
    }

    /// One more is done.
    pub fn advance(&mut self) {
        self.done += 1;
        match &mut self.view {
            View::Silent => {}
            View::Bar(bar) => bar.inc(1),
            View::Lines { last } if last.elapsed() >= LINE_EVERY => {
                *last = Instant::now();
                eprintln!("{}", self.line());
            }
            View::Lines { .. } => {}
        }
    }

    /// Nothing more comes.
    pub fn end(self) {
        match &self.view {
            View::Silent => {}
            View::Bar(bar) => bar.abandon(),
            View::Lines { .. } => eprintln!("{}", self.line()),
        }
    }

    fn line(&self) -> String {
        let rate = self.done as f64 / self.started.elapsed().as_secs_f64();
        format!(
            "{}: {} of {}, {rate:.0}/s",
            self.what,
            HumanCount(self.done),
            HumanCount(self.total),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_how_far_it_is() {
        let mut progress = Progress::begin(Form::Silent, "invoices", 25_900);
        progress.advance();
        assert!(progress.line().starts_with("invoices: 1 of 25,900, "));
    }
}
