//! Which node is connected, is being connected to, or is knocking: one place per node name.
//!
//! A place goes `free -> setting up -> up -> free`. Setting up has an attempt number; only the
//! attempt that holds the place may bring the connection up, so of two that cross (both ends dial at
//! once, a node dials anew before its old handshake has died) exactly one does.

use std::collections::hash_map::Entry;
use std::sync::{Arc, RwLock};

use rustc_hash::FxHashMap;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::Connection;
use super::handshake::{Admission, Refusal};
use crate::node::ConnectError;
use crate::term::NodeName;

/// The places of all nodes.
#[derive(Debug, Default)]
pub(crate) struct Table(RwLock<Places>);

#[derive(Debug, Default)]
struct Places {
    by_name: FxHashMap<NodeName, Place>,
    last_attempt: u64,
    /// The node has stopped: no place is filled any more.
    stopped: bool,
}

#[derive(Debug)]
enum Place {
    SettingUp(Setup),
    Up(Arc<Connection>),
}

/// How an attempt ended; `None` while it hasn't.
pub(crate) type Outcome = watch::Receiver<Option<Result<(), Failed>>>;

/// Why there is no connection after an attempt.
#[derive(Clone, Debug)]
pub(crate) enum Failed {
    /// Ours has failed.
    Ours(ConnectError),
    /// The peer's own has, to which ours gave way. It may have been given up long ago, or be that of
    /// somebody who only claims the name: it says nothing of what ours would have come to.
    Theirs,
}

/// A place that is being filled.
#[derive(Clone, Debug)]
struct Setup {
    attempt: Attempt,
    stage: Stage,
    /// Ends the attempt, when another takes its place.
    cancel: CancellationToken,
    /// For those who wait for a connection to this node, whichever attempt brings it.
    outcome: Arc<watch::Sender<Option<Result<(), Failed>>>>,
}

/// How far an attempt has come, as far as it matters to the other end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stage {
    /// We look for the peer, and it knows nothing of it; or it has told us to wait for its own dial.
    /// Whatever comes from it is welcome: told to wait for ours, it might wait in vain.
    Looking,
    /// We tell it our name.
    Dialling,
    /// It has told us its name.
    Serving,
}

/// The number of an attempt.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Attempt(u64);

/// What to do for somebody who wants a connection.
pub(crate) enum Claim {
    /// It's up.
    Up,
    /// Somebody is at it.
    Wait(Outcome),
    /// The caller has the place now and dials.
    Dial(Attempt, CancellationToken, Outcome),
    /// No: the node has stopped.
    Stopped,
}

/// What to do for somebody who told a name at our door.
#[derive(Debug)]
pub(crate) enum Knock {
    /// Go on, unless another attempt takes the place, which cancels this one.
    Admit(Admission, Attempt, CancellationToken),
    Refuse(Refusal),
}

impl Table {
    /// The connection to a node, if it's up.
    pub(crate) fn up(&self, peer: &NodeName) -> Option<Arc<Connection>> {
        match self.read().by_name.get(peer) {
            Some(Place::Up(connection)) => Some(connection.clone()),
            _ => None,
        }
    }

    /// All connections that are up, sorted by name.
    pub(crate) fn all_up(&self) -> Vec<Arc<Connection>> {
        let mut all: Vec<_> = (self.read().by_name.values())
            .filter_map(|place| match place {
                Place::Up(connection) => Some(connection.clone()),
                Place::SettingUp(_) => None,
            })
            .collect();
        all.sort_unstable_by(|a, b| a.peer().cmp(b.peer()));
        all
    }

    /// Somebody wants a connection to this node.
    pub(crate) fn claim(&self, peer: &NodeName) -> Claim {
        let mut places = self.write();
        if places.stopped {
            return Claim::Stopped;
        }
        let attempt = places.next_attempt();
        match places.by_name.entry(peer.clone()) {
            Entry::Occupied(place) => match place.get() {
                Place::Up(_) => Claim::Up,
                Place::SettingUp(setup) => Claim::Wait(setup.outcome.subscribe()),
            },
            Entry::Vacant(place) => {
                let (outcome, receiver) = watch::channel(None);
                let cancel = CancellationToken::new();
                place.insert(Place::SettingUp(Setup {
                    attempt,
                    stage: Stage::Looking,
                    cancel: cancel.clone(),
                    outcome: Arc::new(outcome),
                }));
                Claim::Dial(attempt, cancel, receiver)
            }
        }
    }

