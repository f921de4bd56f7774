//! What the service says to a command, and the tally of it.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Most different codes of refusals that are told apart; further ones count as [`OTHER_CODE`].
pub const CODES_MAX: usize = 64;

/// The code of refusals beyond [`CODES_MAX`], and of those that come without one.
pub const OTHER_CODE: &str = "OTHER";

/// What CreateProduct gets when the product exists with another description.
const PRODUCT_EXISTS: &str = "PRODUCT_EXISTS";

/// One line of the response.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Answer {
    /// Which line of the request it answers, counted from 1.
    pub line: u64,
    status: u16,
    #[serde(default)]
    replayed: bool,
    code: Option<String>,
    title: Option<String>,
    detail: Option<String>,
}

/// What became of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It was carried out.
    New,
    /// It had been before, or there was nothing to do.
    Already,
    /// The product is there, under another description: it stays as it is.
    DescribedOtherwise,
    /// It is against the rules, and will be the next time.
    Refused {
        /// Stable.
        code: String,
        /// For people.
        reason: String,
    },
    /// The service could not do it; the next time it may.
    Failed {
        /// Stable.
        code: String,
        /// For people.
        reason: String,
    },
}

/// How many commands got which verdict.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// Carried out now.
    pub new: u64,
    /// Carried out before, or already so; `described_otherwise` is part of it.
    pub already: u64,
    /// Against the rules.
    pub refused: u64,
    /// Not carried out for a fault of the service.
    pub failed: u64,
    /// Products that exist with another description than the file's.
    pub described_otherwise: u64,
    /// Of the refused ones, how many for which code.
    pub refused_by_code: BTreeMap<String, u64>,
    /// Of the failed ones, how many for which code.
    pub failed_by_code: BTreeMap<String, u64>,
}

impl Answer {
    /// What it means for the command.
    pub fn verdict(self) -> Verdict {
        match self.status {
            200 => Verdict::Already,
            201..=299 if self.replayed => Verdict::Already,
            201..=299 => Verdict::New,
            400..=499 if self.code.as_deref() == Some(PRODUCT_EXISTS) => {
                Verdict::DescribedOtherwise
            }
            400..=499 => Verdict::Refused {
                reason: self.reason(),
                code: self.code.unwrap_or_else(|| OTHER_CODE.to_owned()),
            },
            status => Verdict::Failed {
                reason: self.reason(),
                code: self.code.unwrap_or_else(|| status.to_string()),
            },
        }
    }

    /// Status, code, title and detail, as far as they are given.
    fn reason(&self) -> String {
        let given = [&self.code, &self.title, &self.detail];
        let texts = given.into_iter().flatten().cloned();
        std::iter::once(self.status.to_string())
            .chain(texts)
            .collect::<Vec<_>>()
            .join(": ")
    }
}

impl Tally {
    /// Counts one verdict.
    pub fn count(&mut self, verdict: &Verdict) {
        match verdict {
            Verdict::New => self.new += 1,
            Verdict::Already => self.already += 1,
            Verdict::DescribedOtherwise => {
                self.already += 1;
                self.described_otherwise += 1;
            }
            Verdict::Refused { code, .. } => {
                self.refused += 1;
                count_code(&mut self.refused_by_code, code);
            }
            Verdict::Failed { code, .. } => {
                self.failed += 1;
                count_code(&mut self.failed_by_code, code);
            }
        }
    }

    /// How many commands were answered.
    pub fn answered(&self) -> u64 {
        self.new + self.already + self.refused + self.failed
    }
}

fn count_code(counts: &mut BTreeMap<String, u64>, code: &str) {
    let is_known_or_fits = counts.contains_key(code) || counts.len() < CODES_MAX;
    let code = if is_known_or_fits { code } else { OTHER_CODE };
    *counts.entry(code.to_owned()).or_default() += 1;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(json: &str) -> Verdict {
        serde_json::from_str::<Answer>(json).unwrap().verdict()
    }

    #[test]
    fn tells_the_verdicts_apart() {
        let done = r#"{"line":1,"status":201,"id":"order_1","version":1,"events":1,"position":"journal.orders/3@1234","replayed":false}"#;
        assert_eq!(verdict(done), Verdict::New);
        assert_eq!(verdict(&done.replace("false", "true")), Verdict::Already);
        assert_eq!(verdict(&done.replace("201", "200")), Verdict::Already);
        let exists = r#"{"line":1,"status":409,"code":"PRODUCT_EXISTS","title":"x"}"#;
        assert_eq!(verdict(exists), Verdict::DescribedOtherwise);
        assert_eq!(
            verdict(
                r#"{"line":7,"status":422,"code":"LINE_QUANTITY_ZERO","title":"t","detail":"d","replayed":true}"#
            ),
            Verdict::Refused {
                code: "LINE_QUANTITY_ZERO".to_owned(),
                reason: "422: LINE_QUANTITY_ZERO: t: d".to_owned()
            }
        );
        assert_eq!(
            verdict(r#"{"line":7,"status":503}"#),
            Verdict::Failed {
                code: "503".to_owned(),
                reason: "503".to_owned()
            }
        );
    }

    #[test]
    fn tells_only_so_many_codes_apart() {
        let mut tally = Tally::default();
        for number in 0..CODES_MAX + 3 {
            tally.count(&Verdict::Refused {
                code: number.to_string(),
                reason: String::new(),
            });
        }
        tally.count(&Verdict::DescribedOtherwise);
        assert_eq!(tally.refused_by_code.len(), CODES_MAX + 1);
        assert_eq!(tally.refused_by_code[OTHER_CODE], 3);
        assert_eq!(tally.answered(), CODES_MAX as u64 + 4);
        assert_eq!(tally.already, 1);
    }
}
