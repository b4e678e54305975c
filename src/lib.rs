//! A Rust member of Erlang clusters: it joins through EPMD and the distribution protocol, registers
//! under a scope's name and speaks what OTP's [`pg`] and, from OTP 29 on, `data_publisher` speak, so
//! that Erlang peers treat it as one of their own.
//!
//! ```no_run
//! use data_publisher::pg::{Event, Pg};
//! use data_publisher::{Cookie, NodeConfig, atom, tuple};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let config = NodeConfig::new("rust1@127.0.0.1")?.cookie(Cookie::from_home()?);
//! let node = data_publisher::start(config).await?;
//! node.connect("a@127.0.0.1").await?;
//! let pg = Pg::start(&node, atom!("pg"))?;
//! pg.ready().await?; // the members on all connected nodes are known now
//!
//! let worker = node.spawn(); // a pid and a mailbox; dropping it is its exit
//! pg.join(atom!("workers"), worker.pid()).await?;
//!
//! let (members, mut events) = pg.monitor(atom!("workers")).await?;
//! for pid in members.iter() {
//!     node.send(pid, tuple![atom!("hello"), worker.pid()]).await?;
//! }
//! while let Some(event) = events.next().await {
//!     match event {
//!         Event::Join { group, pids } => println!("{group} +{pids:?}"),
//!         Event::Leave { group, pids } => println!("{group} -{pids:?}"),
//!     }
//! }
//! # Ok(()) }
//! ```
//!
//! # Three promises
//!
//! They rank above all features, and explain most of what looks odd in the code.
//!
//! 1. **Do no harm.** A `pg` of any release dies of one message it doesn't know, and a BEAM node's
//!    scope stands still while we don't read its socket. So what leaves for a scope is one of a few
//!    shapes the peer has shown to understand; readers wait for nobody, and in a flood for a millisecond or two at most; every question a BEAM process may
//!    wait for gets an answer.
//! 2. **Converge, always.** On a living connection every message of a scope is sent, in order, and
//!    none is ever left out. When a peer can't keep up, the connection is closed, and both sides
//!    start over from `discover`. At rest all views are equal.
//! 3. **Cheap.** A message takes one hop in and one hop out.
//!
//! # How it is built
//!
//! ```text
//!   phoenix_pubsub  Elixir's Phoenix.PubSub, a pg scope and its messages
//!   pg            the functions of OTP's pg; its publisher and view
//!   kv            keys and values, each owned by a node
//!   serde         Rust's types as terms
//!   scope         a publisher's engine as a process of a node
//!   kernel        net_kernel, global_name_server; the search for nodes
//!   rpc           functions called on other nodes, and those others may call here
//!   gen_server    call, cast, reply; servers; sys
//!   testing       a cluster in memory, for tests of one's own publishers (by the feature `testing`)
//!   engine        the behaviour, sans-IO        node   connections and processes
//!                                               discovery   sources of names; DNS
//!                                               epmd   EPMD's client and server
//!                                               wire   bytes, frames, signals; sans-IO
//!   term          Erlang's values
//! ```
//!
//! Each module uses those below it and none above; `scripts/layers` checks it. [`engine`] and [`node`]
//! don't know each other: the engine is a plain struct that takes one input and says what to do, so
//! that all it does can be replayed from a seed; [`scope`] is where the two meet.
//!
//! An update that comes in:
//!
//! ```text
//! socket -> reader's task: buffer -> frame -> signal (wire)
//!        -> the mailbox of the scope's process (node's router: one look-up, no copy)
//!        -> scope's task: some read from their bytes, and what they change from memory, all at once
//!        -> Engine, one by one: apply to the view, whom to tell
//!        -> a subscriber's channel
//! ```
//!
//! An update that goes out:
//!
//! ```text
//! pg.join(..) -> scope's task -> Engine::handle: the view first, then the local data, then one
//!                               Publish per version among the peers
//!             -> encoded once -> each connection's queue -> join(..) returns
//!             -> each writer's task: all that is queued, in one write
//! ```
//!
//! What can be slow, and who pays: a queue has a soft mark above which only [`Node::send`] waits, and
//! a hard mark above which the peer is shed. A mailbox counts bytes per connection, and above its
//! limit that connection closes. A scope waits for nobody.
//!
//! [`pg`]: https://www.erlang.org/doc/apps/kernel/pg.html

pub mod discovery;
pub mod engine;
pub mod epmd;
#[doc(hidden)]
pub mod fuzzing;
pub mod gen_server;
pub mod kernel;
pub mod kv;
pub mod node;
pub mod pg;
pub mod phoenix_pubsub;
pub mod rpc;
pub mod scope;
#[cfg(feature = "serde")]
pub mod serde;
pub mod term;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod wire;

pub use kernel::start;
pub use kv::Kv;
pub use node::{Cookie, Node, NodeConfig};
pub use pg::Pg;
pub use phoenix_pubsub::PubSub;
pub use scope::Scope;

/// The code in the README compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
