//! The views. Each version of a view has a folder here and a line in the list below.

use crate::registration::Registration;

#[cfg(test)]
mod samples;

/// Declares the folders of the views, and [`VIEWS`]. `cargo fmt` does not find modules in a macro:
/// `rustfmt projections/src/views/*/mod.rs` formats them.
macro_rules! views {
    ($($view:ident),+ $(,)?) => {
        $(pub mod $view;)+

        /// Every version of every view.
        pub const VIEWS: &[Registration] = &[$($view::REGISTRATION),+];
    };
}

views! {
    orders_v2,
    orders_v3,
    orders_by_customer_v2,
    catalog_v1,
    customers_v1,
    country_sales_v1,
    order_timeline_v1,
}
