//! Connections to other nodes.

pub mod tick;
