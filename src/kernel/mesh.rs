//! Finding nodes and finding them again: seeds, nodes we were connected to, those that connected
//! nodes know, and what the sources of a [`Discovery`](crate::discovery::Discovery) name.
//!
//! BEAM nodes tell each other of new ones through `global`, and never of us. So a member has to look
//! for itself, or its scope isn't whole: each node that comes up, and every second some of those
//! that are, are asked for their `nodes()` (`rex`, as `rpc:call` did) and for what `global` knows
//! (`get_known`; it serves hidden nodes too). In a full mesh each of them knows all, so a few
//! questions a second find any new node, however many there are.
//!
//! A node that can't be reached is tried again after 1 s doubling to 30 s, give or take a fifth, so
//! that a cluster that comes back isn't met by everybody at once. One whose connections don't hold is
//! left alone for up to 2 s: to come and go many times a second would be an attack. A node that is gone for a day is
//! forgotten, unless it's a seed: where names are used once, most of those known would be dead.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::atom;
use crate::discovery::Source;
use crate::gen_server;
use crate::node::{ConnectError, DownReason, Node, NodeEvent, Sought};
use crate::term::{Destination, NodeName, Term};
use crate::tuple;
use crate::wire::Flags;

/// The pause before the second try; each further one is twice as long, up to [`Limits::redial_time`].
///
/// [`Limits::redial_time`]: crate::node::Limits::redial_time
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause after a connection that came up and didn't hold.
const LONGEST_AFTER_UP: Duration = Duration::from_secs(2);
/// How often connected nodes are asked whom they know, and how many of them, drawn by chance.
const ASK_AGAIN: Duration = Duration::from_secs(1);
const ASKED_AT_ONCE: usize = 4;
/// How many nodes are remembered; far above what a full mesh can be.
const MOST_NODES: usize = 1024;
/// A connection that lasted so long was a good one: when it's lost, the node is dialled at once.
const HELD: Duration = Duration::from_secs(5);
/// A node that is gone for so long is forgotten if another is heard of and there's no room.
const LONG_GONE: Duration = Duration::from_secs(10 * 60);
/// A node that is gone for so long is forgotten.
const FORGOTTEN: Duration = Duration::from_secs(24 * 60 * 60);

/// How often a source is asked; the longest pause after one that failed; how long one may take.
const POLL: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
const PATIENCE: Duration = Duration::from_secs(30);

/// Starts the search. Its task ends with the node, and with it those of the sources.
pub(super) fn start(node: &Node, seeds: Vec<NodeName>, ask: bool, sources: Vec<Source>) {
    // Subscribed before anything can connect, so that no event is missed.
    let events = node.events();
    let mut known = Known::default();
    for seed in seeds {
        if seed != *node.name() {
            known.0.insert(seed, Peer::new(Instant::now(), true));
        }
    }
    // A weak hold: the search must not keep a dropped node alive.
    let (sender, names) = mpsc::channel(16);
    let mut polls = JoinSet::new();
    for source in sources {
        polls.spawn(poll(source, sender.clone()));
    }
    let search = Search {
        node: node.downgrade(),
        known,
        longest: node.router().limits().redial_time,
        ask,
        tasks: JoinSet::new(),
        names,
        _polls: polls,
    };
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
    longest: Longest,
    ask: bool,
    tasks: JoinSet<Found>,
    /// What the sources name.
    names: mpsc::Receiver<Vec<NodeName>>,
    /// Each asks one source again and again; they end with the search.
    _polls: JoinSet<()>,
}

/// What a task of the search brings.
enum Found {
    Dialled(NodeName, Result<(), ConnectError>),
    Nodes(Vec<NodeName>),
}

#[derive(Default)]
struct Known(BTreeMap<NodeName, Peer>);

/// The longest pause before a node is dialled again.
type Longest = Duration;

