//! The registry of contexts and their aggregates.

/// Every context with its aggregates, one line each: to add a context, add its line; to add an aggregate,
/// add its word. `order::Order` is the type `Order` in the folder `order/` of this crate.
///
/// `contexts!(generate)` calls `generate!` with these lines. This crate declares its modules with it, and
/// `commands` generates each context's state machine and declares the context's folder.
#[macro_export]
macro_rules! contexts {
    ($generate:ident) => {
        $generate! {
            catalog { product::Product }
            orders { order::Order, credit_note::CreditNote }
        }
    };
}

/// Declares the module of each aggregate and re-exports its decider.
macro_rules! declare_aggregates {
    ($($context:ident { $($module:ident :: $aggregate:ident),+ $(,)? })+) => {
        $($(
            pub mod $module;
            pub use $module::$aggregate;
        )+)+
    };
}
