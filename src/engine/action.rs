//! What goes into an engine and what comes out: the only language it has with the rest of the crate.

use std::sync::Arc;
use std::time::Duration;

use super::publisher::{DataPublisher, Version};
use crate::term::{Destination, NodeName, Pid, Term};

/// A monitor the engine asked for. Never used twice by one engine.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct MonitorId(pub u64);

/// A timer the engine asked for. Never used twice by one engine.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct TimerId(pub u64);

/// Who in this process waits for an update; given out by the caller of the engine.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct CallerId(pub u64);

/// A subscriber in this process; given out by the caller of the engine.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct SubscriberId(pub u64);

/// One thing that happened.
///
/// The order that whoever feeds an engine promises: all `Down`s of a connection and its `NodeDown`
/// come before anything of the next connection to that node, and a message whose connection is gone
/// isn't fed any more. An engine stays whole without it, but may show old data until the next
/// `local_data`.
///
/// The same goes outward: until a connection's `NodeDown` is fed, what the engine says is meant for
/// that connection. If it's gone, such a message is dropped, even when the next one is up already: the
/// peer there has forgotten what it was told before, and a `pg` of OTP 27 dies of a leave it
/// doesn't understand.
#[derive(Clone, Debug, PartialEq)]
pub enum Input<P: DataPublisher> {
    /// A connection to a node is up; also, at the start, for each one that is up already. The same
    /// connection told twice does no harm.
    NodeUp(NodeName),
    /// The connection is down.
    NodeDown(NodeName),
    /// A message to the scope's process.
    Message {
        /// The node of the connection it came over; our own if it came from here.
        from: NodeName,
        /// The message, with `$gen_cast` or `$gen_call` if it came so.
        message: Term,
    },
    /// A monitored process ended, or its connection.
    Down {
        /// Which monitor.
        monitor: MonitorId,
        /// Whom it watched.
        pid: Pid,
        /// Why, as in Erlang's `'DOWN'`: `noproc`, `noconnection`, ...
        reason: Term,
    },
    /// The time of an [`Action::After`] has passed.
    Timer(TimerId),
    /// A change to our own local data; answered by [`Action::Updated`].
    Update {
        /// The change.
        update: P::Update,
        /// Who waits for the answer.
        caller: CallerId,
    },
    /// Somebody wants to hear of changes; answered by [`Action::Subscribed`].
    Subscribe {
        /// Of which.
        key: P::Subscription,
        /// Who.
        subscriber: SubscriberId,
    },
    /// No [`Action::Notify`] to this subscriber follows.
    Unsubscribe {
        /// Who.
        subscriber: SubscriberId,
    },
}

/// One thing to do, in the order given.
#[derive(Clone, Debug, PartialEq)]
pub enum Action<P: DataPublisher> {
    /// Send a message over the connection whose [`Input::NodeUp`] was fed last for that node. Without
    /// it the message is dropped: never is a connection opened for it, never a newer one used.
    Send {
        /// To whom.
        to: Destination,
        /// What.
        message: Term,
    },
    /// Send the same message to several peers, so that it's encoded once; each as with
    /// [`Send`](Self::Send).
    Publish {
        /// To whom, in order of their pids; at least one.
        peers: Arc<[Pid]>,
        /// What.
        message: Term,
    },
    /// Watch a process; ends with one [`Input::Down`] or one [`Action::Demonitor`].
    Monitor {
        /// Names this monitor.
        id: MonitorId,
        /// Whom to watch, on any node.
        pid: Pid,
    },
    /// Stop watching; no [`Input::Down`] of it need follow.
    Demonitor {
        /// Which monitor.
        id: MonitorId,
    },
    /// Feed [`Input::Timer`] when the time has passed. There is no way to call it off: what has
    /// become needless does nothing.
    After {
        /// How long from now.
        delay: Duration,
        /// Which timer.
        timer: TimerId,
    },
    /// Tell a subscriber.
    Notify {
        /// Whom.
        subscriber: SubscriberId,
        /// What.
        event: P::Event,
    },
    /// The answer to [`Input::Subscribe`]; every change that isn't in it follows as
    /// [`Notify`](Self::Notify).
    Subscribed {
        /// Whom.
        subscriber: SubscriberId,
        /// What there is now.
        initial: P::Initial,
    },
    /// The answer to [`Input::Update`]: the view shows it and it's on its way to all peers.
    Updated {
        /// Whom.
        caller: CallerId,
        /// Whether there was anything to change.
        changed: bool,
    },
    /// A peer is here with its data; for those who watch the cluster.
    PeerUp {
        /// Who.
        peer: Pid,
        /// The version it announced.
        version: Version,
    },
    /// A peer of which [`PeerUp`](Self::PeerUp) told is gone.
    PeerDown {
        /// Who.
        peer: Pid,
        /// Why, as in [`Input::Down`].
        reason: Term,
    },
}
