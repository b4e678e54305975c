//! A Rust member of Erlang clusters.

pub mod engine;
pub mod epmd;
pub mod gen_server;
pub mod kernel;
pub mod node;
pub mod pg;
pub mod scope;
pub mod term;
pub mod wire;

pub use kernel::start;
pub use node::{Cookie, Node, NodeConfig};
pub use pg::Pg;
