//! Defects, planted between an engine and the world to see that the checks find them.

use data_publisher::engine::{Action, DataPublisher, Engine, Input, Version, Wire};
use data_publisher::term::{Destination, NodeName, Pid, Term};
use data_publisher::{atom, list, tuple};

use super::steps::Cause;
use super::{Scope, World};
use crate::subject::{Data, Subject};

/// What an engine, its publisher or its task could do wrong.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Mutant {
    // --- who is greeted, watched and told ---
    NoGreeting,
    NoDiscoverBack,
    NoReplyToKnown,
    SilentDrop,
    UpdateBeforeData,
    NoDownOfEndedScope,
    NoMonitor,
    /// Who is known by its local data isn't watched.
    NoMonitorOnData,
    /// A `Down` counts whatever monitor it's of.
    DownByPid,
    ReusedCreation,
    SendsOverNewerConnection,
    /// An update of a peer whose local data isn't here yet is applied.
    EarlyUpdateApplied,
    /// An update of somebody who is no peer is applied.
    StrangersUpdateApplied,
    /// `Down`s of a lost connection come after its successor.
    LateDown,
    /// What is large counts against the hard mark of the queue.
    SnapshotRefused,
    /// The end of a node's older scope takes what the younger one has published.
    OldDownTakesYoungest,

    // --- words of `pg` ---
    BagAsSet,
    JoinAsCast,
    LongDiscover,
    LeaveLost,

    // --- `kv` ---
    /// What was deleted while we were away stays.
    DeletesForgotten,

    // --- the next scope of the same node ---
    /// It owns nothing.
    NothingRestored,
    /// It takes over what the one before has left, but tells nobody until something changes.
    RestoredInSilence,

    // --- versions ---
    /// Our local data is labelled with the version of the receiver.
    LabelTooHigh,
    /// The label of a peer's local data is taken for the peer's version.
    VersionFromLabel,

    // --- what can't be read ---
    /// Of an update, what comes before it is applied.
    HalfApplied,
    /// It's left out, and the peer's data taken for what it was.
    UnreadablePassedOver,
    NeverAskedAgain,
    /// Timers fire after a second.
    AskedAtOnce,
    /// The peer is asked for each message that can't be read.
    AskedEachTime,
}

