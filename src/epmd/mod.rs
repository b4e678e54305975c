//! EPMD, the daemon that knows on which port each node of a host listens.
//!
//! [`Epmd`] asks one: it registers our node, looks up others, lists names. [`EpmdServer`] is one,
//! for hosts where no `epmd` runs; Erlang's own nodes take it for theirs. [`protocol`] holds the
//! bytes of both.
//!
//! A name is registered exactly as long as the connection that registered it is open, and any byte
//! written on that connection ends it.

mod client;
#[doc(hidden)]
pub mod fuzzing;
pub mod protocol;
mod server;

pub use client::{Epmd, EpmdError, Registration};
pub use protocol::{NodeInfo, NodeKind};
pub use server::{BindError, EpmdServer};