#[derive(Debug)]
struct Peer {
    place: Place,
    /// What is waited before the next try but one.
    pause: Duration,
    /// Why it couldn't be dialled the last time.
    last: Option<ConnectError>,
    /// When it came up last, or went; else when it was heard of.
    seen: Instant,
    seed: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Place {
    Up,
    Dialling,
    Waiting {
        until: Instant,
    },
    /// Disconnected on purpose: only the other end brings it back.
    Left,
}

impl Peer {
    /// One to be dialled now.
    fn new(now: Instant, seed: bool) -> Self {
        let place = Place::Waiting { until: now };
        Self { place, pause: Duration::ZERO, last: None, seen: now, seed }
    }

    fn up(&mut self, now: Instant) {
        self.place = Place::Up;
        self.last = None;
        self.pause = self.pause.min(LONGEST_AFTER_UP);
        self.seen = now;
    }

    fn down(&mut self, now: Instant, on_purpose: bool, longest: Longest) {
        if now >= self.seen + HELD {
            self.pause = Duration::ZERO;
        }
        self.seen = now;
        if on_purpose {
            self.place = Place::Left;
        } else {
            self.wait(now, Duration::ZERO, longest);
        }
    }

    fn wait(&mut self, now: Instant, least: Duration, longest: Longest) {
        let pause = self.pause.max(least).min(longest);
        self.place = Place::Waiting { until: now + pause.mul_f64(rand::random_range(0.8..1.2)) };
        self.pause = (pause * 2).max(FIRST_PAUSE);
    }

    /// Whether it has been gone for so long and isn't to be kept in any case.
    fn is_gone_for(&self, time: Duration, now: Instant) -> bool {
        let here = matches!(self.place, Place::Up | Place::Dialling);
        !self.seed && !here && now >= self.seen + time
    }
}

impl Search {
    async fn run(mut self, mut events: crate::node::NodeEvents) {
        let mut ask_at = Instant::now() + ASK_AGAIN;
        loop {
            self.dial_those_due();
            self.show();
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
                Some(nodes) = self.names.recv() => self.add(nodes),
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
            // One that got its name from us can't be found again, and nobody knows it but us.
            NodeEvent::Up { flags, .. } if flags.contains(Flags::NAME_ME) => {}
            NodeEvent::Up { node, .. } => {
                self.ask(&node);
                let now = Instant::now();
                self.known.make_room(now, Duration::ZERO);
                self.known.0.entry(node).or_insert_with(|| Peer::new(now, false)).up(now);
            }
            NodeEvent::Down { node, reason } => {
                let on_purpose = matches!(reason, DownReason::Disconnected | DownReason::Stopped);
                if let Some(peer) = self.known.0.get_mut(&node) {
                    peer.down(Instant::now(), on_purpose, self.longest);
                }
            }
        }
    }

    fn dialled(&mut self, peer: &NodeName, result: Result<(), ConnectError>) {
        let Some(known) = self.known.0.get_mut(peer) else { return };
        if known.place != Place::Dialling {
            return;
        }
        let now = Instant::now();
        if let Err(error) = result {
            let first = known.pause <= FIRST_PAUSE;
            // It logs each refusal, and what is amiss won't mend within a second.
            let refused = matches!(
                error,
                ConnectError::BadCookie { .. }
                    | ConnectError::NotAllowed { .. }
                    | ConnectError::WrongName { .. }
            );
            let least = if refused && !known.seed { self.longest } else { FIRST_PAUSE };
            known.wait(now, least, self.longest);
            if first && let Place::Waiting { until } = known.place {
                let pause = (until - now).as_secs_f64();
                log::info!(node:% = peer, error:%; "{peer}: {error}; trying again in {pause:.1} s");
            }
            known.last = Some(error);
        } else {
            // `Up` is told by the event, which may be a moment later.
            known.place = Place::Waiting { until: now + FIRST_PAUSE };
        }
    }

    fn add(&mut self, nodes: Vec<NodeName>) {
        let Some(node) = self.node.upgrade() else { return };
        let now = Instant::now();
        for peer in nodes {
            let news = peer != *node.name() && !self.known.0.contains_key(&peer);
            if news && self.known.make_room(now, LONG_GONE) {
                self.known.0.insert(peer, Peer::new(now, false));
            }
        }
    }

