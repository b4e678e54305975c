//! What is known of the peers, keyed by their whole pid, and which of them speaks for its node.
//!
//! For a moment two processes of one node can be known: its scope restarted, and the new one's
//! greeting was here before the old one's `Down`. A node publishes one value, so the view holds the
//! data of the younger one, as soon as it's here, and never both. That makes no difference between a
//! view keyed by node and one that counts.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::action::{MonitorId, TimerId};
use super::publisher::Version;
use crate::term::{NodeName, Pid};

/// Most peers known of one node. A scope that restarts makes two for a moment; a node that claims
/// more and more must not make us keep, watch and search them all.
const MOST_OF_NODE: usize = 16;

/// How far the exchange with a peer has come.
#[derive(Debug)]
pub(super) struct Peer<D> {
    pub(super) monitor: MonitorId,
    /// Counts up with each peer that becomes known.
    since: u64,
    /// What its `discover` said.
    pub(super) version: Option<Version>,
    /// Stands in for the version until then: what its first `local_data` was labelled with.
    pub(super) label: Version,
    /// Its local data; that of nobody unless `synced`.
    pub(super) data: D,
    /// Whether its data is here, so that updates can be applied to it.
    pub(super) synced: bool,
    /// Whether it got our local data, so that it can apply our updates.
    pub(super) told: bool,
    /// Whether we have said that it's here.
    pub(super) announced: bool,
    /// Runs while it must not be asked for its data again.
    pub(super) retry: Option<TimerId>,
    /// Its `discover`, as long as its data is here without one.
    pub(super) answer: Option<Answer>,
}

/// What is known of a `discover` that should have come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Answer {
    /// It has until this timer fires.
    Due(TimerId),
    /// It didn't come in time, and the peer was asked again.
    Overdue,
}

impl<D> Peer<D> {
    /// The format to write to it.
    pub(super) fn format(&self) -> &Version {
        self.version.as_ref().unwrap_or(&self.label)
    }
}

#[derive(Debug)]
pub(super) struct Peers<D> {
    known: BTreeMap<Pid, Peer<D>>,
    /// Whose data the view holds, for each node.
    shown: BTreeMap<NodeName, Pid>,
    count: u64,
    /// Who gets our updates, by the format it's to be written in; `None` if that may have changed.
    audience: Option<Vec<(Version, Arc<[Pid]>)>>,
}

impl<D> Default for Peers<D> {
    fn default() -> Self {
        Self { known: BTreeMap::new(), shown: BTreeMap::new(), count: 0, audience: None }
    }
}

impl<D> Peers<D> {
    /// A peer becomes known; `data` is that of nobody.
    pub(super) fn add(&mut self, pid: Pid, monitor: MonitorId, label: Version, data: D) {
        self.count += 1;
        self.audience = None;
        let peer = Peer {
            monitor,
            since: self.count,
            version: None,
            label,
            data,
            synced: false,
            told: false,
            announced: false,
            retry: None,
            answer: None,
        };
        self.known.insert(pid, peer);
    }

    pub(super) fn remove(&mut self, pid: &Pid) -> Option<Peer<D>> {
        self.audience = None;
        self.known.remove(pid)
    }

    pub(super) fn get(&self, pid: &Pid) -> Option<&Peer<D>> {
        self.known.get(pid)
    }

    pub(super) fn get_mut(&mut self, pid: &Pid) -> Option<&mut Peer<D>> {
        self.audience = None;
        self.known.get_mut(pid)
    }

    /// The data of a peer, and whether it's here.
    pub(super) fn data_mut(&mut self, pid: &Pid) -> Option<(&mut D, bool)> {
        self.known.get_mut(pid).map(|peer| (&mut peer.data, peer.synced))
    }

    /// All who got our local data, by the format to write to them: none newer than `newest`.
    pub(super) fn audience(&mut self, newest: &Version) -> &[(Version, Arc<[Pid]>)] {
        self.audience.get_or_insert_with(|| {
            let mut by_format: BTreeMap<&Version, Vec<Pid>> = BTreeMap::new();
            for (pid, peer) in self.known.iter().filter(|(_, peer)| peer.told) {
                by_format.entry(peer.format().min(newest)).or_default().push(pid.clone());
            }
            by_format.into_iter().map(|(format, pids)| (format.clone(), pids.into())).collect()
        })
    }

    pub(super) fn contains(&self, pid: &Pid) -> bool {
        self.known.contains_key(pid)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Pid, &Peer<D>)> {
        self.known.iter()
    }

    pub(super) fn of_node(&self, node: &NodeName) -> impl Iterator<Item = (&Pid, &Peer<D>)> {
        self.known.iter().filter(move |(pid, _)| pid.node == *node)
    }

    /// Who has to go before another peer of a node may come: the oldest, if there are many.
    pub(super) fn crowded_out(&self, node: &NodeName) -> Option<&Pid> {
        let oldest = self.of_node(node).min_by_key(|(_, peer)| peer.since);
        oldest.filter(|_| self.of_node(node).count() >= MOST_OF_NODE).map(|(pid, _)| pid)
    }

    /// Whose data the view holds for a node.
    pub(super) fn shown(&self, node: &NodeName) -> Option<&Pid> {
        self.shown.get(node)
    }

    pub(super) fn show(&mut self, node: &NodeName, pid: Option<Pid>) {
        match pid {
            Some(pid) => self.shown.insert(node.clone(), pid),
            None => self.shown.remove(node),
        };
    }

    /// Whose data the view should hold for a node: the youngest whose data is here.
    pub(super) fn speaker(&self, node: &NodeName) -> Option<&Pid> {
        self.of_node(node)
            .filter(|(_, peer)| peer.synced)
            .max_by_key(|(_, peer)| peer.since)
            .map(|(pid, _)| pid)
    }

    pub(super) fn all_shown(&self) -> impl Iterator<Item = (&NodeName, &Pid)> {
        self.shown.iter()
    }
}
