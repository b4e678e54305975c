//! What OTP's engine must know at each point of a transcript, drawn from its messages alone: who said
//! which version, whose data is here, what everybody owns. The [`rules`](super::rules) decide by it
//! where they apply.

use std::collections::{BTreeMap, BTreeSet};

use data_publisher::term::{NodeName, Pid, Reference, Term};
use data_publisher::{atom, list, tuple};

use super::transcript::Effect;

/// Whose callbacks were recorded.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Module {
    Pg,
    /// `dp_names`, in the format it writes at most.
    Names(i64),
}

pub(crate) struct Account {
    pub(crate) module: Module,
    pub(crate) me: Pid,
    pub(crate) version: Term,
    pub(crate) standalone: bool,
    pub(crate) own: Data,
    pub(crate) peers: BTreeMap<Pid, Peer>,
    /// Events of nodes that have two peers: OTP's and ours since then.
    pub(crate) overlap: BTreeMap<NodeName, (Vec<Effect>, Vec<Effect>)>,
    /// Monitors that have reported.
    pub(crate) ended: BTreeSet<Reference>,
}

pub(crate) struct Peer {
    /// The version of its latest hello.
    pub(crate) said: Option<Term>,
    /// The version OTP has stored for it.
    pub(crate) stored: Term,
    /// Whether its local data is here.
    pub(crate) synced: bool,
    /// Events that OTP has sent for updates before that.
    pub(crate) early: Vec<Effect>,
    pub(crate) data: Data,
}

/// What one node owns, each thing as often as it does: `{Group, Pid}` or `{Name, Weight}`.
#[derive(Clone, Default)]
pub(crate) struct Data(Vec<(Term, Term)>);

/// What a message says, whatever the dialect.
pub(crate) enum Said {
    Hello {
        peer: Pid,
        version: Term,
    },
    LocalData {
        peer: Pid,
        label: Term,
        data: Term,
    },
    /// An update of a peer, in the form of version 1 if it's one of `pg`.
    Update {
        peer: Pid,
        update: Term,
    },
    /// One of our own data.
    Own {
        update: Term,
    },
    /// A member of our own has ended.
    MemberDown {
        pid: Pid,
    },
    PeerDown {
        peer: Pid,
        reference: Reference,
    },
    SubscriberDown {
        reference: Reference,
    },
    Other,
}

impl Account {
    pub(crate) fn new(module: Module, me: Pid, version: Term, standalone: bool) -> Self {
        let (own, peers, overlap, ended) = Default::default();
        Self { module, me, version, standalone, own, peers, overlap, ended }
    }

    /// Differences that were set aside and never compared, which the end of a transcript must not
    /// leave behind.
    pub(crate) fn left_uncompared(&self) -> Option<String> {
        let early = self.peers.iter().find(|(_, peer)| !peer.early.is_empty());
        if let Some((pid, _)) = early {
            return Some(format!(
                "OTP told of early updates of {pid}, and its local data never came"
            ));
        }
        let (node, _) = self.overlap.first_key_value()?;
        Some(format!("of two peers of {node} neither has gone, so their events weren't compared"))
    }

    /// Notes what a rule must know of the message at hand.
    pub(crate) fn hears(&mut self, message: Option<&Term>) {
        match said(message) {
            Said::Hello { peer, version } if !self.standalone => {
                let known = self.peers.entry(peer).or_insert_with(|| Peer::new(&version));
                known.said = Some(version);
            }
            Said::PeerDown { reference, .. } | Said::SubscriberDown { reference } => {
                self.ended.insert(reference);
            }
            _ => {}
        }
    }

    /// Notes the rest of it.
    pub(crate) fn heard(&mut self, message: Option<&Term>) {
        let module = self.module;
        match said(message) {
            Said::LocalData { peer, label, data } => {
                let known = self.peers.entry(peer).or_insert_with(|| Peer::new(&label));
                known.stored = label;
                known.synced = true;
                known.early.clear();
                known.data = Data::read(module, &data);
            }
            Said::Update { peer, update } => {
                if let Some(known) = self.peers.get_mut(&peer) {
                    known.data.apply(module, &update);
                }
            }
            Said::Own { update } => {
                self.own.apply(module, &update);
            }
            Said::MemberDown { pid } => self.own.forget(&pid),
            Said::PeerDown { peer, .. } => {
                self.peers.remove(&peer);
            }
            _ => {}
        }
    }
}

impl Peer {
    fn new(version: &Term) -> Self {
        let (said, synced, early, data) = Default::default();
        Self { said, stored: version.clone(), synced, early, data }
    }
}

impl Data {
    fn read(module: Module, data: &Term) -> Self {
        let mut all = Vec::new();
        match (module, data) {
            (Module::Pg, Term::Map(groups)) => {
                for (group, pids) in groups.pairs() {
                    all.extend(elements(pids).iter().map(|pid| (group.clone(), pid.clone())));
                }
            }
            (Module::Pg, groups) => {
                for pair in elements(groups) {
                    if let Ok([group, pids]) = pair.tuple::<2>() {
                        all.extend(elements(pids).iter().map(|pid| (group.clone(), pid.clone())));
                    }
                }
            }
            (Module::Names(_), Term::Map(names)) => all.extend(names.pairs().iter().cloned()),
            (Module::Names(_), names) => {
                all.extend(elements(names).iter().map(|name| (name.clone(), 1.into())));
            }
        }
        Self(all)
    }