impl<S: Subject> World<S> {
    /// Alters what an engine is fed.
    pub(super) fn feed_mutant(&mut self, i: usize, input: Input<S::Publisher>) {
        let Some(mutant) = self.mutant else { return };
        let Some(Scope::Rust(rust)) = &self.nodes[i].scope else { return };
        let engine = &rust.engine;
        let is_synced = |peer: &Pid| engine.peer_data(peer).is_some();
        match (mutant, input) {
            (Mutant::BagAsSet, Input::Message { from, message }) => {
                let message = without_repetition(&message);
                self.feed(i, Input::Message { from, message });
            }
            (Mutant::NoDownOfEndedScope, Input::Down { pid, reason, .. })
                if reason.is_atom("noproc") && pid.node != *self.nodes[i].name() => {}
            (Mutant::DownByPid, Input::Down { monitor, pid, reason }) => {
                let current = engine.monitors().find(|(_, watched)| **watched == pid);
                let monitor = current.map_or(monitor, |(id, _)| id);
                self.feed(i, Input::Down { monitor, pid, reason });
            }
            (Mutant::EarlyUpdateApplied, Input::Message { from, message }) => {
                if let Some([Term::Pid(peer), _]) = message.tagged("update")
                    && engine.peers().any(|known| known.pid == *peer && !known.synced)
                {
                    let message = nothing::<S>(engine, peer);
                    self.feed(i, Input::Message { from: from.clone(), message });
                }
                self.feed(i, Input::Message { from, message });
            }
            (Mutant::StrangersUpdateApplied, Input::Message { from, message }) => {
                if let Some([Term::Pid(peer), _]) = message.tagged("update")
                    && engine.peers().all(|known| known.pid != *peer)
                    && peer.node == from
                {
                    let message = nothing::<S>(engine, peer);
                    self.feed(i, Input::Message { from: from.clone(), message });
                }
                self.feed(i, Input::Message { from, message });
            }
            (Mutant::OldDownTakesYoungest, Input::Down { monitor, pid, reason }) => {
                let of_node = |other: &Pid| other.node == pid.node && *other != pid;
                let other = engine.peers().map(|peer| peer.pid).find(of_node);
                let other = other.filter(is_synced);
                let message = other.map(|other| nothing::<S>(engine, &other));
                let from = pid.node.clone();
                self.feed(i, Input::Down { monitor, pid, reason });
                if let Some(message) = message {
                    self.feed(i, Input::Message { from, message });
                }
            }
            (Mutant::DeletesForgotten, Input::Message { from, message }) => {
                let message = with_what_was_deleted::<S>(engine, &message).unwrap_or(message);
                self.feed(i, Input::Message { from, message });
            }
            (Mutant::VersionFromLabel, Input::Message { from, message }) => {
                let known = message.tagged("$gen_cast").and_then(|cast| {
                    let Some([Term::Pid(peer), label, _]) = cast[0].tagged("local_data") else {
                        return None;
                    };
                    Some(tuple![atom!("discover"), peer, label])
                });
                self.feed(i, Input::Message { from: from.clone(), message });
                if let Some(message) = known {
                    self.run_engine(i, Cause::Other, None, |engine, actions| {
                        engine.handle(Input::Message { from, message }, actions);
                        actions.retain(|action| !matches!(action, Action::Send { .. }));
                    });
                }
            }
            (Mutant::AskedEachTime, Input::Message { from, message }) => {
                let before = engine.counters().unreadable;
                let cast = message.tagged("$gen_cast");
                let body = cast.map_or(&message, |cast| &cast[0]);
                let peer = body.tuple_elements().ok().and_then(|all| all.get(1)?.pid().ok());
                let peer = peer.cloned();
                self.feed(i, Input::Message { from, message });
                self.run_engine(i, Cause::Other, None, |engine, actions| {
                    if let Some(peer) = peer
                        && engine.counters().unreadable > before
                    {
                        let message = engine.publisher().hello(engine.me(), None);
                        actions.push(Action::Send { to: Destination::Pid(peer), message });
                    }
                });
            }
            (Mutant::UnreadablePassedOver, Input::Message { from, message }) => {
                self.pass_over_unreadable(i, from, message);
            }
            (Mutant::HalfApplied, Input::Message { from, message }) => {
                let half = message.tagged("update").and_then(|rest| match rest {
                    [peer, Term::List(changes)] if changes.len() > 1 => {
                        let first = changes.iter().next()?;
                        Some(tuple![atom!("update"), peer, list![first]])
                    }
                    _ => None,
                });
                let is_garbage = matches!(message.tagged("update"), Some([_, update]) if engine.publisher().read_update(update).is_err());
                if let Some(half) = half.filter(|_| is_garbage) {
                    self.feed(i, Input::Message { from: from.clone(), message: half });
                }
                self.feed(i, Input::Message { from, message });
            }
            (_, input) => self.feed(i, input),
        }
    }

    /// The peer's data is what it was before the message, if that can't be read.
    fn pass_over_unreadable(&mut self, i: usize, from: NodeName, message: Term) {
        let unreadable = |world: &Self| match &world.nodes[i].scope {
            Some(Scope::Rust(rust)) => rust.engine.counters().unreadable,
            _ => 0,
        };
        let Some(Scope::Rust(rust)) = &self.nodes[i].scope else { return };
        let engine = &rust.engine;
        let data = message.tagged("update").and_then(|rest| {
            let peer = rest.first()?.pid().ok()?;
            let version = engine.publisher().version();
            Some(local_data::<S>(engine, peer, &version, engine.peer_data(peer)?))
        });
        let before = unreadable(self);
        self.feed(i, Input::Message { from: from.clone(), message });
        if let Some(data) = data.filter(|_| unreadable(self) > before) {
            self.feed(i, Input::Message { from, message: data });
        }
    }

