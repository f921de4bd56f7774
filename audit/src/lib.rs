//! The event replay tools: an independent reader of the log, and its proofs.