    /// Applies an update and gives back the part of it that changed something.
    pub(crate) fn apply(&mut self, module: Module, update: &Term) -> Term {
        let changes = elements(update);
        let effective = changes.iter().filter_map(|change| match module {
            Module::Pg => self.apply_groups(change),
            Module::Names(_) => self.apply_name(change).then(|| change.clone()),
        });
        Term::list_of(effective.collect::<Vec<_>>())
    }

    /// `{Group, Add, Remove}`
    fn apply_groups(&mut self, change: &Term) -> Option<Term> {
        let [group, add, remove] = change.tuple::<3>().ok()?;
        self.0.extend(elements(add).iter().map(|pid| (group.clone(), pid.clone())));
        let mut removed = elements(remove);
        removed.retain(|pid| self.take(|(of, known)| of == group && known == pid));
        let nothing = elements(add).is_empty() && removed.is_empty();
        (!nothing).then(|| tuple![group, add, Term::list_of(removed)])
    }

    fn apply_name(&mut self, change: &Term) -> bool {
        let Ok([word, name, weight @ ..]) = change.tuple_elements() else { return false };
        let old = self.0.iter().find(|(known, _)| known == name).cloned();
        self.take(|(known, _)| known == name);
        if word.is_atom("set") || word.is_atom("add") {
            let new = (name.clone(), weight.first().cloned().unwrap_or(1.into()));
            self.0.push(new.clone());
            old != Some(new)
        } else {
            old.is_some()
        }
    }

    fn forget(&mut self, pid: &Pid) {
        self.0.retain(|(_, known)| known != pid);
    }

    fn take(&mut self, is_it: impl Fn(&(Term, Term)) -> bool) -> bool {
        let place = self.0.iter().position(is_it);
        place.map(|place| self.0.remove(place)).is_some()
    }
}

/// What a message says.
pub(crate) fn said(message: Option<&Term>) -> Said {
    let read = |message: &Term| -> Option<Said> {
        if let Some([_, request]) = message.tagged("$gen_call") {
            let [update] = request.tagged("update")? else { return None };
            return Some(Said::Own { update: update.clone() });
        }
        let message = message.tagged("$gen_cast").map_or(message, |inner| &inner[0]);
        let all = message.tuple_elements().ok()?;
        if let [tag, Term::Reference(reference), _, Term::Pid(pid), _] = all {
            let [_, whose] = tag.tuple::<2>().ok()?;
            let reference = reference.clone();
            return match whose.atom().ok()?.as_str() {
                "peer" => Some(Said::PeerDown { peer: pid.clone(), reference }),
                "subscribe" => Some(Said::SubscriberDown { reference }),
                _ => Some(Said::MemberDown { pid: pid.clone() }),
            };
        }
        let [Term::Atom(word), Term::Pid(peer), rest @ ..] = all else { return None };
        let peer = peer.clone();
        Some(match (word.as_str(), rest) {
            ("discover", []) => Said::Hello { peer, version: 0.into() },
            ("discover", [version]) => Said::Hello { peer, version: version.clone() },
            ("local_data", [label, data]) => {
                Said::LocalData { peer, label: label.clone(), data: data.clone() }
            }
            ("sync", [data]) => Said::LocalData { peer, label: 0.into(), data: data.clone() },
            ("update", [update]) => Said::Update { peer, update: update.clone() },
            ("join", [group, pids]) => {
                let update = list![tuple![group, all_of(pids), list![]]];
                Said::Update { peer, update }
            }
            ("leave", [pids, groups]) => {
                let leave = |group: &Term| tuple![group, list![], all_of(pids)];
                let update = Term::list_of(elements(groups).iter().map(leave));
                Said::Update { peer, update }
            }
            _ => return None,
        })
    };
    message.and_then(read).unwrap_or(Said::Other)
}

/// `pid() | [pid()]` as a list.
fn all_of(pids: &Term) -> Term {
    if pids.pid().is_ok() { list![pids] } else { pids.clone() }
}

/// The elements of a list; none of what is no list.
pub(crate) fn elements(list: &Term) -> Vec<Term> {
    list.list().map(|list| list.iter().cloned().collect()).unwrap_or_default()
}

/// `{update, Me, Update}` and, for version 0 of `pg`, the messages OTP makes of it: leaves that have
/// the same pids are one, and they go before the joins.
pub(crate) fn update_messages(me: &Pid, module: Module, is_old: bool, update: &Term) -> Vec<Term> {
    match module {
        Module::Pg if is_old => {
            let mut leaves: BTreeMap<Term, Vec<Term>> = BTreeMap::new();
            let mut joins = Vec::new();
            for change in elements(update) {
                let Ok([group, add, remove]) = change.tuple::<3>() else { continue };
                if !elements(remove).is_empty() {
                    leaves.entry(remove.clone()).or_default().push(group.clone());
                }
                if !elements(add).is_empty() {
                    joins.push(tuple![atom!("join"), me, group, add]);
                }
            }
            let leave = |(pids, groups)| tuple![atom!("leave"), me, pids, Term::list_of(groups)];
            leaves.into_iter().map(leave).chain(joins).collect()
        }
        Module::Names(2) if is_old => {
            let old = |change: &Term| match change.tuple_elements() {
                Ok([word, name, _]) if word.is_atom("set") => tuple![atom!("add"), name],
                Ok([word, name]) if word.is_atom("drop") => tuple![atom!("remove"), name],
                _ => change.clone(),
            };
            let update = Term::list_of(elements(update).iter().map(old));
            vec![tuple![atom!("update"), me, update]]
        }
        _ => vec![tuple![atom!("update"), me, update]],
    }
}
