//! The live view of a node that takes part in a scope: one model, shown by a web page, as metrics and in a terminal.
//!
//! [`Model`] looks at the node once a second, asks other nodes now and then, and hears what happens in the scope. All
//! who show it (the [page](page), its stream of [events](sse), the [metrics], `top`) read the same [`Snapshot`], so
//! many of them cost little more than one.
//!
//! Nothing here can hold up the node: what is shown is bounded, and who looks too slowly loses sight of events, never
//! the other way round.

#![expect(clippy::cast_precision_loss, reason = "figures for people, and 2^53 bytes are far away")]

mod ask;
mod event;
mod guard;
mod history;
mod json;
mod metrics;
mod options;
mod page;
mod ready;
mod search;
mod server;
mod site;
mod source;
mod sse;
mod state;
mod tell;
#[cfg(test)]
pub(crate) mod testing;

pub(crate) use event::Happened;
pub(crate) use history::Sample;
pub(crate) use options::HttpOptions;
pub(crate) use ready::Readiness;
pub(crate) use search::Found;
#[cfg(test)]
pub(crate) use search::Row;
pub(crate) use server::Server;
pub(crate) use source::Source;
pub(crate) use state::{Model, NodeRow, Snapshot};
