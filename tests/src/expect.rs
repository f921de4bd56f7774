//! The comparison of a found value with an expected one.

use std::fmt::Debug;

/// Fails with both values unless `found` is `expected`. `what` names the found value in the error.
pub fn expect_eq<T: Debug + PartialEq>(what: &str, found: &T, expected: &T) -> anyhow::Result<()> {
    anyhow::ensure!(
        found == expected,
        "{what}: {found:?} instead of {expected:?}"
    );
    Ok(())
}
