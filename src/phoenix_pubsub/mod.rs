//! `Phoenix.PubSub` as an Elixir application has it, with no line changed there: topics, broadcasts to
//! all nodes or to one, and what channels broadcast.
//!
//! Each node has a listening process, a member of a group in the `pg` scope `Phoenix.PubSub` and
//! registered under the group's name. Who broadcasts sends
//! `{forward_to_local, Topic, Message, Dispatcher}` to the members on other nodes and dispatches to its
//! own subscribers by itself; nothing is answered. For `MyApp.PubSub` the group is
//! `'Elixir.MyApp.PubSub.Adapter'`.
//!
//! With a `pool_size` above 1 (2.1.1 and later) a node has that many listeners, the others in groups
//! `..._2` to `..._N`, and each sending process uses one of the groups, drawn from its pid. So a member
//! has to be in all of them, or it misses what some processes send: ours is in as many as it was told,
//! and in each further one as soon as any other node is. It's one process, so one mailbox, and what
//! one sender sends stays in order. We send to the first group, which is the only one that all nodes
//! have, whatever their pool.
//!
//! What reaches a worker there and isn't of the known shape would crash it; nothing of another shape
//! leaves here. Source: `Phoenix.PubSub.PG2` of `phoenix_pubsub` 2.0 to 2.2, `Phoenix.Channel.Server`
//! and the JSON serializers of `phoenix` 1.7.

mod inbox;
mod listener;
mod message;
mod name;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Weak};

use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

pub use inbox::{Notice, Subscription};
pub use message::{Broadcast, NotJson};
pub use name::BadPubSubName;

use crate::node::{Node, RegisterError, SendError};
use crate::pg::{self, JoinError, Members, Pg};
use crate::scope::ScopeStopped;
use crate::term::{Atom, Destination, NodeName, Pid, Term};
use inbox::Topics;
use listener::Listener;
use message::Dispatcher;
use name::Names;

/// A `Phoenix.PubSub` on a node. Clones are the same one; it stops with the last, or by
/// [`stop`](Self::stop).
///
/// ```no_run
/// # async fn example(node: data_publisher::Node) -> Result<(), Box<dyn std::error::Error>> {
/// use data_publisher::phoenix_pubsub::{Notice, PubSub};
/// use data_publisher::{atom, tuple};
///
/// let pubsub = PubSub::start(&node, "MyApp.PubSub").await?;
/// let mut users = pubsub.subscribe("users");
/// pubsub.broadcast("users", tuple![atom!("user_left"), 7]).await?;
/// while let Some(notice) = users.next().await {
///     match notice {
///         Notice::Message(term) => println!("{term}"),
///         Notice::Broadcast(broadcast) => println!("{}: {}", broadcast.event, broadcast.payload),
///         Notice::Lagged(missed) => println!("too slow, missed {missed}"),
///     }
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct PubSub(Arc<Running>);

#[derive(Debug)]
struct Running {
    name: String,
    node: Node,
    /// The sender of our broadcasts.
    listener: Pid,
    /// The group all nodes have.
    group: Atom,
    /// Who is in it.
    members: Members,
    /// The listener's task has the strong one.
    scope: Weak<Pg>,
    topics: Arc<Topics>,
    /// Cancelled when the listener has left.
    left: CancellationToken,
    /// Ends the listener.
    end: CancellationToken,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end.cancel();
    }
}

/// Settings of a [`PubSub`].
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Options {
    /// How many groups to be in from the start, 1 to 1,024. Default 1. Give the `pool_size` of the
    /// Elixir nodes to miss nothing of what is sent in the moment a first one of them is met; the
    /// groups are joined without, as soon as they are seen.
    pub pool_size: u16,
    /// Messages a subscriber may be behind before it gets a [`Notice::Lagged`] instead. Default
    /// 10,000.
    pub behind: usize,
    /// Bytes a subscriber may be behind, as the messages have on the wire; a lone message may have
    /// more. Default 64 MiB.
    pub behind_bytes: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { pool_size: 1, behind: 10_000, behind_bytes: 64 << 20 }
    }
}

impl PubSub {
    /// Starts a pubsub on a node, `name` written as in Elixir: `MyApp.PubSub`, or `:my_pubsub`. When this
    /// returns it's a member, and the other nodes are being told; see [`ready`](Self::ready).
    ///
    /// # Errors
    ///
    /// [`StartError`].
    pub async fn start(node: &Node, name: &str) -> Result<Self, StartError> {
        Self::start_with(node, name, &Options::default()).await
    }

