//! Layouts that are ours, others, and bad.
