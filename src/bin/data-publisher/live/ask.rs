//! What connected nodes say when they're asked: how long an answer takes, and whom they are connected to.
//!
//! Only nodes that are connected are asked, never one that isn't is dialled for it; four questions a second in all, and
//! one node every two seconds at most, so that a large cluster doesn't notice. `net_kernel` is asked as
//! `net_adm:ping/1` does, `rex` as `rpc:call/4` did before OTP 23; nodes of all releases and our own answer both.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use data_publisher::gen_server::call_connected;
use data_publisher::term::{Destination, NodeName, Term};
use data_publisher::{Node, atom, list, tuple};

/// How often somebody is asked, and how many at once.
const EACH: Duration = Duration::from_secs(1);
const AT_ONCE: usize = 4;

/// A node is asked for a sign of life as often at most, and for its nodes.
const ALIVE: Duration = Duration::from_secs(2);
const NODES: Duration = Duration::from_secs(10);

/// Nodes of a node that are remembered.
const MOST_NODES: usize = 1024;

/// What a node has said.
#[derive(Clone, Debug, Default)]
pub(super) struct Said {
    /// How long its last answer took; `None` if it has given none yet or the last one didn't come.
    pub(super) round_trip: Option<Duration>,
    /// Those it is connected to, sorted.
    pub(super) nodes: Arc<[NodeName]>,
    asked: Option<Instant>,
    asked_for_nodes: Option<Instant>,
}

/// What all have said.
#[derive(Clone, Debug, Default)]
pub(super) struct Answers(Arc<Mutex<BTreeMap<NodeName, Said>>>);

impl Answers {
    pub(super) fn all(&self) -> BTreeMap<NodeName, Said> {
        self.locked(|all| all.clone())
    }

    fn locked<T>(&self, with: impl FnOnce(&mut BTreeMap<NodeName, Said>) -> T) -> T {
        with(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whom to ask now, and whether for its nodes, too: those that were asked longest ago.
    fn due(&self, nodes: &[NodeName], now: Instant) -> Vec<(NodeName, bool)> {
        self.locked(|all| {
            all.retain(|node, _| nodes.binary_search(node).is_ok());
            for node in nodes {
                all.entry(node.clone()).or_default();
            }
            let is_due =
                |asked: Option<Instant>, each| asked.is_none_or(|asked| now >= asked + each);
            let mut due: Vec<_> =
                all.iter_mut().filter(|(_, said)| is_due(said.asked, ALIVE)).collect();
            due.sort_by_key(|(_, said)| said.asked);
            due.truncate(AT_ONCE);
            due.into_iter()
                .map(|(node, said)| {
                    let for_nodes = is_due(said.asked_for_nodes, NODES);
                    said.asked = Some(now);
                    if for_nodes {
                        said.asked_for_nodes = Some(now);
                    }
                    (node.clone(), for_nodes)
                })
                .collect()
        })
    }

    fn change(&self, node: &NodeName, change: impl FnOnce(&mut Said)) {
        self.locked(|all| all.get_mut(node).map(change));
    }
}

/// Asks again and again.
pub(super) async fn run(node: Node, answers: Answers) {
    let mut tick = tokio::time::interval(EACH);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        for (peer, for_nodes) in answers.due(&node.nodes(), Instant::now()) {
            let (node, answers) = (node.clone(), answers.clone());
            // Each ends by itself, after 5 s if there's no answer.
            tokio::spawn(async move {
                let began = Instant::now();
                let is_there = ask(&node, "net_kernel", &peer, is_auth(&node)).await.is_some();
                let took = is_there.then(|| began.elapsed());
                answers.change(&peer, |said| said.round_trip = took);
                if is_there && for_nodes {
                    let nodes = nodes_of(&node, &peer).await;
                    answers.change(&peer, |said| said.nodes = nodes);
                }
            });
        }
    }
}

async fn ask(node: &Node, name: &str, peer: &NodeName, request: Term) -> Option<Term> {
    let to = Destination::Name(name.parse().ok()?, peer.clone());
    call_connected(node.spawn(), &to, request).await.ok()
}

fn is_auth(node: &Node) -> Term {
    tuple![atom!("is_auth"), node.name()]
}

/// Whom it is connected to. Our own nodes know `nodes()` only.
async fn nodes_of(node: &Node, peer: &NodeName) -> Arc<[NodeName]> {
    for arguments in [list![atom!("connected")], Term::NIL] {
        let request =
            tuple![atom!("call"), atom!("erlang"), atom!("nodes"), arguments, atom!("user")];
        let Some(answer) = ask(node, "rex", peer, request).await else { break };
        if let Ok(names) = answer.list() {
            let names = names.iter().take(MOST_NODES).filter_map(|name| name.node_name().ok());
            let mut names: Vec<_> = names.collect();
            names.sort();
            return names.into();
        }
    }
    Arc::default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_asked_in_turn_and_a_few_at_once() {
        let name = |i: usize| NodeName::new(format!("n{i}@h").as_str()).unwrap();
        let nodes: Vec<_> = (0..6).map(name).collect();
        let (answers, now) = (Answers::default(), Instant::now());
        let names =
            |due: Vec<(NodeName, bool)>| due.into_iter().map(|(n, _)| n).collect::<Vec<_>>();

        assert_eq!(names(answers.due(&nodes, now)), nodes[..4]);
        let later = now + EACH;
        assert_eq!(names(answers.due(&nodes, later)), nodes[4..]);
        let due = answers.due(&nodes, now + ALIVE);
        assert!(due.iter().all(|(_, for_nodes)| !for_nodes), "{due:?}");
        assert_eq!(names(due), nodes[..4]);
        assert!(answers.due(&nodes, now + NODES).iter().any(|(_, for_nodes)| *for_nodes));
        assert_eq!(names(answers.due(&nodes[..1], now + NODES * 2)), nodes[..1]);
        assert_eq!(answers.all().len(), 1, "who isn't connected is forgotten");
    }
}
