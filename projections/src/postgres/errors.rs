//! Classifies errors of Postgres.

use crate::store::Failure;

/// SQLSTATE of a statement that took too long.
const CANCELLED: &str = "57014";
/// SQLSTATE of a transaction that was ended to resolve a deadlock.
const DEADLOCK: &str = "40P01";
/// SQLSTATEs of transient errors, in addition to the classes below.
const TRANSIENT_STATES: [&str; 10] = [
    "25006", // read-only: a standby that is about to be promoted
    "25P03", // idle within a transaction for too long
    "40001", // serialization failure
    DEADLOCK, "55P03", // lock not available
    CANCELLED, "57P01", // the server is shut down
    "57P02", // the server crashed
    "57P03", // the server starts up
    "57P05", // idle for too long
];
/// SQLSTATEs of a prepared statement that its connection can't use any more. None of our statements needs a feature
/// that a server lacks, so the first one always means that the statement's result would have other types than at first.
const OUTDATED_STATES: [&str; 2] = [
    "0A000", // feature not supported
    "26000", // no prepared statement has this name: a proxy may have discarded it
];
/// Classes of transient SQLSTATEs: connections, authorization (an operator can fix it, and the batch is not the cause),
/// and resources (memory, disk, connections).
const TRANSIENT_CLASSES: [&str; 3] = ["08", "28", "53"];
/// Classes of SQLSTATEs that a value causes: data exceptions (a number out of range, a NUL in a text), and violated
/// constraints.
const VALUE_CLASSES: [&str; 2] = ["22", "23"];
/// SQLSTATE of a value that is too long for an index.
const INDEX_ENTRY_TOO_LONG: &str = "54000";
/// SQLSTATE of a row that refers to a row that does not exist.
const NO_REFERENCED_ROW: &str = "23503";
/// SQLSTATE of a database that does not exist.
const NO_DATABASE: &str = "3D000";
/// SQLSTATE of a table that does not exist.
const NO_TABLE: &str = "42P01";
/// SQLSTATE of a column that does not exist.
const NO_COLUMN: &str = "42703";

/// Whether another attempt may succeed.
pub fn is_transient(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::WorkerCrashed
        | sqlx::Error::BeginFailed => true,
        error => state(error).is_some_and(|state| is_transient_state(&state)),
    }
}

/// The kind of failure, which decides how the projector continues. An error that only an operator can fix, such as a
/// missing right or an altered table, counts as transient: the view continues once it is fixed.
pub(super) fn failure(error: &sqlx::Error) -> Failure {
    if matches!(error, sqlx::Error::Encode(_)) {
        return Failure::Value;
    }
    match state(error).as_deref() {
        Some(CANCELLED) => Failure::Timeout,
        Some(NO_TABLE) => Failure::TableMissing,
        Some(state) if is_value_refused(state) => Failure::Value,
        Some(_) | None => Failure::Transient,
    }
}

fn is_value_refused(state: &str) -> bool {
    let mut classes = VALUE_CLASSES.iter();
    state == INDEX_ENTRY_TOO_LONG || classes.any(|class| state.starts_with(class))
}

/// Whether the database or a table is missing, because no projector has created it yet.
pub fn is_schema_missing(error: &sqlx::Error) -> bool {
    state(error).is_some_and(|state| [NO_DATABASE, NO_TABLE].contains(&&*state))
}

/// Whether the server cancelled a statement that took longer than its timeout.
pub fn is_statement_timeout(error: &sqlx::Error) -> bool {
    state(error).is_some_and(|state| state == CANCELLED)
}

/// Whether a connection can't use a statement any more that it has prepared. A new connection prepares it again.
pub(super) fn is_statement_outdated(error: &sqlx::Error) -> bool {
    state(error).is_some_and(|state| OUTDATED_STATES.contains(&&*state))
}

/// Whether a row refers to a row that does not exist.
pub(crate) fn is_reference_missing(error: &sqlx::Error) -> bool {
    state(error).is_some_and(|state| state == NO_REFERENCED_ROW)
}

/// Whether a column does not exist, because it was dropped or renamed.
pub(crate) fn is_column_missing(error: &sqlx::Error) -> bool {
    state(error).is_some_and(|state| state == NO_COLUMN)
}

/// Whether the server ended the transaction to resolve a deadlock.
pub(crate) fn is_deadlock(error: &sqlx::Error) -> bool {
    state(error).is_some_and(|state| state == DEADLOCK)
}

fn is_transient_state(state: &str) -> bool {
    let mut classes = TRANSIENT_CLASSES.iter();
    let mut states = TRANSIENT_STATES.iter().chain(&OUTDATED_STATES);
    states.any(|transient| *transient == state) || classes.any(|class| state.starts_with(class))
}

/// The SQLSTATE, if the server sent one.
fn state(error: &sqlx::Error) -> Option<std::borrow::Cow<'_, str>> {
    error.as_database_error()?.code()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outages_and_conflicts_are_transient() {
        for state in [
            "57P01", "57P02", "57P03", "53300", "53100", "40001", "40P01", "57014", "08006",
            "28P01", "25006", "0A000", "26000",
        ] {
            assert!(is_transient_state(state), "not transient: {state}");
        }
        let reset = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
        assert!(is_transient(&sqlx::Error::Io(reset)));
        assert!(is_transient(&sqlx::Error::PoolTimedOut));
    }

    #[test]
    fn errors_that_a_query_causes_are_not_transient() {
        for state in [
            "22021", "22003", "22008", "23502", "23505", "42P01", "42501", "3D000", "XX000",
        ] {
            assert!(!is_transient_state(state), "transient: {state}");
        }
        assert!(!is_transient(&sqlx::Error::RowNotFound));
        assert!(!is_transient(&sqlx::Error::PoolClosed));
        assert!(!is_transient(&sqlx::Error::Encode("no".into())));
    }

    #[test]
    fn only_values_are_refused_for_good() {
        for state in ["22003", "22021", "23502", "23514", "54000"] {
            assert!(is_value_refused(state), "not a refused value: {state}");
        }
        // Missing rights, altered tables, a broken disk, a changed statement.
        for state in [
            "42501", "42703", "42804", "58030", "XX001", "0A000", "57P01",
        ] {
            assert!(!is_value_refused(state), "a refused value: {state}");
        }
        assert_eq!(failure(&sqlx::Error::PoolTimedOut), Failure::Transient);
        assert_eq!(failure(&sqlx::Error::Encode("no".into())), Failure::Value);
    }
}