    /// As [`start`](Self::start), with options.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub async fn start_with(
        node: &Node,
        name: &str,
        options: &Options,
    ) -> Result<Self, StartError> {
        let names = Names::new(name)?;
        let scope = SharedScope::of(node).await?;
        let topics = Arc::new(Topics::new(options.behind, options.behind_bytes));
        let (members, weak) = (scope.pg().members().clone(), scope.downgrade());
        let group = names.first().clone();
        let name = names.name().to_owned();
        let listener = Listener::start(node, names, options.pool_size, scope, topics.clone());
        let listener = listener.await?;
        let (end, left) = (CancellationToken::new(), CancellationToken::new());
        let pid = listener.pid().clone();
        tokio::spawn(listener.run(end.clone(), left.clone().drop_guard()));
        Ok(Self(Arc::new(Running {
            name,
            node: node.clone(),
            listener: pid,
            group,
            members,
            scope: weak,
            topics,
            left,
            end,
        })))
    }

    /// Its name, as `MyApp.PubSub`.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// What is broadcast on a topic from now on. As `Phoenix.PubSub.subscribe/2`.
    ///
    /// The subscription ends with the pubsub.
    pub fn subscribe(&self, topic: &str) -> Subscription {
        self.0.topics.subscribe(topic)
    }

    /// Broadcasts a message on a topic, to all subscribers on all nodes. As
    /// `Phoenix.PubSub.broadcast/3`.
    ///
    /// When this returns, the message is queued for each node that has the pubsub, in the order of the
    /// calls, and subscribers here have it. While more than
    /// [`Limits::soft_mark`](crate::node::Limits::soft_mark) bytes are queued for one of them it waits,
    /// as a process on the BEAM does. The number is that of the other nodes it was queued for.
    ///
    /// If the future is dropped before it's done, any of the receivers may get the message and any not.
    ///
    /// # Errors
    ///
    /// [`BroadcastError`].
    pub async fn broadcast(
        &self,
        topic: &str,
        message: impl Into<Term>,
    ) -> Result<usize, BroadcastError> {
        self.publish(topic, message.into(), Dispatcher::PubSub, None).await
    }

    /// As [`broadcast`](Self::broadcast), but not to this subscription. As
    /// `Phoenix.PubSub.broadcast_from/4`.
    ///
    /// # Errors
    ///
    /// As [`broadcast`](Self::broadcast).
    pub async fn broadcast_from(
        &self,
        from: &Subscription,
        topic: &str,
        message: impl Into<Term>,
    ) -> Result<usize, BroadcastError> {
        self.publish(topic, message.into(), Dispatcher::PubSub, Some(from)).await
    }

    /// Broadcasts to the subscribers on one node only, connecting to it if need be. As
    /// `Phoenix.PubSub.direct_broadcast/4`: whether the pubsub runs there is not said.
    ///
    /// # Errors
    ///
    /// As [`broadcast`](Self::broadcast), and [`BroadcastError::Send`] when the node can't be reached.
    pub async fn direct_broadcast(
        &self,
        node: &NodeName,
        topic: &str,
        message: impl Into<Term>,
    ) -> Result<(), BroadcastError> {
        self.still_running()?;
        let message = message.into();
        if node == self.0.node.name() {
            return self.local_broadcast(topic, message);
        }
        let forward = message::forward(topic, &message, Dispatcher::PubSub);
        let to = Destination::from((&self.0.group, node));
        Ok(self.0.node.send_from(Some(&self.0.listener), &to, &forward).await?)
    }

    /// Broadcasts to the subscribers here only. As `Phoenix.PubSub.local_broadcast/3`.
    ///
    /// # Errors
    ///
    /// [`BroadcastError::Stopped`].
    pub fn local_broadcast(
        &self,
        topic: &str,
        message: impl Into<Term>,
    ) -> Result<(), BroadcastError> {
        self.still_running()?;
        let message = message.into();
        let bytes = || crate::node::encoded_size(&message);
        self.0.topics.dispatch(topic.as_bytes(), &message, bytes, None);
        Ok(())
    }

    /// Broadcasts an event on a topic to all channels and their clients, on all nodes. As
    /// `MyApp.Endpoint.broadcast/3`: the message is a `%Phoenix.Socket.Broadcast{}`.
    ///
    /// The payload is a map that can be written as JSON, as it will be for the clients: the nodes
    /// that do it crash of any other. Text in it is binaries of UTF-8. All nodes with this pubsub
    /// should have Phoenix, as when an Elixir node broadcasts to channels: one that has
    /// `phoenix_pubsub` alone lacks the module that takes it.
    ///
    /// # Errors
    ///
    /// As [`broadcast`](Self::broadcast), and [`BroadcastError::NotJson`], when nothing was sent.
    pub async fn channel_broadcast(
        &self,
        topic: &str,
        event: &str,
        payload: impl Into<Term>,
    ) -> Result<usize, BroadcastError> {
        let broadcast = Broadcast::new(topic, event, payload.into())?;
        self.publish(topic, broadcast.into(), Dispatcher::Channel, None).await
    }

    /// The other nodes that have a pubsub of this name, sorted.
    pub fn nodes(&self) -> Vec<NodeName> {
        let members = self.0.members.get_members(&Term::from(&self.0.group));
        let others = members.iter().map(|pid| &pid.node);
        let mut nodes: Vec<_> =
            others.filter(|&node| node != self.0.node.name()).cloned().collect();
        nodes.sort_unstable();
        nodes.dedup();
        nodes
    }

    /// Resolves when another node is known to have the pubsub, at once if it is.
    ///
    /// # Errors
    ///
    /// [`ScopeStopped`].
    pub async fn wait_for(&self, node: &NodeName) -> Result<(), ScopeStopped> {
        let stopped = || ScopeStopped { scope: SharedScope::name() };
        let scope = self.0.scope.upgrade().ok_or_else(stopped)?;
        let (members, mut changes) = scope.monitor(&self.0.group).await?;
        // The scope isn't to be kept by who waits in vain.
        drop(scope);
        let is_there = |pids: &[Pid]| pids.iter().any(|pid| pid.node == *node);
        if is_there(&members) {
            return Ok(());
        }
        while let Some(change) = changes.next().await {
            if matches!(&change, pg::Event::Join { pids, .. } if is_there(pids)) {
                return Ok(());
            }
        }
        Err(stopped())
    }

    /// Resolves when every node that is connected now has said whether it has the pubsub. So who
    /// connects, starts, and waits for this, broadcasts to all.
    ///
    /// # Errors
    ///
    /// [`ScopeStopped`].
    pub async fn ready(&self) -> Result<(), ScopeStopped> {
        let stopped = || ScopeStopped { scope: SharedScope::name() };
        self.0.scope.upgrade().ok_or_else(stopped)?.ready().await
    }

    /// Stops it for all clones: subscriptions end, and other nodes send nothing any more. Returns when its
    /// names are free again.
    pub async fn stop(self) {
        let left = self.0.left.clone();
        self.0.end.cancel();
        drop(self);
        left.cancelled().await;
    }

    async fn publish(
        &self,
        topic: &str,
        message: Term,
        dispatcher: Dispatcher,
        except: Option<&Subscription>,
    ) -> Result<usize, BroadcastError> {
        self.still_running()?;
        let Running { node, listener, group, members, topics, .. } = &*self.0;
        let forward = message::forward(topic, &message, dispatcher);
        let members = members.get_members(&Term::from(group));
        let others = members.iter().filter(|pid| pid.node != *node.name());
        let (bytes, queued) = node.send_to_all(listener, others, &forward).await?;
        topics.dispatch(topic.as_bytes(), &message, || bytes, except);
        Ok(queued)
    }

    fn still_running(&self) -> Result<(), BroadcastError> {
        if self.0.left.is_cancelled() || self.0.end.is_cancelled() {
            return Err(BroadcastError::Stopped { name: self.0.name.clone() });
        }
        Ok(())
    }
}

