//! A row type's columns, declared once for every statement that reads or writes it.

/// The table and columns of a row type. [`columns!`](crate::columns!) implements it.
pub trait Columns {
    /// The table.
    const TABLE: &'static str;
    /// The primary key's columns, in its order.
    const KEY: &'static [&'static str];
    /// The other columns.
    const VALUES: &'static [&'static str];

    /// Every column: the key's, then the others.
    fn all() -> impl Iterator<Item = &'static str> {
        Self::KEY.iter().chain(Self::VALUES).copied()
    }
}

/// Implements [`Columns`] for a struct whose fields are named like the columns. A missing or unknown field
/// does not compile.
///
/// ```
/// struct Price {
///     sku: String,
///     amount: i64,
/// }
/// projections::columns!(Price in "prices_v1" by [sku] with [amount]);
/// ```
#[macro_export]
macro_rules! columns {
    ($row:ident in $table:literal by [$($key:ident),+ $(,)?] with [$($value:ident),* $(,)?]) => {
        impl $crate::columns::Columns for $row {
            const TABLE: &'static str = $table;
            const KEY: &'static [&'static str] = &[$(stringify!($key)),+];
            const VALUES: &'static [&'static str] = &[$(stringify!($value)),*];
        }

        const _: fn(&$row) = |row| {
            let $row { $($key: _,)+ $($value: _,)* } = row;
        };
    };
}

/// Names with commas between them.
pub(crate) fn list(names: impl IntoIterator<Item = impl AsRef<str>>) -> String {
    join(names, ", ")
}

/// Texts with a separator between them.
pub(crate) fn join(texts: impl IntoIterator<Item = impl AsRef<str>>, separator: &str) -> String {
    let mut joined = String::new();
    for text in texts {
        if !joined.is_empty() {
            joined.push_str(separator);
        }
        joined.push_str(text.as_ref());
    }
    joined
}
