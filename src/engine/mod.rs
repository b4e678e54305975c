//! The behaviour `data_publisher`, sans-IO: a plain struct, one [`Input`] in, some [`Action`]s out.
//!
//! The protocol in one page. Every node runs a process registered under the scope's name. What a
//! node owns is its local data; every other node keeps a copy of it. Three messages do it:
//!
//! | message | sent | the receiver |
//! | --- | --- | --- |
//! | `{discover, Pid, Version}` | to the name when a node comes up, to a pid when a peer is new | answers with `local_data`; monitors a new peer and says `discover` back |
//! | `{local_data, Pid, Label, Data}` | in answer to each `discover`, as a cast | replaces what it knew of `Pid`, monitors it if new |
//! | `{update, Pid, Update}` | for each change, to all who got our `local_data` | applies it to what it knows of `Pid` |
//!
//! When the monitor of a peer fires, all its data goes. So whatever is lost with a connection,
//! the next one starts with all data anew, and nothing needs to be acknowledged, numbered or kept.
//! What makes that right is order: one sender, one connection, nothing skipped on it.
//!
//! [`Engine`] holds it all; a [`DataPublisher`] says what the data is. The engine knows no time, no
//! task, no socket and no chance: the same inputs give the same actions, so that a failure replays.

mod action;
mod ahead;
mod call;
#[expect(clippy::module_inception, reason = "the engine is what the module is about")]
mod engine;
mod exchange;
mod message;
mod monitors;
mod peers;
mod publisher;
mod subscribers;
#[cfg(test)]
mod tests;
mod timers;
mod view;

pub use action::{Action, CallerId, Input, MonitorId, SubscriberId, TimerId};
pub use engine::{Counters, Engine, EngineOptions, Exchanged, PeerInfo};
pub use publisher::{DataPublisher, Effects, PeerMessage, Translated, Version, Wire};
pub use view::{SharedView, ViewGuard};
