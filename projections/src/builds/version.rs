//! The versions of a view: `orders_v2` and `orders_v3` are versions of the view `orders`. Their builds share one list,
//! in which at most one build serves, so one version answers the queries of all.

/// A version of a view that answers its queries, although this program does not have it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{version} answers the queries of the view {view}, but this program does not have {version}"
)]
pub struct VersionMissing {
    /// The view's name without a version.
    pub view: String,
    /// The version.
    pub version: String,
}

/// The name of a view without its version, and the number of the version: `orders` and 2 for `orders_v2`. A name
/// without a version has the number 0.
pub fn split(name: &str) -> (&str, u32) {
    let parts = name.rsplit_once("_v");
    let parts = parts.filter(|(_, digits)| digits.bytes().all(|byte| byte.is_ascii_digit()));
    let parsed = parts.and_then(|(view, digits)| Some((view, digits.parse().ok()?)));
    parsed.unwrap_or((name, 0))
}

/// The name of a view without its version.
pub fn view_of(name: &str) -> &str {
    split(name).0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_split_before_its_last_version() {
        for (name, expected) in [
            ("orders_v2", ("orders", 2)),
            ("orders_by_customer_v12", ("orders_by_customer", 12)),
            ("a_v1_v2", ("a_v1", 2)),
            ("orders", ("orders", 0)),
            ("orders_v", ("orders_v", 0)),
            ("orders_value", ("orders_value", 0)),
            ("orders_v2x", ("orders_v2x", 0)),
            ("orders_v-1", ("orders_v-1", 0)),
        ] {
            assert_eq!(split(name), expected, "{name}");
        }
    }
}
