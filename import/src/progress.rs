//! Progress of sending, on standard error: a bar on a terminal, otherwise a line every few seconds.

use indicatif::{HumanCount, ProgressBar, ProgressStyle};
use std::{
    io::IsTerminal,
    time::{Duration, Instant},
};

/// Interval between two lines if standard error is not a terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(5);

const BAR: &str = "{msg:9} [{bar:40}] {human_pos}/{human_len}  {per_sec}  {eta} left";

/// The way in which progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Progress is not shown.
    Silent,
    /// A progress bar.
    Bar,
    /// A line every few seconds.
    Lines,
}

/// The progress of one batch of commands.
pub struct Progress {
    batch: &'static str,
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

impl Mode {
    /// The mode that suits standard error; [`Self::Silent`] unless progress is wanted.
    pub fn choose(is_wanted: bool) -> Self {
        match (is_wanted, std::io::stderr().is_terminal()) {
            (false, _) => Self::Silent,
            (true, true) => Self::Bar,
            (true, false) => Self::Lines,
        }
    }
}

impl Progress {
    /// Starts at zero of `total`.
    pub fn start(mode: Mode, batch: &'static str, total: u64) -> Self {
        let started = Instant::now();
        let view = match mode {
            Mode::Silent => View::Silent,
            Mode::Bar => {
                let style = ProgressStyle::with_template(BAR).expect("the template is a constant");
                View::Bar(
                    ProgressBar::new(total)
                        .with_style(style)
                        .with_message(batch),
                )
            }
            Mode::Lines => View::Lines { last: started },
        };
        Self {
            batch,
            total,
            done: 0,
            started,
            view,
        }
    }

    /// Counts one command as done.
    pub fn advance(&mut self) {
        self.done += 1;
        match &mut self.view {
            View::Silent => {}
            View::Bar(bar) => bar.inc(1),
            View::Lines { last } if last.elapsed() >= LINE_INTERVAL => {
                *last = Instant::now();
                eprintln!("{}", self.line());
            }
            View::Lines { .. } => {}
        }
    }

    /// Shows the final count.
    pub fn finish(self) {
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
            self.batch,
            HumanCount(self.done),
            HumanCount(self.total),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_shows_count_and_total() {
        let mut progress = Progress::start(Mode::Silent, "invoices", 25_900);
        progress.advance();
        let line = progress.line();
        assert!(
            line.starts_with("invoices: 1 of 25,900, "),
            "no \"invoices: 1 of 25,900, \" at the start of: {line}"
        );
    }
}
