//! The service's answers to commands: the outcome of each, and counts of them.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Maximum number of different codes that are counted separately; further codes are counted as
/// [`OTHER_CODE`].
pub const CODES_MAX: usize = 64;

/// The code that stands for codes beyond [`CODES_MAX`], and for a refusal without a code.
pub const OTHER_CODE: &str = "OTHER";

/// The code of a CreateProduct whose product exists with another description.
const PRODUCT_EXISTS: &str = "PRODUCT_EXISTS";

/// One line of the response.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Answer {
    /// The line of the request that it answers, counted from 1.
    pub line: u64,
    status: u16,
    #[serde(default)]
    replayed: bool,
    /// The aggregate's version; `None` if the rules did not decide the command.
    version: Option<i64>,
    code: Option<String>,
    title: Option<String>,
    detail: Option<String>,
}

/// Outcome of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The command was executed.
    New,
    /// The command had been executed before, or had nothing to change.
    Already,
    /// The product exists with another description, which is kept.
    DescriptionDiffers,
    /// The command violates a rule or can't be read. A repetition will be refused as well.
    Refused {
        /// Stable code.
        code: String,
        /// Text for people.
        reason: String,
    },
    /// The service failed to execute the command; a repetition may succeed.
    Failed {
        /// Stable code.
        code: String,
        /// Text for people.
        reason: String,
    },
}

/// Numbers of commands by outcome.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct OutcomeCounts {
    /// Executed now.
    pub new: u64,
    /// Executed before, or nothing to change; includes `described_otherwise`.
    pub already: u64,
    /// Refused because they violate a rule or can't be read.
    pub refused: u64,
    /// Not executed because the service failed.
    pub failed: u64,
    /// Products that exist with another description than in the file.
    pub described_otherwise: u64,
    /// Refused commands by code.
    pub refused_by_code: BTreeMap<String, u64>,
    /// Failed commands by code.
    pub failed_by_code: BTreeMap<String, u64>,
}

impl Answer {
    /// The outcome of the command.
    pub fn outcome(self) -> Outcome {
        match self.status {
            200 => Outcome::Already,
            201..=299 if self.replayed => Outcome::Already,
            201..=299 => Outcome::New,
            409 if self.code.as_deref() == Some(PRODUCT_EXISTS) => Outcome::DescriptionDiffers,
            _ if self.is_about_the_command() => Outcome::Refused {
                reason: self.reason(),
                code: self.code.unwrap_or_else(|| OTHER_CODE.to_owned()),
            },
            status => Outcome::Failed {
                reason: self.reason(),
                code: self.code.unwrap_or_else(|| status.to_string()),
            },
        }
    }

    /// Whether the status concerns the command's content: a conflict (409), a command that is too large (413) or an
    /// invalid field (422). A 403 or a 404 concerns the content if the answer has a version, because then the rules
    /// decided it; otherwise it concerns a route or the node's rights. All other statuses concern the request.
    fn is_about_the_command(&self) -> bool {
        match self.status {
            409 | 413 | 422 => true,
            403 | 404 => self.version.is_some(),
            _ => false,
        }
    }

    /// Status, code, title and detail; absent ones are left out.
    fn reason(&self) -> String {
        let given = [&self.code, &self.title, &self.detail];
        let texts = given.into_iter().flatten().cloned();
        std::iter::once(self.status.to_string())
            .chain(texts)
            .collect::<Vec<_>>()
            .join(": ")
    }
}

impl OutcomeCounts {
    /// Counts one outcome.
    pub fn count(&mut self, outcome: &Outcome) {
        match outcome {
            Outcome::New => self.new += 1,
            Outcome::Already => self.already += 1,
            Outcome::DescriptionDiffers => {
                self.already += 1;
                self.described_otherwise += 1;
            }
            Outcome::Refused { code, .. } => {
                self.refused += 1;
                count_code(&mut self.refused_by_code, code);
            }
            Outcome::Failed { code, .. } => {
                self.failed += 1;
                count_code(&mut self.failed_by_code, code);
            }
        }
    }

