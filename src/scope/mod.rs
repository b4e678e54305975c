//! A publisher that runs: the engine as a process of a node, registered under the scope's name.
//!
//! [`Scope::start`] registers the process, meets all peers that run the same scope and keeps on
//! meeting them. An update is applied to the own view before [`Scope::update`] returns and is on its
//! way to all peers by then. Subscribers get a snapshot and then every change; one that doesn't keep
//! up loses nothing for good, but gets a fresh snapshot instead of what it missed.
//!
//! A scope that has ended, by [`Scope::stop`], with its last handle or by an exit signal, leaves its
//! local data to the next of the same name and publisher on the node, which publishes it anew. (In
//! OTP it's lost, though its owners live.) Only a publisher that panics leaves nothing: what it
//! choked on may be in there.

mod ready;
mod running;
mod stats;
mod task;
#[cfg(test)]
mod tests;

use std::any::Any;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use self::running::{Now, Running, Shared, Updated};
pub use self::stats::ScopeStats;
use self::task::Task;
use crate::engine::{DataPublisher, EngineOptions, SharedView, Version};
use crate::node::{Connection, Node, Process, RegisterError};
use crate::term::{Atom, NodeName, Pid, Term};

/// A running scope. Clones are the same one; it stops soon after the last is dropped, or by
/// [`stop`](Self::stop), after which the name is free.
pub struct Scope<P: DataPublisher>(Arc<Handle<P>>);

struct Handle<P: DataPublisher> {
    name: Atom,
    pid: Pid,
    node: Node,
    view: SharedView<P::GlobalView>,
    running: Arc<Shared<P>>,
    /// Bounded by its callers: each waits for its answer.
    commands: mpsc::UnboundedSender<Command<P>>,
}

/// What the handle asks of the task.
enum Command<P: DataPublisher> {
    Update {
        update: P::Update,
        answer: oneshot::Sender<Updated>,
    },
    Subscribe {
        key: P::Subscription,
        answer: oneshot::Sender<(P::Initial, Subscription<P>)>,
    },
    Unsubscribe(SubscriptionId),
    /// A subscriber's channel is empty again.
    Resume(SubscriptionId, mpsc::OwnedPermit<Item<P>>),
    Peers(oneshot::Sender<Vec<(Pid, Version)>>),
    Stats(oneshot::Sender<ScopeStats>),
    Ready(oneshot::Sender<()>),
    Awaited(oneshot::Sender<Vec<NodeName>>),
    PeerEvents(mpsc::UnboundedSender<PeerEvent>),
    /// A connection has room for replies again.
    Answer(Arc<Connection>),
    Stop(oneshot::Sender<()>),
    /// The publisher has panicked, and not in the task.
    Panicked(Box<dyn Any + Send>),
    /// A timer was started that may be the next.
    Wake,
}

/// Names a subscription between its handle and the task; the engine's id changes when it is
/// resumed.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
struct SubscriptionId(u64);

impl<P: DataPublisher> Scope<P> {
    /// Starts a scope on a node and registers its process under the scope's name. That mustn't be the
    /// name of a scope of `pg` somewhere in the cluster unless the publisher is `pg`'s: it dies there of
    /// what another one says.
    ///
    /// # Errors
    ///
    /// [`RegisterError::Taken`] when something of that name runs on the node already.
    pub fn start(node: &Node, name: Atom, publisher: P) -> Result<Self, RegisterError> {
        Self::start_with(node, name, publisher, EngineOptions::default())
    }

