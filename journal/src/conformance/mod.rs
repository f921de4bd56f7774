//! The conformance suites: one for every state store, one for every log. An implementation's tests call
//! its suite; a check that fails panics and names the violated invariant.

pub mod log;
pub mod state_store;
