//! The rules: one folder per aggregate, deciders without I/O, clock or randomness.
