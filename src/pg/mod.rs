//! Process groups, as OTP's `pg`: a publisher for the [`engine`](crate::engine), and the functions of
//! the module of that name.
//!
//! Groups come to be when a process joins and end when the last one leaves; any term can name one. A
//! process may join several times, and leaves as often; when it ends it leaves all its groups. Each
//! node publishes the memberships of its own processes; the view, [`Members`], is the sum of all.
//!
//! One thing differs from OTP: in the names of groups our own processes join, `-0.0` is `0.0`, for
//! before OTP 27 the two are equal, and a scope there dies of a group that is two.
//!
//! Source: `pg`, OTP 25 to 29.

mod events;
mod legacy;
mod members;
mod publisher;
#[cfg(test)]
mod running;
mod shape;
#[cfg(test)]
mod tests;
mod watched;

use std::sync::Arc;

pub use events::Events;
pub use members::{Bag, Groups, Members};
pub use publisher::{Change, Event, Initial, PgPublisher, Subscription, View};
#[doc(hidden)]
pub use shape::is_allowed_shape;

use crate::engine::Version;
use crate::node::{Node, RegisterError};
use crate::scope::{PeerEvents, Scope, ScopeStats, ScopeStopped};
use crate::term::{Atom, NodeName, Pid, Term};

/// A `pg` scope on a node. Clones are the same one; it stops with the last, or by
/// [`stop`](Self::stop).
#[derive(Clone, Debug)]
pub struct Pg {
    scope: Scope<PgPublisher>,
    members: Members,
}

impl Pg {
    /// Starts the scope on a node and meets all who run it elsewhere. The scope that Erlang's `pg`
    /// uses when none is named is called `pg`. As `pg:start/1`.
    ///
    /// # Errors
    ///
    /// [`RegisterError::Taken`] when a process of that name runs on the node.
    pub fn start(node: &Node, scope: Atom) -> Result<Self, RegisterError> {
        let publisher = PgPublisher::new();
        let members = publisher.members().clone();
        Ok(Self { scope: Scope::start(node, scope, publisher)?, members })
    }

    /// Processes join a group, each as often as it's given. When this returns, readers here see
    /// them, and all peers are being told. As `pg:join/3`.
    ///
    /// # Errors
    ///
    /// [`JoinError::NotLocal`] when one of them isn't of this node; then none joins.
    pub async fn join(
        &self,
        group: impl Into<Term>,
        pids: impl Into<Pids>,
    ) -> Result<(), JoinError> {
        let pids = self.local(pids.into())?;
        self.scope.update(vec![Change::join(&group.into(), pids).with_own_name()]).await?;
        Ok(())
    }

    /// Processes leave a group, each as often as it's given; those that aren't in it are passed
    /// over. `false` when none of them was: the `not_joined` of `pg:leave/3`.
    ///
    /// # Errors
    ///
    /// As [`join`](Self::join).
    pub async fn leave(
        &self,
        group: impl Into<Term>,
        pids: impl Into<Pids>,
    ) -> Result<bool, JoinError> {
        let pids = self.local(pids.into())?;
        Ok(self.scope.update(vec![Change::leave(&group.into(), pids).with_own_name()]).await?)
    }

    /// The members of a group, and from then on each change to it. Dropping the events ends it, as
    /// `pg:demonitor/2`. As `pg:monitor/2`.
    ///
    /// # Errors
    ///
    /// [`ScopeStopped`].
    pub async fn monitor(
        &self,
        group: impl Into<Term>,
    ) -> Result<(Arc<[Pid]>, Events), ScopeStopped> {
        let group = group.into();
        let (initial, changes) = self.scope.subscribe(Subscription::Group(group.clone())).await?;
        let pids = match &initial {
            Initial::Group(pids) => pids.clone(),
            Initial::Scope(_) => Arc::default(),
        };
        Ok((pids, Events::new(&initial, Some(group), changes)))
    }

    /// All groups with their members, in term order, and from then on each change. As
    /// `pg:monitor_scope/1`.
    ///
    /// # Errors
    ///
    /// [`ScopeStopped`].
    pub async fn monitor_scope(&self) -> Result<(Vec<(Term, Arc<[Pid]>)>, Events), ScopeStopped> {
        let (initial, changes) = self.scope.subscribe(Subscription::Scope).await?;
        let events = Events::new(&initial, None, changes);
        match initial {
            Initial::Scope(groups) => Ok((groups, events)),
            Initial::Group(_) => Ok((Vec::new(), events)),
        }
    }

    /// All members of a group, on all nodes, each as often as it joined. Crosses no task. As
    /// `pg:get_members/2`.
    pub fn get_members(&self, group: &Term) -> Arc<[Pid]> {
        self.members.get_members(group)
    }

    /// The members on this node. As `pg:get_local_members/2`.
    pub fn get_local_members(&self, group: &Term) -> Arc<[Pid]> {
        self.members.get_local_members(group)
    }

    /// All groups that have members, in term order. As `pg:which_groups/1`.
    pub fn which_groups(&self) -> Vec<Term> {
        self.members.which_groups()
    }

    /// The groups that have members on this node. As `pg:which_local_groups/1`.
    pub fn which_local_groups(&self) -> Vec<Term> {
        self.members.which_local_groups()
    }

    /// What readers read, to be handed to those who need no more.
    pub fn members(&self) -> &Members {
        &self.members
    }

    /// The scope's name.
    pub fn name(&self) -> &Atom {
        self.scope.name()
    }

    /// The scope's processes on other nodes, with the version of `pg` each speaks: 0 before OTP 29.
    ///
    /// # Errors
    ///
    /// [`ScopeStopped`].
    pub async fn peers(&self) -> Result<Vec<(Pid, Version)>, ScopeStopped> {
        self.scope.peers().await
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

    /// Stops the scope: our members leave all groups on other nodes, and readers here see none any
    /// more. The members live on, and those that still do join the next scope of this name anew.
    pub async fn stop(self) {
        self.scope.stop().await;
    }

    fn local(&self, pids: Pids) -> Result<Vec<Pid>, JoinError> {
        let us = self.scope.pid();
        let is_local = |pid: &&Pid| pid.node == us.node && pid.creation == us.creation;
        match pids.0.iter().find(|pid| !is_local(pid)) {
            Some(pid) => Err(JoinError::NotLocal { pid: pid.clone() }),
            None => Ok(pids.0),
        }
    }
}

/// One process or several, where `pg` takes `pid() | [pid()]`.
#[derive(Clone, Debug)]
pub struct Pids(Vec<Pid>);

impl From<&Pid> for Pids {
    fn from(pid: &Pid) -> Self {
        Self(vec![pid.clone()])
    }
}

impl From<Vec<Pid>> for Pids {
    fn from(pids: Vec<Pid>) -> Self {
        Self(pids)
    }
}

impl From<&[Pid]> for Pids {
    fn from(pids: &[Pid]) -> Self {
        Self(pids.to_vec())
    }
}

impl<const N: usize> From<[&Pid; N]> for Pids {
    fn from(pids: [&Pid; N]) -> Self {
        Self(pids.into_iter().cloned().collect())
    }
}

/// Why a process couldn't join or leave.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// Each node publishes its own processes and no others.
    #[error("{pid} isn't a process of this node; only its own node can make it join or leave")]
    NotLocal {
        /// The process.
        pid: Pid,
    },
    /// The scope has stopped.
    #[error(transparent)]
    Stopped(#[from] ScopeStopped),
}
