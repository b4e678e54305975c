//! Who waits until every peer that is connected has answered.
//!
//! A node has answered when its scope's data is here, or when there is no such scope: a monitor of
//! the scope's name tells, which ends at once where nobody has it. Asked only while somebody waits.

use std::collections::{BTreeMap, BTreeSet};

use tokio::sync::oneshot;

use crate::node::{Monitored, Process};
use crate::term::{Atom, NodeName, Reference};

#[derive(Default)]
pub(super) struct Ready {
    waiting: Vec<Waiting>,
    /// The monitors of the scope's name on the nodes that somebody waits for.
    asked: BTreeMap<NodeName, Reference>,
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
            self.asked
                .entry(node.clone())
                .or_insert_with(|| process.monitor(Monitored::Name(scope.clone(), node.clone())));
        }
        self.waiting.push(Waiting { nodes, answer });
        self.tell();
    }

    pub(super) fn is_awaited(&self, node: &NodeName) -> bool {
        self.asked.contains_key(node)
    }

    /// The node has answered, or is gone.
    pub(super) fn settled(&mut self, node: &NodeName, process: &Process) {
        if let Some(reference) = self.asked.remove(node) {
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
        asked.find(|(_, asked)| *asked == reference).map(|(node, _)| node.clone())
    }

    fn tell(&mut self) {
        let done = |waiting: &mut Waiting| waiting.nodes.is_empty();
        for waiting in self.waiting.extract_if(.., done) {
            let _ = waiting.answer.send(());
        }
    }
}
