//! The log: the void rule, the owner that appends, the reader and its checkpoints.