    /// A node has told its name at our door.
    ///
    /// The rule for crossing dials is the BEAM's: the one by the node with the greater name counts
    /// (`net_kernel:handle_info({accept_pending, ...})`). But ours counts only once our name is on
    /// its way, as on OTP 29: a BEAM told to wait for a dial that hangs in EPMD or in a firewall waits
    /// for 7 s.
    pub(crate) fn knock(&self, us: &NodeName, peer: &NodeName, most: usize) -> Knock {
        let mut places = self.write();
        let attempt = places.next_attempt();
        let up = places.by_name.values().filter(|place| matches!(place, Place::Up(_))).count();
        let cancel = CancellationToken::new();
        let fresh = Setup {
            attempt,
            stage: Stage::Serving,
            cancel: cancel.clone(),
            outcome: Arc::new(watch::channel(None).0),
        };
        if places.stopped {
            return Knock::Refuse(Refusal::NotAllowed);
        }
        let admission = match places.by_name.entry(peer.clone()) {
            Entry::Occupied(mut place) => match place.get_mut() {
                Place::Up(_) => Admission::Alive,
                Place::SettingUp(setup) if setup.stage == Stage::Dialling && us > peer => {
                    return Knock::Refuse(Refusal::Nok);
                }
                Place::SettingUp(setup) => {
                    let crossing = setup.stage == Stage::Dialling;
                    setup.cancel.cancel();
                    *setup = Setup { outcome: setup.outcome.clone(), ..fresh };
                    if crossing { Admission::OkSimultaneous } else { Admission::Ok }
                }
            },
            Entry::Vacant(_) if up >= most => return Knock::Refuse(Refusal::NotAllowed),
            Entry::Vacant(place) => {
                place.insert(Place::SettingUp(fresh));
                Admission::Ok
            }
        };
        Knock::Admit(admission, attempt, cancel)
    }

    /// A dial is about to tell our name. `false` when another attempt has its place.
    pub(crate) fn dialling(&self, peer: &NodeName, attempt: Attempt) -> bool {
        self.set_stage(peer, attempt, Stage::Dialling)
    }

    /// The peer has told a dial to wait for its own.
    pub(crate) fn give_way(&self, peer: &NodeName, attempt: Attempt) {
        self.set_stage(peer, attempt, Stage::Looking);
    }

    fn set_stage(&self, peer: &NodeName, attempt: Attempt, stage: Stage) -> bool {
        match self.write().by_name.get_mut(peer) {
            Some(Place::SettingUp(setup)) if setup.attempt == attempt => {
                setup.stage = stage;
                true
            }
            _ => false,
        }
    }

    /// The end of the node: all attempts end, and no other begins. What is up stays.
    pub(crate) fn stop(&self) {
        let mut places = self.write();
        places.stopped = true;
        places.by_name.retain(|peer, place| {
            if let Place::SettingUp(setup) = place {
                setup.cancel.cancel();
                let stopped = ConnectError::Stopped { node: peer.clone() };
                setup.outcome.send_replace(Some(Err(Failed::Ours(stopped))));
            }
            matches!(place, Place::Up(_))
        });
    }

    /// Whether the node has stopped.
    pub(crate) fn is_stopped(&self) -> bool {
        self.read().stopped
    }

    /// An attempt has failed. Those who wait for it hear of it, unless another has its place.
    pub(crate) fn fail(&self, peer: &NodeName, attempt: Attempt, failed: Failed) {
        let mut places = self.write();
        if let Entry::Occupied(place) = places.by_name.entry(peer.clone())
            && matches!(place.get(), Place::SettingUp(setup) if setup.attempt == attempt)
            && let Place::SettingUp(setup) = place.remove()
        {
            setup.outcome.send_replace(Some(Err(failed)));
        }
    }

    /// An attempt has succeeded. `false` when another has taken its place: its socket must close.
    ///
    /// Only for [`Router::bring_up`](crate::node::router::Router), which tells the observers.
    pub(crate) fn bring_up(
        &self,
        peer: &NodeName,
        attempt: Attempt,
        connection: &Arc<Connection>,
    ) -> bool {
        let mut places = self.write();
        match places.by_name.get_mut(peer) {
            Some(place) => match place {
                Place::SettingUp(setup) if setup.attempt == attempt => {
                    let outcome = setup.outcome.clone();
                    *place = Place::Up(connection.clone());
                    outcome.send_replace(Some(Ok(())));
                    true
                }
                _ => false,
            },
            None => false,
        }
    }

    /// A connection has closed: its place is free. Only for
    /// [`Router::close`](crate::node::router::Router).
    pub(crate) fn remove(&self, connection: &Connection) {
        let mut places = self.write();
        if let Entry::Occupied(place) = places.by_name.entry(connection.peer().clone())
            && matches!(place.get(), Place::Up(held) if held.id() == connection.id())
        {
            place.remove();
        }
    }

