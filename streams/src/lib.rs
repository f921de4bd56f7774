//! The windowed-aggregation stream processor.
