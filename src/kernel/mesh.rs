//! Finding nodes and finding them again: seeds, nodes we were connected to, and those that
//! connected nodes know.
//!
//! BEAM nodes tell each other of new ones through `global`, and never of us. So a member has to look
//! for itself, or its scope isn't whole: each node that comes up, and every second some of those
//! that are, are asked for their `nodes()` (`rex`, as `rpc:call` did) and for what `global` knows
//! (`get_known`; it serves hidden nodes too). In a full mesh each of them knows all, so a few
//! questions a second find any new node, however many there are.
//!
//! A node that can't be reached is tried again after 1 s doubling to 30 s, give or take a fifth, so
//! that a cluster that comes back isn't met by everybody at once.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::atom;
use crate::gen_server;
use crate::node::{ConnectError, DownReason, Node, NodeEvent};
use crate::term::{Destination, NodeName, Term};
use crate::tuple;

const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How often connected nodes are asked whom they know, and how many of them, drawn by chance.
const ASK_AGAIN: Duration = Duration::from_secs(1);
const ASKED_AT_ONCE: usize = 4;
/// How many nodes are remembered; far above what a full mesh can be.
const MOST_NODES: usize = 1024;

/// Starts the search. Its task ends with the node.
pub(super) fn start(node: &Node, seeds: Vec<NodeName>, ask: bool) {
    // Subscribed before anything can connect, so that no event is missed.
    let events = node.events();
    let mut known = Known::default();
    for seed in seeds {
        if seed != *node.name() {
            known.0.insert(seed, Place::to_dial());
        }
    }
    // A weak hold: the search must not keep a dropped node alive.
    let search = Search { node: node.downgrade(), known, ask, tasks: JoinSet::new() };
    let stopped = node.stopped();
    tokio::spawn(async move {
        tokio::select! {
            () = stopped.cancelled() => {}
            () = search.run(events) => {}
        }
    });
}

struct Search {
    node: crate::node::WeakNode,
    known: Known,
    ask: bool,
    tasks: JoinSet<Found>,
}

/// What a task of the search brings.
enum Found {
    Dialled(NodeName, Result<(), ConnectError>),
    Nodes(Vec<NodeName>),
}

#[derive(Default)]
struct Known(BTreeMap<NodeName, Place>);

#[derive(Debug)]
enum Place {
    Up,
    Dialling {
        pause: Duration,
    },
    Waiting {
        until: Instant,
        pause: Duration,
    },
    /// Disconnected on purpose: only the other end brings it back.
    Left,
}

impl Place {
    fn to_dial() -> Self {
        Self::Waiting { until: Instant::now(), pause: FIRST_PAUSE }
    }
}

impl Search {
    async fn run(mut self, mut events: crate::node::NodeEvents) {
        let mut ask_at = Instant::now() + ASK_AGAIN;
        loop {
            self.dial_those_due();
            let next = self.known.next_due().map_or(ask_at, |due| due.min(ask_at));
            tokio::select! {
                event = events.next() => match event {
                    Some(event) => self.note(event),
                    None => return,
                },
                Some(found) = self.tasks.join_next() => match found {
                    Ok(Found::Dialled(peer, result)) => self.dialled(&peer, result),
                    Ok(Found::Nodes(nodes)) => self.add(nodes),
                    Err(_) => {}
                },
                () = tokio::time::sleep_until(next) => {}
            }
            if Instant::now() >= ask_at {
                ask_at = Instant::now() + ASK_AGAIN;
                let mut up: Vec<_> = self.known.up().cloned().collect();
                for _ in 0..ASKED_AT_ONCE.min(up.len()) {
                    let peer = up.swap_remove(rand::random_range(..up.len()));
                    self.ask(&peer);
                }
            }
        }
    }

    fn note(&mut self, event: NodeEvent) {
        match event {
            NodeEvent::Up { node, .. } => {
                self.ask(&node);
                self.known.0.insert(node, Place::Up);
            }
            NodeEvent::Down { node, reason } => {
                let place = match reason {
                    DownReason::Disconnected | DownReason::Stopped => Place::Left,
                    _ => Place::to_dial(),
                };
                self.known.0.insert(node, place);
            }
        }
    }

    fn dialled(&mut self, peer: &NodeName, result: Result<(), ConnectError>) {
        let Some(place @ Place::Dialling { .. }) = self.known.0.get_mut(peer) else { return };
        let Place::Dialling { pause } = *place else { return };
        if let Err(error) = result {
            if pause == FIRST_PAUSE {
                log::info!("{peer}: {error}; trying again");
            }
            let until = Instant::now() + pause.mul_f64(rand::random_range(0.8..1.2));
            *place = Place::Waiting { until, pause: (pause * 2).min(LONGEST_PAUSE) };
        } else {
            // `Up` is told by the event, which may be a moment later.
            *place = Place::Waiting { until: Instant::now() + FIRST_PAUSE, pause: FIRST_PAUSE };
        }
    }

    fn add(&mut self, nodes: Vec<NodeName>) {
        let Some(node) = self.node.upgrade() else { return };
        for peer in nodes {
            if peer != *node.name() && self.known.0.len() < MOST_NODES {
                self.known.0.entry(peer).or_insert_with(Place::to_dial);
            }
        }
    }

    fn dial_those_due(&mut self) {
        let now = Instant::now();
        for (peer, place) in &mut self.known.0 {
            let Place::Waiting { until, pause } = *place else { continue };
            if until > now {
                continue;
            }
            *place = Place::Dialling { pause };
            let (node, peer) = (self.node.clone(), peer.clone());
            self.tasks.spawn(async move {
                let result = node.connect(&peer).await;
                Found::Dialled(peer, result)
            });
        }
    }

    fn ask(&mut self, peer: &NodeName) {
        if !self.ask {
            return;
        }
        for (name, request) in [
            (atom!("rex"), nodes_request()),
            (atom!("global_name_server"), atom!("get_known").into()),
        ] {
            let Some(caller) = self.node.upgrade().map(|node| node.spawn()) else { return };
            let to = Destination::Name(name, peer.clone());
            self.tasks.spawn(async move {
                let reply = gen_server::call_connected(caller, &to, request).await;
                Found::Nodes(reply.map(|term| read_nodes(&term)).unwrap_or_default())
            });
        }
    }
}

impl Known {
    fn next_due(&self) -> Option<Instant> {
        let due = self.0.values().filter_map(|place| match place {
            Place::Waiting { until, .. } => Some(*until),
            _ => None,
        });
        due.min()
    }

    fn up(&self) -> impl Iterator<Item = &NodeName> {
        self.0.iter().filter(|(_, place)| matches!(place, Place::Up)).map(|(peer, _)| peer)
    }
}

/// `erlang:nodes()`, as `rpc:call/4` asked for it before OTP 23 and `rex` still answers.
fn nodes_request() -> Term {
    tuple![atom!("call"), atom!("erlang"), atom!("nodes"), Term::NIL, atom!("user")]
}

fn read_nodes(term: &Term) -> Vec<NodeName> {
    let Ok(list) = term.list() else { return Vec::new() };
    list.iter().filter_map(|node| node.node_name().ok()).collect()
}
