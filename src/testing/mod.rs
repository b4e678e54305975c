//! A cluster in memory, to test a publisher of one's own: engines, connections that are cut, scopes that
//! restart, nodes of several versions, and a clock that moves when it's told to.
//!
//! It needs the feature `testing`, which belongs into the tests' dependencies only:
//!
//! ```toml
//! [dev-dependencies]
//! data-publisher = { path = "../data-publisher", features = ["testing"] }
//! ```
//!
//! The engines are the real ones, and each message travels as the bytes that would be on a socket. Only
//! what is around them isn't there: no node, no task, no time that passes by itself. So a test is as
//! fast as its callbacks, and the same each time.
//!
//! ```
//! use std::collections::BTreeMap;
//! use std::time::Duration;
//!
//! use data_publisher::engine::{DataPublisher, Effects};
//! use data_publisher::term::{Atom, NodeName};
//! use data_publisher::testing::{Cluster, Random, shake};
//!
//! /// Each node publishes its load, a number.
//! struct Load;
//!
//! impl DataPublisher for Load {
//!     type LocalData = i64;
//!     type Update = i64; // the new value replaces the old
//!     type GlobalView = BTreeMap<NodeName, i64>;
//!     type Subscription = ();
//!     type Initial = BTreeMap<NodeName, i64>;
//!     type Event = (NodeName, i64);
//!
//!     fn init_local_data(&self) -> i64 { 0 }
//!     fn init_global_view(&mut self, _: &Atom) -> Self::GlobalView { BTreeMap::new() }
//!     fn update_local_data(&self, load: i64, data: &mut i64) -> Option<i64> {
//!         (std::mem::replace(data, load) != load).then_some(load)
//!     }
//!     fn data_diff(&self, old: &i64, new: &i64) -> Option<i64> { (old != new).then_some(*new) }
//!     fn update_global_view_and_notify(
//!         &self,
//!         node: &NodeName,
//!         load: &i64,
//!         view: &mut Self::GlobalView,
//!         effects: &mut Effects<'_, Self>,
//!     ) {
//!         view.insert(node.clone(), *load);
//!         effects.notify(&(), &(node.clone(), *load));
//!     }
//!     fn new_subscription(&self, (): &(), view: &Self::GlobalView) -> Self::Initial { view.clone() }
//!     data_publisher::serde_terms!(); // by the feature `serde`
//! }
//!
//! // What happens is said step by step ...
//! let mut cluster = Cluster::new(["a", "b", "c"], |_node| Load);
//! let a = cluster.name("a").clone(); // a@test
//! cluster.connect_all();
//! let (_, mut heard) = cluster.subscribe("b", ());
//! cluster.update("a", 7);
//! cluster.settle();
//! assert_eq!(cluster.view("b")[&a], 7);
//! assert_eq!(heard.take(), [(a.clone(), 7)]);
//!
//! cluster.cut("a", "b");
//! cluster.update("a", 8);
//! cluster.advance(Duration::from_secs(60));
//! assert_eq!((cluster.view("b")[&a], cluster.view("c")[&a]), (0, 8));
//!
//! // ... or drawn, a hundred times, and checked at each step.
//! let cluster = |_: &mut Random| {
//!     Cluster::new(["a", "b", "c"], |_| Load)
//!         // A node that is gone falls to 0 where it was known.
//!         .compare(|view| {
//!             let mut view = view.clone();
//!             view.retain(|_, load| *load != 0);
//!             view
//!         })
//!         .follow((), |seen, (node, load)| _ = seen.insert(node, load))
//! };
//! shake(0..100, cluster, |cluster, node, random| {
//!     cluster.update(node, *random.pick(&[0, 1, 2, 3, 4]));
//! });
//! ```
//!
//! # The laws
//!
//! Each step is checked, in a test written by hand as in a random one. What isn't so panics, and says which
//! nodes disagree, and in what.
//!
//! | law | checked |
//! | --- | --- |
//! | `data_diff` leads from nothing to what a node owns and back, and from what it owned before an update to what it owns now; it finds no difference between equals | after each update |
//! | an update that says to change nothing doesn't | after each update |
//! | what a node writes as its local data it reads as the same | after each update |
//! | a scope that starts anew has what the one before it had | at each start |
//! | no message of a scope is unreadable or unknown to another | at each message |
//! | two nodes with nothing on its way between them know of each other what each one owns | at each message |
//! | the view is what is made of our own and the peers' data when it's made anew ([`Cluster::compare`]) | after each step |
//! | who [follows](Cluster::follow) a key knows what who subscribes now is told | after each step |
//! | nodes with the same connections have equal views, and the data of each other ([`Cluster::compare`]) | when all is quiet |
//! | the engine's own bookkeeping | after each step |
//!
//! Whether two local data are equal is asked of the publisher itself: `data_diff` finds nothing in either
//! direction. What a report shows of them is the term that would be sent.
//!
//! Of two messages one is taken from its bytes (`take_update`, `take_local_data`, where there are such)
//! and the other read as a term, so both ways are used.
//!
//! # Random runs
//!
//! [`shake`] has everything happen that can, from one seed after the other. A report ends with all it takes
//! to see the failure again, as text for [`replay`], one operation a line; behind a `#` is what came of it:
//!
//! ```text
//! nothing is on its way, and the views of a (version 1) and c (version 2) differ:
//!   only c  "l": { c@test: 1
//!
//! seed 0; of 53 operations these are enough, a text for `testing::replay`:
//!
//! cluster e220a8397b1dcdaf
//! upgrade c
//! act c 7e1b3b
//!     # c: {changes,[{<<"l">>,1}]}
//! # the end: all start and connect
//!     # a to b: {discover,<a@test.1.0>,1}
//! ...
//! ```
//!
//! # Versions
//!
//! The publisher is made for each node by its name, so versions can stand side by side from the start;
//! [`Cluster::release`] adds a newer one and [`Cluster::upgrade`] brings a node there. `shake` upgrades
//! at random, too.

mod cluster;
mod compare;
mod data;
mod events;
mod laws;
mod network;
mod random;
mod run;
mod schedule;
mod shake;
#[cfg(test)]
mod tests;
mod users;

pub use cluster::{Cluster, Heard};
pub use random::Random;
pub use shake::{replay, shake};
