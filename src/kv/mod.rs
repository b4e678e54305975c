//! Keys and values, replicated to all nodes: each node owns its keys, and everybody sees everybody's.
//!
//! A key may have several values, one for each node that has put it: a [`Kv`] merges nothing, the
//! reader decides. When a node goes, so do its values; when its scope restarts, they come back.
//!
//! ```no_run
//! # async fn example(node: &data_publisher::Node) -> Result<(), Box<dyn std::error::Error>> {
//! use data_publisher::{Kv, atom, tuple};
//!
//! let kv = Kv::start(node, atom!("settings"))?;
//! kv.put(tuple![atom!("limit"), 1], 100).await?;
//! for (owner, value) in kv.get(tuple![atom!("limit"), 1]) {
//!     println!("{owner} says {value}");
//! }
//! # Ok(()) }
//! ```
//!
//! On the BEAM the same is `dp_kv`, in this repository's `erlang/`. The wire format, version 1:
//!
//! | what | term |
//! | --- | --- |
//! | local data | `#{Key => Value}` |
//! | update | `[{put, Key, Value} \| {delete, Key}]`, in this order |
//! | subscription, first result | `all`: `#{Key => #{Node => Value}}`; `{key, Key}`: `#{Node => Value}` |
//! | events | `{Ref, put, Node, Key, Value}`, `{Ref, delete, Node, Key}` |
//!
//! In keys of ours `-0.0` is `0.0`, for before OTP 27 the two are equal.

mod publisher;
#[cfg(test)]
mod tests;
#[cfg(feature = "serde")]
mod typed;

use std::collections::BTreeMap;

pub use publisher::{Change, Event, Initial, KvPublisher, Owners, Subscription, View};
#[cfg(feature = "serde")]
pub use typed::{Entry, PutError, TypedKv, Unreadable};

use crate::atom;
use crate::engine::Version;
use crate::node::{Node, RegisterError};
use crate::scope::{self, PeerEvents, Scope, ScopeStats, ScopeStopped};
use crate::term::{Atom, NodeName, Pid, Term};

/// A key-value scope on a node. Clones are the same one; it stops with the last, or by
/// [`stop`](Self::stop).
#[derive(Clone, Debug)]
pub struct Kv {
    scope: Scope<KvPublisher>,
}

impl Kv {
    /// Starts the scope on a node and meets all who run it elsewhere.
    ///
    /// # Errors
    ///
    /// [`RegisterError::Taken`] when a process of that name runs on the node;
    /// [`RegisterError::Reserved`] for the name `pg`, that of the scope every BEAM node may run.
    pub fn start(node: &Node, scope: Atom) -> Result<Self, RegisterError> {
        if scope == atom!("pg") {
            return Err(RegisterError::Reserved { name: scope });
        }
        Ok(Self { scope: Scope::start(node, scope, KvPublisher)? })
    }

    /// Our value of a key from now on. When this returns, readers here see it, and all peers are
    /// being told. `false` when it was that already.
    ///
    /// # Errors
    ///
    /// [`ScopeStopped`].
    pub async fn put(
        &self,
        key: impl Into<Term>,
        value: impl Into<Term>,
    ) -> Result<bool, ScopeStopped> {
        self.scope.update(vec![Change::put(&key.into(), value.into())]).await
    }

    /// As [`put`](Self::put), many at once: one message to each peer, and no reader sees some of
    /// them and not the others. Of a key given twice the last counts.
    ///
    /// # Errors
    ///
    /// [`ScopeStopped`].
    pub async fn put_all<K: Into<Term>, V: Into<Term>>(
        &self,
        pairs: impl IntoIterator<Item = (K, V)>,
    ) -> Result<bool, ScopeStopped> {
        let put = |(key, value): (K, V)| Change::put(&key.into(), value.into());
        self.scope.update(pairs.into_iter().map(put).collect()).await
    }

