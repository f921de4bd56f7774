//! Whether this process can own what it is assigned.
//!
//! Some of an owner's troubles are this process's alone: its clock, its state store, its version. Others
//! could serve, but the group divides by who is alive; so such a process makes room for them. A log
//! that was altered stops every process alike: there is nothing to make room for.

use journal::owner::Status;
use std::sync::{Arc, OnceLock};

/// What an owner says whose trouble is its own process's, as part of its reason: the clock, a state store
/// that is of another log, and what only newer software reads.
const OWN_TROUBLES: [&str; 4] = [
    "this machine's clock is",
    "delete the state store's",
    "newer software may be needed",
    "this program knows version",
];

/// Why a process makes room for others, once it does.
#[derive(Debug, Clone, Default)]
pub struct Unfit(Arc<OnceLock<String>>);

impl Unfit {
    /// Why; nothing, while it is fit.
    pub fn reason(&self) -> Option<&str> {
        self.0.get().map(String::as_str)
    }

    /// The first reason stays.
    pub(super) fn set(&self, reason: String) {
        if let Err(reason) = self.0.set(reason) {
            tracing::debug!(reason, "one more reason to make room");
        }
    }
}

/// Why an owner can't serve here though it might elsewhere.
pub(super) fn own_trouble(status: &Status) -> Option<&str> {
    match status {
        Status::TakingOver(reason) | Status::Ended(reason) => OWN_TROUBLES
            .iter()
            .any(|trouble| reason.contains(trouble))
            .then_some(reason),
        Status::Standby | Status::InOffice { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use journal::reader::ReadError;

    #[test]
    fn own_troubles_are_in_the_owners_words() {
        let newer = ReadError::Unreadable {
            topic: "journal.orders".into(),
            partition: 0,
            offset: 4,
            reason: "what is that".into(),
        };
        assert!(own_trouble(&Status::Ended(newer.to_string())).is_some());
        let words = [
            include_str!("../../../journal/src/owner/take_over.rs"),
            include_str!("../../../journal/src/reader.rs"),
            include_str!("../../../journal/src/rule/verdict.rs"),
        ]
        .concat();
        // A text may go on in the next line.
        let words = words.replace('\\', " ");
        let words = words.split_whitespace().collect::<Vec<_>>().join(" ");
        for trouble in OWN_TROUBLES {
            assert!(words.contains(trouble), "no owner says: {trouble}");
        }
    }

    #[test]
    fn others_troubles_are_not() {
        for reason in [
            "chain broken: journal.orders/1@7: record has prev 00, the log before it gives 11",
            "deposed: another process announced itself with epoch 4",
            "shutting down",
        ] {
            assert_eq!(own_trouble(&Status::Ended(reason.into())), None);
            assert_eq!(own_trouble(&Status::TakingOver(reason.into())), None);
        }
    }
}
