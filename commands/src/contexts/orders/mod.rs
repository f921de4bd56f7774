//! The context `orders`: orders and credit notes.

mod sale_body;

/// Raise it with every change of a state's fields or of `evolve`. State stores of another version are rebuilt
/// from the log.
pub const FOLD_VERSION: u32 = 2;

commands! {
    order { import_sale::ImportSale }
    credit_note { import::ImportCreditNote }
}
