//! The write side: HTTP commands, their identity, and the owners that decide them.