/// The scope `Phoenix.PubSub` of a node, which all pubsubs there share: started with the first, stopped
/// after the last.
#[derive(Debug)]
struct SharedScope {
    pg: Arc<Pg>,
    slot: Arc<Slot>,
}

/// What the node keeps of it. Held while one starts and while one stops, so that the next doesn't find
/// the name of the one before still taken.
#[derive(Debug, Default)]
struct Slot(Mutex<Weak<Pg>>);

impl SharedScope {
    fn name() -> Atom {
        crate::atom!("Elixir.Phoenix.PubSub")
    }

    async fn of(node: &Node) -> Result<Self, RegisterError> {
        let slot = node.router().registry().slot::<Slot>(&Self::name());
        let mut held = slot.0.lock().await;
        let pg = if let Some(pg) = held.upgrade() {
            pg
        } else {
            let pg = Arc::new(Pg::start(node, Self::name())?);
            *held = Arc::downgrade(&pg);
            pg
        };
        drop(held);
        Ok(Self { pg, slot })
    }

    fn pg(&self) -> &Pg {
        &self.pg
    }

    fn downgrade(&self) -> Weak<Pg> {
        Arc::downgrade(&self.pg)
    }

    /// Gives it up; stops the scope if nobody else has it.
    async fn leave(self) {
        let _held = self.slot.0.lock().await;
        if let Some(pg) = Arc::into_inner(self.pg) {
            pg.stop().await;
        }
    }
}

/// Why a pubsub couldn't start.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// No name of a pubsub.
    #[error(transparent)]
    BadName(#[from] BadPubSubName),
    /// One of this name runs on the node already, or something else has one of its names.
    #[error(transparent)]
    Register(#[from] RegisterError),
    /// The node or its scope has stopped.
    #[error(transparent)]
    Join(#[from] JoinError),
}

impl From<ScopeStopped> for StartError {
    fn from(error: ScopeStopped) -> Self {
        Self::Join(error.into())
    }
}

/// Why a message wasn't broadcast.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BroadcastError {
    /// The pubsub has stopped.
    #[error("the pubsub {name} has stopped")]
    Stopped {
        /// Its name.
        name: String,
    },
    /// The payload of a channel's event can't be written as JSON.
    #[error(transparent)]
    NotJson(#[from] NotJson),
    /// The message is too large, or, for a direct broadcast, the node can't be reached.
    #[error(transparent)]
    Send(#[from] SendError),
}