    /// As [`start`](Self::start), with options.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub fn start_with(
        node: &Node,
        name: Atom,
        publisher: P,
        options: EngineOptions,
    ) -> Result<Self, RegisterError> {
        let (process, mailbox) = Process::new_apart(node.router().clone());
        node.register(name.clone(), process.pid())?;
        let (commands, inbox) = mpsc::unbounded_channel();
        let pid = process.pid().clone();
        let running = Running::new(process, name.clone(), publisher, options, commands.downgrade());
        let view = running.view().clone();
        // Only now: a publisher that panics as it begins takes nothing with it.
        let (before, after) = node.router().registry().succeed(&name, &pid);
        let before = before.map(|before| (node.router().clone(), before));
        let running = Arc::new(Shared::new(running));
        let task = Task { mailbox, commands: inbox, shared: running.clone() };
        tokio::spawn(task.run(view.clone(), before, after));
        Ok(Self(Arc::new(Handle { name, pid, node: node.clone(), view, running, commands })))
    }

    /// The scope's name.
    pub fn name(&self) -> &Atom {
        &self.0.name
    }

    /// The scope's process, the peer of other nodes.
    pub fn pid(&self) -> &Pid {
        &self.0.pid
    }

    /// The node it runs on.
    pub fn node(&self) -> &Node {
        &self.0.node
    }

    /// Changes our own local data. When this returns, the own view shows the change, and it's queued
    /// for all peers. `false` when there was nothing to change.
    ///
    /// It mostly returns without crossing a task. While a peer reads slower than updates are made, by
    /// more than [`Limits::soft_mark`](crate::node::Limits::soft_mark) bytes, it waits for that peer; at
    /// most 50 ms and only once for a peer that doesn't catch up, which is shed in the end. Dropped in
    /// this time, it has been done.
    ///
    /// # Errors
    ///
    /// [`ScopeStopped`].
    pub async fn update(&self, update: P::Update) -> Result<bool, ScopeStopped> {
        // Who updates again and again must let others have their turn.
        tokio::task::coop::consume_budget().await;
        let Updated { changed, crowded } = match self.0.running.update_now(update) {
            Now::Done(updated) => updated,
            Now::Later(update) => self.ask(|answer| Command::Update { update, answer }).await?,
            Now::Panicked => return Err(self.stopped()),
        };
        if let Some(peer) = crowded {
            peer.queue().pace().await;
        }
        Ok(changed)
    }

    /// Reads the view, which has all updates that were awaited before. Crosses no task; the scope's
    /// task waits for `read` to return if it has something to write, so that should be soon. Within
    /// `read` and within the publisher the view mustn't be read again: each would wait for the other.
    ///
    /// # Errors
    ///
    /// [`ScopeStopped`].
    pub fn view<T>(&self, read: impl FnOnce(&P::GlobalView) -> T) -> Result<T, ScopeStopped> {
        let view = self.0.view.read().ok_or_else(|| self.stopped())?;
        Ok(read(&view))
    }

    /// What there is now, and from then on every change.
    ///
    /// # Errors
    ///
    /// [`ScopeStopped`].
    pub async fn subscribe(
        &self,
        key: P::Subscription,
    ) -> Result<(P::Initial, Subscription<P>), ScopeStopped> {
        self.ask(|answer| Command::Subscribe { key, answer }).await
    }

    /// The scope's processes on other nodes, each with the version it announced, sorted by pid.
    ///
    /// # Errors
    ///
    /// [`ScopeStopped`].
    pub async fn peers(&self) -> Result<Vec<(Pid, Version)>, ScopeStopped> {
        self.ask(Command::Peers).await
    }

    /// What the scope has done so far, and whom it knows.
    ///
    /// # Errors
    ///
    /// [`ScopeStopped`].
    pub async fn stats(&self) -> Result<ScopeStats, ScopeStopped> {
        self.ask(Command::Stats).await
    }

    /// Resolves when every node that is connected now has answered: its data is in the view, or can't
    /// be read, or nobody has the scope's name there at this moment. A node that is lost meanwhile
    /// isn't waited for, and one that comes meanwhile isn't either.
    ///
    /// A process of the scope's name that never answers, as a standalone scope's or one of
    /// `join --module raw`, is waited for 30 s.
    ///
    /// # Errors
    ///
    /// [`ScopeStopped`].
    pub async fn ready(&self) -> Result<(), ScopeStopped> {
        self.ask(Command::Ready).await
    }

    /// The nodes that callers of [`ready`](Self::ready) wait for at this moment, sorted.
    ///
    /// # Errors
    ///
    /// [`ScopeStopped`].
    pub async fn awaited(&self) -> Result<Vec<NodeName>, ScopeStopped> {
        self.ask(Command::Awaited).await
    }

    /// Each peer that comes or goes, after one [`PeerEvent::Up`] for each that is here.
    pub fn peer_events(&self) -> PeerEvents {
        let (sender, receiver) = mpsc::unbounded_channel();
        let _ = self.0.commands.send(Command::PeerEvents(sender));
        PeerEvents(receiver)
    }

    /// Stops the scope: its process ends, and peers forget its data. The next of its name publishes
    /// the data anew.
    pub async fn stop(self) {
        let _ = self.ask(Command::Stop).await;
    }

    async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<T>) -> Command<P>,
    ) -> Result<T, ScopeStopped> {
        let (answer, answered) = oneshot::channel();
        self.0.commands.send(command(answer)).map_err(|_| self.stopped())?;
        answered.await.map_err(|_| self.stopped())
    }

    fn stopped(&self) -> ScopeStopped {
        ScopeStopped { scope: self.0.name.clone() }
    }
}

