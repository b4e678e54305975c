//! A node of an Erlang cluster: its connections and its processes.

pub mod connection;
mod cookie;

pub use cookie::{Cookie, CookieError};
