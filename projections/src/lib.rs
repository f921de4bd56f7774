//! The read side: the projector runtime, the views and their queries.
