//! Bytes to frames to signals, and back.

/// How deep a term from a peer may nest.
pub const MAX_DEPTH: usize = 256;
