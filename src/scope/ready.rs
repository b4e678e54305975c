//! Who waits until every peer that is connected has answered.
//!
//! A node has answered when its scope's data is here, or when there is no such scope: a monitor of
//! the scope's name tells, which ends at once where nobody has it. Asked only while somebody waits.
//! Some who have the name never answer, those who only watch and standalone scopes: they are waited
//! for no longer than [`SILENCE`].

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::node::{Monitored, Process};
use crate::term::{Atom, NodeName, Reference};

/// Far above what the largest snapshot takes, which is all that an answer waits for.
const SILENCE: Duration = Duration::from_secs(30);

#[derive(Default)]
pub(super) struct Ready {
    waiting: Vec<Waiting>,
    /// The nodes that somebody waits for: since when, and our monitor of the scope's name there.
    asked: BTreeMap<NodeName, (Instant, Reference)>,
}

struct Waiting {
    nodes: BTreeSet<NodeName>,
    answer: oneshot::Sender<()>,
}

impl Ready {
    /// Somebody wants to know when all of these nodes have answered.
    pub(super) fn wait_for(
        &mut self,
        nodes: BTreeSet<NodeName>,
        answer: oneshot::Sender<()>,
        (process, scope): (&Process, &Atom),
    ) {
        self.waiting.retain(|waiting| !waiting.answer.is_closed());
        for node in &nodes {
            let name = || Monitored::Name(scope.clone(), node.clone());
            let ask = || (Instant::now(), process.monitor(name()));
            self.asked.entry(node.clone()).or_insert_with(ask);
        }
        self.waiting.push(Waiting { nodes, answer });
        self.tell();
    }

    /// All nodes that somebody waits for, sorted.
    pub(super) fn awaited(&mut self) -> Vec<NodeName> {
        self.waiting.retain(|waiting| !waiting.answer.is_closed());
        let all = self.waiting.iter().flat_map(|waiting| &waiting.nodes);
        all.cloned().collect::<BTreeSet<_>>().into_iter().collect()
    }

    pub(super) fn is_awaited(&self, node: &NodeName) -> bool {
        self.asked.contains_key(node)
    }

    /// The node has answered, or is gone.
    pub(super) fn settled(&mut self, node: &NodeName, process: &Process) {
        if let Some((_, reference)) = self.asked.remove(node) {
            process.demonitor(&reference);
            for waiting in &mut self.waiting {
                waiting.nodes.remove(node);
            }
            self.tell();
        }
    }

    /// The node whose monitor this was, if it's one of ours.
    pub(super) fn node_of(&self, reference: &Reference) -> Option<NodeName> {
        let mut asked = self.asked.iter();
        asked.find(|(_, (_, asked))| asked == reference).map(|(node, _)| node.clone())
    }

    /// When [`expire`](Self::expire) has something to do.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.asked.values().map(|(since, _)| *since + SILENCE).min()
    }

    /// Waits no longer for those who have been silent for too long.
    pub(super) fn expire(&mut self, now: Instant, process: &Process) {
        let is_due = |(since, _): &(Instant, Reference)| *since + SILENCE <= now;
        let due = self.asked.iter().filter(|(_, asked)| is_due(asked));
        for node in due.map(|(node, _)| node.clone()).collect::<Vec<_>>() {
            self.settled(&node, process);
        }
    }

    fn tell(&mut self) {
        let done = |waiting: &mut Waiting| waiting.nodes.is_empty();
        for waiting in self.waiting.extract_if(.., done) {
            let _ = waiting.answer.send(());
        }
    }
}
