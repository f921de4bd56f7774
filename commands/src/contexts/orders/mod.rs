//! The context `orders`: orders and credit notes.

mod sale_body;

/// Raise it with every change of a state's fields or of `evolve`: state stores of another version are built
/// again from the log.
pub const FOLD_VERSION: u32 = 2;

commands! {
    order { import_sale::ImportSale }
    credit_note { import::ImportCreditNote }
}
