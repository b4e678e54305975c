//! A Rust member of Erlang clusters.

pub mod engine;
pub mod epmd;
pub mod node;
pub mod pg;
pub mod term;
pub mod wire;
