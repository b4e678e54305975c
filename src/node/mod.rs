//! A node of an Erlang cluster: its connections and its processes.

mod cookie;

pub use cookie::{Cookie, CookieError};
