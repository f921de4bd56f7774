//! Read-your-writes: a query that names positions waits until the view that answers has applied them.
//!
//! A command's answer has the position of its commit in `Daybook-Position`, such as `journal.orders/3@1234`. A query
//! passes on the positions that its client knows, of any journals. [`PositionLayer`] is the middleware of all queries
//! of a view: it waits, for a bounded time, until the view has applied every position of the journals that it reads.
//! If the time is over before that, the answer has `Daybook-Stale: true`, and `Daybook-Lag` says how far the view is
//! behind.
//!
//! The progress of the view's reader in this process ends waits. If another process projects the view, the positions
//! that are stored with the view's rows end them: `polls` reads these positions, once for all waits of a view.
//! `positions` parses the header, and `document` describes all this in the OpenAPI document.

mod document;
mod layer;
mod polls;
mod positions;
#[cfg(test)]
mod tests;

pub use document::document_positions;
pub use layer::{PositionLayer, View, WAIT_MS_DEFAULT, WAITS_MAX, wait_for_positions};
pub use polls::{ReadStored, StoredPosition};
pub use positions::{DAYBOOK_LAG, DAYBOOK_POSITION, DAYBOOK_STALE, Positions};