    /// Our value of a key is gone; what other nodes have put stays. `false` when there was none.
    ///
    /// # Errors
    ///
    /// [`ScopeStopped`].
    pub async fn delete(&self, key: impl Into<Term>) -> Result<bool, ScopeStopped> {
        self.scope.update(vec![Change::delete(&key.into())]).await
    }

    /// The values of a key, by the nodes that own them. Crosses no task. Empty when nobody has put
    /// it, or the scope has stopped.
    pub fn get(&self, key: impl Into<Term>) -> Owners {
        let key = key.into().with_positive_zeros();
        self.scope.view(|view| view.get(&key).cloned()).ok().flatten().unwrap_or_default()
    }

    /// The value one node has put.
    pub fn get_of(&self, node: &NodeName, key: impl Into<Term>) -> Option<Term> {
        let key = key.into().with_positive_zeros();
        self.scope.view(|view| view.get(&key)?.get(node).cloned()).ok().flatten()
    }

    /// All keys that have a value, in term order.
    pub fn keys(&self) -> Vec<Term> {
        self.scope.view(|view| view.all().keys().cloned().collect()).unwrap_or_default()
    }

    /// How many keys have a value.
    pub fn key_count(&self) -> usize {
        self.scope.view(|view| view.all().len()).unwrap_or_default()
    }

    /// All keys with all values.
    pub fn get_all(&self) -> BTreeMap<Term, Owners> {
        self.scope.view(|view| view.all().clone()).unwrap_or_default()
    }

    /// All there is, and from then on each change. Dropping the subscription ends it.
    ///
    /// # Errors
    ///
    /// [`ScopeStopped`].
    pub async fn subscribe(
        &self,
    ) -> Result<(BTreeMap<Term, Owners>, scope::Subscription<KvPublisher>), ScopeStopped> {
        let (initial, changes) = self.scope.subscribe(Subscription::All).await?;
        Ok((initial.into_all(), changes))
    }

    /// The values of one key, and from then on each change to them.
    ///
    /// # Errors
    ///
    /// [`ScopeStopped`].
    pub async fn subscribe_key(
        &self,
        key: impl Into<Term>,
    ) -> Result<(Owners, scope::Subscription<KvPublisher>), ScopeStopped> {
        let key = Subscription::Key(key.into().with_positive_zeros());
        let (initial, changes) = self.scope.subscribe(key).await?;
        Ok((initial.into_owners(), changes))
    }

    /// Resolves when every node that is connected now has answered, see [`Scope::ready`].
    ///
    /// # Errors
    ///
    /// [`ScopeStopped`].
    pub async fn ready(&self) -> Result<(), ScopeStopped> {
        self.scope.ready().await
    }

    /// The nodes that callers of [`ready`](Self::ready) wait for at this moment, sorted.
    ///
    /// # Errors
    ///
    /// [`ScopeStopped`].
    pub async fn awaited(&self) -> Result<Vec<NodeName>, ScopeStopped> {
        self.scope.awaited().await
    }

    /// The scope's name.
    pub fn name(&self) -> &Atom {
        self.scope.name()
    }

    /// The scope's processes on other nodes, with their versions.
    ///
    /// # Errors
    ///
    /// [`ScopeStopped`].
    pub async fn peers(&self) -> Result<Vec<(Pid, Version)>, ScopeStopped> {
        self.scope.peers().await
    }

    /// What the scope has done so far, and whom it knows.
    ///
    /// # Errors
    ///
    /// [`ScopeStopped`].
    pub async fn stats(&self) -> Result<ScopeStats, ScopeStopped> {
        self.scope.stats().await
    }

    /// Each peer that comes or goes.
    pub fn peer_events(&self) -> PeerEvents {
        self.scope.peer_events()
    }

    /// Stops the scope: our values are gone on other nodes. The next of this name on the node puts
    /// them anew.
    pub async fn stop(self) {
        self.scope.stop().await;
    }
}