    fn dial_those_due(&mut self) {
        let now = Instant::now();
        self.known.0.retain(|_, peer| !peer.is_gone_for(FORGOTTEN, now));
        for (peer, known) in &mut self.known.0 {
            let Place::Waiting { until } = known.place else { continue };
            if until > now {
                continue;
            }
            known.place = Place::Dialling;
            let (node, peer) = (self.node.clone(), peer.clone());
            self.tasks.spawn(async move {
                let result = node.connect(&peer).await;
                Found::Dialled(peer, result)
            });
        }
    }

    /// For those who wait for one of them.
    fn show(&self) {
        let Some(node) = self.node.upgrade() else { return };
        node.router().sought().set(self.known.sought().collect());
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

/// Asks a source for ever. What it fails by is said once for as long as it lasts.
async fn poll(source: Source, names: mpsc::Sender<Vec<NodeName>>) {
    let (mut last_error, mut pause) = (String::new(), FIRST_PAUSE);
    loop {
        let asked = tokio::time::timeout(PATIENCE, source.0.nodes()).await;
        let late = |_| Err(std::io::ErrorKind::TimedOut.into());
        let wait = match asked.unwrap_or_else(late) {
            Ok(nodes) => {
                log::debug!("{source:?}: {nodes:?}");
                if names.send(nodes).await.is_err() {
                    return;
                }
                (last_error, pause) = (String::new(), FIRST_PAUSE);
                POLL
            }
            Err(error) => {
                if error.to_string() != last_error {
                    log::warn!("{source:?}: {error}; trying again");
                    last_error = error.to_string();
                }
                let longer = (pause * 2).min(LONGEST_PAUSE);
                std::mem::replace(&mut pause, longer)
            }
        };
        tokio::time::sleep(wait.mul_f64(rand::random_range(0.8..1.2))).await;
    }
}

impl Known {
    fn next_due(&self) -> Option<Instant> {
        let due = self.0.values().filter_map(|peer| match peer.place {
            Place::Waiting { until } => Some(until),
            _ => None,
        });
        due.min()
    }

    /// Whether one more may be remembered, if need be instead of the one that is gone for longest,
    /// and for `at_least` so long.
    fn make_room(&mut self, now: Instant, at_least: Duration) -> bool {
        if self.0.len() < MOST_NODES {
            return true;
        }
        let gone = self.0.iter().filter(|(_, peer)| peer.is_gone_for(at_least, now));
        let gone = gone.min_by_key(|(_, peer)| peer.seen).map(|(name, _)| name.clone());
        gone.and_then(|name| self.0.remove(&name)).is_some()
    }

    /// Those who are looked for.
    fn sought(&self) -> impl Iterator<Item = Sought> {
        self.0.iter().filter_map(|(node, peer)| {
            let next = match peer.place {
                Place::Up | Place::Left => return None,
                Place::Dialling => None,
                Place::Waiting { until } => Some(until.into_std()),
            };
            Some(Sought { node: node.clone(), seed: peer.seed, last: peer.last.clone(), next })
        })
    }

    fn up(&self) -> impl Iterator<Item = &NodeName> {
        self.0.iter().filter(|(_, peer)| peer.place == Place::Up).map(|(name, _)| name)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn name(i: usize) -> NodeName {
        NodeName::new(format!("n{i}@h").as_str()).unwrap()
    }

    fn waits(peer: &Peer, now: Instant) -> Duration {
        let Place::Waiting { until } = peer.place else { panic!("{peer:?}") };
        until - now
    }

    #[test]
    fn a_good_connection_is_sought_at_once_and_a_bad_one_after_a_pause() {
        let mut now = Instant::now();
        let mut peer = Peer::new(now, false);
        assert_eq!(waits(&peer, now), Duration::ZERO);
        let mut times = Vec::new();
        for _ in 0..8 {
            peer.up(now);
            peer.down(now, false, LONGEST_PAUSE);
            times.push(waits(&peer, now));
        }
        assert_eq!(times[0], Duration::ZERO);
        assert!(times[3] > FIRST_PAUSE && times[7] < LONGEST_AFTER_UP * 2, "{times:?}");

        peer.up(now);
        now += HELD;
        peer.down(now, false, LONGEST_PAUSE);
        assert_eq!(waits(&peer, now), Duration::ZERO);
    }

    #[test]
    fn pauses_double_from_a_second_to_the_longest() {
        let (now, longest) = (Instant::now(), Duration::from_secs(10));
        let mut peer = Peer::new(now, true);
        for pause in [1, 2, 4, 8, 10, 10] {
            peer.wait(now, FIRST_PAUSE, longest);
            let part = waits(&peer, now).as_secs_f64() / f64::from(pause);
            assert!((0.79..1.21).contains(&part), "{pause}: {:?}", waits(&peer, now));
        }
    }

    #[test]
    fn who_is_looked_for_is_told_with_the_last_failure_and_the_next_try() {
        let now = Instant::now();
        let mut known = Known::default();
        known.0.insert(name(0), Peer::new(now, true));
        let mut tried = Peer::new(now, false);
        tried.wait(now, FIRST_PAUSE, LONGEST_PAUSE);
        tried.last = Some(ConnectError::Timeout { node: name(1) });
        known.0.insert(name(1), tried);
        let mut up = Peer::new(now, true);
        up.last = Some(ConnectError::Timeout { node: name(2) });
        up.up(now);
        known.0.insert(name(2), up);

        let sought: Vec<_> = known.sought().collect();
        let names: Vec<_> = sought.iter().map(|sought| (&sought.node, sought.seed)).collect();
        assert_eq!(names, [(&name(0), true), (&name(1), false)]);
        assert!(sought[0].last.is_none() && sought[0].next.is_some());
        assert!(matches!(sought[1].last, Some(ConnectError::Timeout { .. })));
        assert!(sought[1].next > Some(now.into_std()));
        // The failures of before its connection say nothing about the next ones.
        let up = known.0.get_mut(&name(2)).unwrap();
        up.down(now, false, LONGEST_PAUSE);
        assert!(known.sought().last().unwrap().last.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_source_that_fails_is_asked_again_after_ever_longer_pauses() {
        let (asked, mut times) = mpsc::unbounded_channel();
        let tries = std::sync::atomic::AtomicUsize::new(0);
        let source = move || {
            let number = tries.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let _ = asked.send(Instant::now());
            async move {
                match number {
                    0..7 => Err(std::io::Error::other("broken")),
                    _ => Ok(vec![name(number)]),
                }
            }
        };
        let (sender, mut names) = mpsc::channel(16);
        let poll = tokio::spawn(poll(Source(std::sync::Arc::new(source)), sender));

        assert_eq!(names.recv().await, Some(vec![name(7)]));
        assert_eq!(names.recv().await, Some(vec![name(8)]));
        poll.abort();
        let mut before = times.recv().await.unwrap();
        for pause in [1, 2, 4, 8, 16, 30, 30, 5] {
            let now = times.recv().await.unwrap();
            let part = (now - before).as_secs_f64() / f64::from(pause);
            assert!((0.79..1.21).contains(&part), "{pause}: {:?}", now - before);
            before = now;
        }
    }

    #[test]
    fn those_who_are_gone_for_long_make_room() {
        let start = Instant::now();
        let mut known = Known::default();
        known.0.insert(name(0), Peer::new(start, true));
        for i in 1..MOST_NODES {
            assert!(known.make_room(start, LONG_GONE));
            known.0.insert(name(i), Peer::new(start + Duration::from_secs(i as u64), false));
        }
        let now = start + LONG_GONE;
        assert!(!known.make_room(now, LONG_GONE), "only the seed is gone for so long");
        assert!(known.make_room(now + Duration::from_secs(1), LONG_GONE));
        assert!(known.0.contains_key(&name(0)) && !known.0.contains_key(&name(1)));
    }
}