    /// Number of answered commands.
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

    fn outcome(json: &str) -> Outcome {
        serde_json::from_str::<Answer>(json).unwrap().outcome()
    }

    #[test]
    fn each_answer_has_its_outcome() {
        let accepted = r#"{"line":1,"status":201,"id":"order_1","version":1,"events":1,"position":"journal.orders/3@1234","replayed":false}"#;
        assert_eq!(outcome(accepted), Outcome::New);
        assert_eq!(
            outcome(&accepted.replace("false", "true")),
            Outcome::Already
        );
        assert_eq!(outcome(&accepted.replace("201", "200")), Outcome::Already);
        let exists = r#"{"line":1,"status":409,"code":"PRODUCT_EXISTS","title":"x"}"#;
        assert_eq!(outcome(exists), Outcome::DescriptionDiffers);
        assert_eq!(
            outcome(
                r#"{"line":7,"status":422,"code":"LINE_QUANTITY_ZERO","title":"t","detail":"d","replayed":true}"#
            ),
            Outcome::Refused {
                code: "LINE_QUANTITY_ZERO".to_owned(),
                reason: "422: LINE_QUANTITY_ZERO: t: d".to_owned()
            }
        );
        assert_eq!(
            outcome(r#"{"line":7,"status":503}"#),
            Outcome::Failed {
                code: "503".to_owned(),
                reason: "503".to_owned()
            }
        );
    }

    #[test]
    fn only_answers_about_the_command_itself_are_refusals() {
        let is_refusal = |json: &str| match outcome(json) {
            Outcome::Refused { .. } => true,
            Outcome::Failed { .. } => false,
            outcome => panic!("{outcome:?} instead of Refused or Failed"),
        };
        for refused in [
            r#"{"line":1,"status":404,"code":"PRODUCT_NOT_FOUND","version":0}"#,
            r#"{"line":1,"status":403,"code":"PRICE_FIXED","version":3}"#,
            r#"{"line":1,"status":409,"code":"SALE_EXISTS","version":1}"#,
            r#"{"line":1,"status":413,"code":"COMMIT_TOO_LARGE","bytes_max":1000}"#,
            r#"{"line":1,"status":422,"code":"FIELD_INVALID","field":"lines[3].sku"}"#,
            r#"{"line":1,"status":422,"code":"IDEMPOTENCY_KEY_REUSED"}"#,
        ] {
            assert!(is_refusal(refused), "not a refusal: {refused}");
        }
        for failed in [
            r#"{"line":1,"status":403,"code":"JOURNAL_FORBIDDEN"}"#,
            r#"{"line":1,"status":404,"code":"NOT_FOUND"}"#,
            r#"{"line":1,"status":408,"code":"BATCH_IDLE"}"#,
            r#"{"line":1,"status":400,"code":"BATCH_CUT_OFF"}"#,
            r#"{"line":1,"status":400,"code":"IDEMPOTENCY_KEY_INVALID"}"#,
            r#"{"line":1,"status":412,"code":"VERSION_MISMATCH","version":4}"#,
            r#"{"line":1,"status":500,"code":"COMMIT_UNENCODABLE"}"#,
            r#"{"line":1,"status":503,"code":"BUSY"}"#,
        ] {
            assert!(!is_refusal(failed), "a refusal: {failed}");
        }
    }

    #[test]
    fn codes_beyond_the_limit_are_counted_together() {
        let mut counts = OutcomeCounts::default();
        for number in 0..CODES_MAX + 3 {
            counts.count(&Outcome::Refused {
                code: number.to_string(),
                reason: String::new(),
            });
        }
        counts.count(&Outcome::DescriptionDiffers);
        assert_eq!(counts.refused_by_code.len(), CODES_MAX + 1);
        assert_eq!(counts.refused_by_code[OTHER_CODE], 3);
        assert_eq!(counts.answered(), CODES_MAX as u64 + 4);
        assert_eq!(counts.already, 1);
    }
}
