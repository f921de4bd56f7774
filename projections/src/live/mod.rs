//! Live updates: the events of an order, or of all orders of a customer, as they are recorded, over SSE and WebSocket.
//!
//! One [`hub::Hub`] per process subscribes to the journal and passes each event to the clients of its order and of its
//! customer. It keeps the newest batches in memory (`ring`), so a client that comes back soon continues from there. A
//! client that comes back later gets its events from the log: `resume` reads the log once for all clients that wait for
//! it, from the nearest known checkpoint (`checkpoints`), because only a reader that starts at a checkpoint judges void
//! records correctly. [`client::Client`] reads these sources for one client. It skips every event that its cursor
//! includes, so no event is sent twice, and it joins the hub only at a position without a gap. The events that clients
//! have missed share one budget in bytes (`missed`): a client for whose next event there is no room waits for a bounded
//! time, and then its stream ends with the reason.
//!
//! `routes` has the HTTP handlers, `sse` and `websocket` the two transports, `frame` the JSON of an event, and `cursor`
//! the ids by which clients resume. `following` runs the hub.

mod checkpoints;
mod client;
mod cursor;
mod event_json;
mod following;
mod frame;
mod hub;
mod known;
mod missed;
mod resume;
mod ring;
mod routes;
mod sse;
mod start;
mod target;
#[cfg(test)]
mod tests;
mod websocket;

pub use hub::QUEUE_EVENTS_MAX;
pub(crate) use known::view;
pub(crate) use routes::queries;
pub use start::{CLIENTS_MAX_DEFAULT, HEARTBEAT_INTERVAL, Live};