    /// A node that was up has proved that it starts anew: its attempt gets the place as soon as
    /// the old connection is out of it. `false` when somebody else was faster.
    pub(crate) fn take_over(&self, peer: &NodeName, attempt: Attempt) -> bool {
        let mut places = self.write();
        let setup = Setup {
            attempt,
            stage: Stage::Serving,
            cancel: CancellationToken::new(),
            outcome: Arc::new(watch::channel(None).0),
        };
        if places.stopped {
            return false;
        }
        match places.by_name.entry(peer.clone()) {
            Entry::Vacant(place) => {
                place.insert(Place::SettingUp(setup));
                true
            }
            Entry::Occupied(mut place) => match place.get_mut() {
                // Our own dial of the very last moment would only be told `alive`.
                Place::SettingUp(held) if held.stage != Stage::Serving => {
                    held.cancel.cancel();
                    *held = Setup { outcome: held.outcome.clone(), ..setup };
                    true
                }
                _ => false,
            },
        }
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Places> {
        self.0.read().expect("no panic under this lock")
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, Places> {
        self.0.write().expect("no panic under this lock")
    }
}

impl Places {
    fn next_attempt(&mut self) -> Attempt {
        self.last_attempt += 1;
        Attempt(self.last_attempt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> NodeName {
        NodeName::new(text).unwrap()
    }

    /// A place for `b@h`, of a dial that is about to tell our name.
    fn dialling() -> (Table, Attempt) {
        let table = Table::default();
        let Claim::Dial(attempt, ..) = table.claim(&name("b@h")) else { panic!("was free") };
        assert!(table.dialling(&name("b@h"), attempt));
        (table, attempt)
    }

    #[test]
    fn of_two_crossing_dials_the_greater_names_counts() {
        let knock = dialling().0.knock(&name("a@h"), &name("b@h"), 9);
        assert!(matches!(knock, Knock::Admit(Admission::OkSimultaneous, ..)), "{knock:?}");

        let knock = dialling().0.knock(&name("c@h"), &name("b@h"), 9);
        assert!(matches!(knock, Knock::Refuse(Refusal::Nok)), "{knock:?}");
    }

    #[test]
    fn nobody_is_told_to_wait_for_a_dial_that_has_not_told_our_name() {
        let table = Table::default();
        let Claim::Dial(lost, cancel, _) = table.claim(&name("b@h")) else { panic!("was free") };
        let knock = table.knock(&name("c@h"), &name("b@h"), 9);
        assert!(matches!(knock, Knock::Admit(Admission::Ok, ..)), "{knock:?}");
        assert!(cancel.is_cancelled());
        assert!(!table.dialling(&name("b@h"), lost));
    }

    #[test]
    fn a_dial_that_was_told_to_wait_lets_the_peers_own_in() {
        let (table, attempt) = dialling();
        table.give_way(&name("b@h"), attempt);
        let knock = table.knock(&name("c@h"), &name("b@h"), 9);
        assert!(matches!(knock, Knock::Admit(Admission::Ok, ..)), "{knock:?}");
    }

    #[test]
    fn when_the_node_stops_all_attempts_end_and_no_other_begins() {
        let table = Table::default();
        let Claim::Dial(attempt, cancel, outcome) = table.claim(&name("b@h")) else { panic!() };
        table.stop();
        assert!(cancel.is_cancelled());
        assert!(matches!(*outcome.borrow(), Some(Err(Failed::Ours(ConnectError::Stopped { .. })))));
        assert!(matches!(table.claim(&name("b@h")), Claim::Stopped));
        assert!(!table.take_over(&name("b@h"), attempt));
        let knock = table.knock(&name("a@h"), &name("b@h"), 9);
        assert!(matches!(knock, Knock::Refuse(Refusal::NotAllowed)), "{knock:?}");
    }

    #[test]
    fn an_attempt_that_lost_its_place_can_not_come_up_nor_fail_the_other() {
        let table = Table::default();
        let peer = name("b@h");
        let Claim::Dial(lost, cancel, outcome) = table.claim(&peer) else { panic!("was free") };
        let Knock::Admit(_, winner, _) = table.knock(&name("a@h"), &peer, 9) else { panic!() };

        assert!(cancel.is_cancelled());
        table.fail(&peer, lost, Failed::Ours(ConnectError::Timeout { node: peer.clone() }));
        assert!(outcome.borrow().is_none(), "who dialled waits for the winner");
        table.fail(&peer, winner, Failed::Theirs);
        assert!(outcome.borrow().is_some());
    }

    #[test]
    fn a_full_table_refuses_strangers() {
        let table = Table::default();
        let knock = table.knock(&name("a@h"), &name("b@h"), 0);
        assert!(matches!(knock, Knock::Refuse(Refusal::NotAllowed)), "{knock:?}");
    }
}
