//! Connections to other nodes.

pub mod handshake;
pub mod tick;
