//! Each context's rules as its owners need them: one machine over the context's deciders.

pub mod catalog;
pub mod orders;
