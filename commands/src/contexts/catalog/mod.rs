//! The context `catalog`: products.

/// Raise it with every change of a state's fields or of `evolve`. State stores of another version are rebuilt
/// from the log.
pub const FOLD_VERSION: u32 = 1;

commands! {
    product { create::CreateProduct, change_price::ChangePrice }
}