    /// Alters what an engine wants done. `known` are the peers before it.
    pub(super) fn mutate(
        &mut self,
        i: usize,
        cause: Cause,
        known: &[Pid],
        actions: &mut Vec<Action<S::Publisher>>,
    ) {
        let Some(mutant) = self.mutant else { return };
        let Some(Scope::Rust(rust)) = &mut self.nodes[i].scope else { return };
        let engine = &rust.engine;
        match mutant {
            Mutant::RestoredInSilence if rust.is_silent => {
                for action in actions.iter_mut() {
                    match action {
                        Action::Publish { .. } => rust.is_silent = false,
                        Action::Send { message, .. } => {
                            let Some([cast]) = message.tagged("$gen_cast") else { continue };
                            let Some([_, label, _]) = cast.tagged("local_data") else { continue };
                            let label = Version(label.clone());
                            *message = local_data::<S>(engine, engine.me(), &label, &S::nothing());
                        }
                        _ => {}
                    }
                }
            }
            Mutant::NoGreeting => actions
                .retain(|action| !matches!(action, Action::Send { to: Destination::Name(..), .. })),
            Mutant::NoDiscoverBack => actions.retain(|action| {
                !matches!(action, Action::Send { to: Destination::Pid(_), message }
                    if message.tagged("discover").is_some())
            }),
            Mutant::NoReplyToKnown => actions.retain(|action| {
                !matches!(action, Action::Send { to: Destination::Pid(pid), message }
                    if known.contains(pid) && message.tagged("$gen_cast").is_some())
            }),
            Mutant::SilentDrop => {
                actions.retain(|action| {
                    !matches!(action, Action::Publish { .. }) || !self.random.chance(5)
                });
            }
            Mutant::UpdateBeforeData => {
                for action in actions.iter_mut() {
                    if let Action::Publish { peers, .. } = action {
                        *peers = engine
                            .peers()
                            .filter(|peer| peer.version.is_none() || peers.contains(&peer.pid))
                            .map(|peer| peer.pid)
                            .collect();
                    }
                }
            }
            Mutant::NoMonitor => {
                actions.retain(|action| !matches!(action, Action::Monitor { .. }));
            }
            Mutant::NoMonitorOnData if cause == Cause::Data => {
                actions.retain(|action| !matches!(action, Action::Monitor { .. }));
            }
            Mutant::LabelTooHigh => {
                for action in actions.iter_mut() {
                    if let Action::Send { to: Destination::Pid(pid), message } = action
                        && let Some([cast]) = message.tagged("$gen_cast")
                        && let Some([me, _, data]) = cast.tagged("local_data")
                        && let Some(peer) = engine.peers().find(|peer| peer.pid == *pid)
                        && let Some(Version(version)) = peer.version
                    {
                        let data = tuple![atom!("local_data"), me, version, data];
                        *message = tuple![atom!("$gen_cast"), data];
                    }
                }
            }
            Mutant::NeverAskedAgain => actions.retain(|action| {
                !matches!(action, Action::Send { to: Destination::Pid(pid), message }
                    if known.contains(pid) && message.tagged("discover").is_some())
            }),
            Mutant::AskedAtOnce => {
                for action in actions.iter_mut() {
                    if let Action::After { delay, .. } = action {
                        *delay = std::time::Duration::from_secs(1);
                    }
                }
            }
            _ => S::mutate(mutant, engine, actions),
        }
    }
}

/// `{local_data, Peer, _, _}` that says that the peer owns nothing.
fn nothing<S: Subject>(engine: &Engine<S::Publisher>, peer: &Pid) -> Term {
    local_data::<S>(engine, peer, &engine.publisher().version(), &S::nothing())
}

fn local_data<S: Subject>(
    engine: &Engine<S::Publisher>,
    peer: &Pid,
    label: &Version,
    data: &Data<S>,
) -> Term {
    let Wire::Term(data) = engine.publisher().translate_local_data(peer, label, data) else {
        panic!("only for those who speak of local data");
    };
    tuple![atom!("$gen_cast"), tuple![atom!("local_data"), peer, &label.0, data]]
}

/// The local data of a known peer, with the keys added that were known of it before.
fn with_what_was_deleted<S: Subject>(
    engine: &Engine<S::Publisher>,
    message: &Term,
) -> Option<Term> {
    let [cast] = message.tagged("$gen_cast")? else { return None };
    let [Term::Pid(peer), label, Term::Map(new)] = cast.tagged("local_data")? else { return None };
    let version = engine.publisher().version();
    let old = local_data::<S>(engine, peer, &version, engine.peer_data(peer)?);
    let [cast] = old.tagged("$gen_cast")? else { return None };
    let [_, _, Term::Map(old)] = cast.tagged("local_data")? else { return None };
    let both = old.pairs().iter().chain(new.pairs()).cloned().collect();
    let data = tuple![atom!("local_data"), peer, label, Term::Map(both)];
    Some(tuple![atom!("$gen_cast"), data])
}

/// The mutant `BagAsSet`: who joined twice has joined once.
fn without_repetition(message: &Term) -> Term {
    match message {
        Term::Tuple(elements) => {
            Term::tuple_of(elements.iter().map(without_repetition).collect::<Vec<_>>())
        }
        Term::List(elements) => {
            let mut once: Vec<Term> = Vec::new();
            for element in elements.iter().map(without_repetition) {
                if !matches!(element, Term::Pid(_)) || !once.contains(&element) {
                    once.push(element);
                }
            }
            Term::list_of(once)
        }
        _ => message.clone(),
    }
}
