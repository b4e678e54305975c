//! The listening process: a member of the groups, from which messages of other nodes come in.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio_util::sync::{CancellationToken, DropGuard};

use super::inbox::Topics;
use super::message::read_forward;
use super::name::{MOST_GROUPS, Names};
use super::{SharedScope, StartError};
use crate::gen_server::{read_call, reply_destination};
use crate::node::{Node, Origin, Process, Quiet, Received};
use crate::pg::{self, Events};
use crate::term::{Excerpt, Pid, Term};
use crate::{atom, tuple};

/// A pubsub's listener before and while it runs.
pub(super) struct Listener {
    node: crate::node::WeakNode,
    /// Cancelled when the node stops, before anything else ends.
    stopped: CancellationToken,
    process: Process,
    names: Names,
    /// The numbers of the groups it's in.
    joined: BTreeSet<u16>,
    scope: SharedScope,
    /// Who joins and leaves in the scope: that's where a larger pool shows.
    changes: Events,
    topics: Arc<Topics>,
    quiet: Quiet,
}

impl Listener {
    /// Registers the process and joins, so that it's a member when this returns.
    pub(super) async fn start(
        node: &Node,
        names: Names,
        pool_size: u16,
        scope: SharedScope,
        topics: Arc<Topics>,
    ) -> Result<Self, StartError> {
        let process = node.spawn();
        // A worker is supervised; an exit signal of somebody who was linked is no end of it.
        process.trap_exit(true);
        let pool = 1..=pool_size.clamp(1, MOST_GROUPS);
        for number in pool.clone() {
            if let Err(error) = node.register(names.group(number), process.pid()) {
                drop(process);
                scope.leave().await;
                return Err(error.into());
            }
        }
        let (groups, changes) = scope.pg().monitor_scope().await?;
        let mut listener = Self {
            node: node.downgrade(),
            stopped: node.stopped(),
            process,
            names,
            joined: BTreeSet::new(),
            scope,
            changes,
            topics,
            quiet: Quiet::default(),
        };
        for number in pool {
            listener.join(number).await?;
        }
        for (group, _) in groups {
            listener.follow(&group).await;
        }
        Ok(listener)
    }

    pub(super) fn pid(&self) -> &Pid {
        self.process.pid()
    }

    /// Serves until the pubsub ends, its node, or its scope; then leaves, and says so by dropping
    /// `left`.
    pub(super) async fn run(mut self, end: CancellationToken, left: DropGuard) {
        loop {
            tokio::select! {
                () = end.cancelled() => break,
                received = self.process.receive_sized() => match received {
                    Some((received, bytes)) => self.take_in(received, bytes),
                    None => break,
                },
                change = self.changes.next() => match change {
                    Some(pg::Event::Join { group, .. }) => self.follow(&group).await,
                    Some(pg::Event::Leave { .. }) => {}
                    None => {
                        if !self.stopped.is_cancelled() {
                            log::warn!("{}: ends with its scope", self.names.name());
                        }
                        break;
                    }
                },
            }
        }
        self.topics.close();
        drop(self.process);
        self.scope.leave().await;
        drop(left);
    }

    fn take_in(&self, received: Received, bytes: usize) {
        let Received::Message { term, origin } = received else { return };
        if let Some((topic, message)) = read_forward(&term) {
            self.topics.dispatch(topic, message, || bytes, None);
        } else if let Some(call) = read_call(&term) {
            // A worker would crash of it; the caller mustn't wait in vain.
            let reply = tuple![call.tag, tuple![atom!("error"), atom!("badarg")]];
            self.process.send(reply_destination(call.from, call.tag), reply);
        } else {
            let node = match &origin {
                Origin::Local => self.process.pid().node.as_str(),
                Origin::Connection(connection) => connection.peer().as_str(),
            };
            let text = format!("{}: dropped {}", self.names.name(), Excerpt(&term));
            self.quiet.warn(node, "no message of a pubsub", &text);
        }
    }

    /// Joins a group of ours in which another node is.
    async fn follow(&mut self, group: &Term) {
        let Some(number) = self.names.number(group) else { return };
        if self.joined.contains(&number) {
            return;
        }
        let name = self.names.group(number);
        let registered = match self.node.upgrade() {
            Some(node) => node.register(name, self.process.pid()),
            None => return,
        };
        // Without the name only direct broadcasts to it are missed.
        if let Err(error) = registered {
            log::warn!("{}: {error}", self.names.name());
        }
        if let Err(error) = self.join(number).await {
            log::warn!("{}: {error}", self.names.name());
        }
    }

    async fn join(&mut self, number: u16) -> Result<(), pg::JoinError> {
        self.scope.pg().join(self.names.group(number), self.process.pid()).await?;
        self.joined.insert(number);
        Ok(())
    }
}