impl<P: DataPublisher> Clone for Scope<P> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<P: DataPublisher> std::fmt::Debug for Scope<P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "scope {} {}", self.0.name, self.0.pid)
    }
}

/// The scope's process has ended: it was stopped, its node was, or somebody sent it an exit signal.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the scope {scope} has stopped")]
pub struct ScopeStopped {
    /// Its name.
    pub scope: Atom,
}

/// What a subscription brings.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Notice<E, I> {
    /// A change.
    Event(E),
    /// The subscriber was more than 10,000 events behind; after the last it was sent before that
    /// comes this, how things stand now. It replaces all it knew.
    Lagged(I),
}

type Item<P> = Notice<<P as DataPublisher>::Event, <P as DataPublisher>::Initial>;

/// The changes a subscriber gets; a stream that ends with the scope. Dropping it unsubscribes.
pub struct Subscription<P: DataPublisher> {
    id: SubscriptionId,
    items: mpsc::Receiver<Item<P>>,
    commands: mpsc::WeakUnboundedSender<Command<P>>,
}

impl<P: DataPublisher> Subscription<P> {
    /// The next change; `None` when the scope has stopped. Cancel safe.
    pub async fn next(&mut self) -> Option<Item<P>> {
        self.items.recv().await
    }

    /// How many changes have come and weren't taken.
    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        self.items.len()
    }

    /// Ends the subscription, as dropping it does.
    pub fn unsubscribe(self) {}
}

impl<P: DataPublisher> futures::Stream for Subscription<P> {
    type Item = Item<P>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        self.items.poll_recv(context)
    }
}

impl<P: DataPublisher> Drop for Subscription<P> {
    fn drop(&mut self) {
        if let Some(commands) = self.commands.upgrade() {
            let _ = commands.send(Command::Unsubscribe(self.id));
        }
    }
}

impl<P: DataPublisher> std::fmt::Debug for Subscription<P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "subscription {}", self.id.0)
    }
}

/// A peer came or went.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum PeerEvent {
    /// It is here, with its data.
    Up {
        /// Who.
        pid: Pid,
        /// The version it announced.
        version: Version,
    },
    /// It's gone, and its data with it.
    Down {
        /// Who.
        pid: Pid,
        /// Why: `noconnection`, `noproc`, or what it ended with.
        reason: Term,
    },
}

/// The events of [`Scope::peer_events`]; a stream that ends with the scope.
#[derive(Debug)]
pub struct PeerEvents(mpsc::UnboundedReceiver<PeerEvent>);

impl PeerEvents {
    /// The next event. Cancel safe.
    pub async fn next(&mut self) -> Option<PeerEvent> {
        self.0.recv().await
    }
}

impl futures::Stream for PeerEvents {
    type Item = PeerEvent;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<PeerEvent>> {
        self.0.poll_recv(context)
    }
}
