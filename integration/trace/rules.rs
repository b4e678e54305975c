//! Where our engine differs from OTP 29's on purpose: what OTP did is changed to what ours does.
//!
//! Each rule changes no more than its place and only if what it finds there is what it knows of.

use std::collections::BTreeMap;

use data_publisher::term::{Destination, Map, Pid, Term};
use data_publisher::{atom, list, tuple};

use super::account::{Account, Module, Said, elements, said, update_messages};
use super::transcript::Effect;

/// A difference we want.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Rule {
    LowerLabel,
    VersionOfTheHello,
    EarlyUpdate,
    NothingChanged,
    EmptyGroup,
    NotAskedYet,
    ShortHello,
    OneLeaveForEachPid,
    DeathOfAMember,
    YoungestSpeaks,
    EndedMonitor,
}

pub(crate) const ALL: [Rule; 11] = [
    Rule::LowerLabel,
    Rule::VersionOfTheHello,
    Rule::EarlyUpdate,
    Rule::NothingChanged,
    Rule::EmptyGroup,
    Rule::NotAskedYet,
    Rule::ShortHello,
    Rule::OneLeaveForEachPid,
    Rule::DeathOfAMember,
    Rule::YoungestSpeaks,
    Rule::EndedMonitor,
];

/// How often each rule made a difference.
pub(crate) type Counts = BTreeMap<Rule, usize>;

/// Changes what is expected of us because of this message. `got` is only touched where the same
/// changes come in other portions, see `early_update` and `youngest_speaks`.
pub(crate) fn apply(
    account: &mut Account,
    message: Option<&Term>,
    expected: &mut Vec<Effect>,
    got: &mut Vec<Effect>,
    counts: &mut Counts,
) {
    let mut count = |rule, times| {
        if times > 0 {
            *counts.entry(rule).or_default() += times;
        }
    };
    let said = said(message);
    count(Rule::LowerLabel, lower_label(account, expected));
    count(Rule::EmptyGroup, empty_group(account, expected));
    count(Rule::ShortHello, short_hello(account, expected));
    count(Rule::EndedMonitor, ended_monitor(account, expected));
    count(Rule::EarlyUpdate, early_update(account, &said, expected, got));
    count(Rule::YoungestSpeaks, youngest_speaks(account, &said, expected, got));
    if let Said::Own { update } = &said {
        count(Rule::NotAskedYet, not_asked_yet(account, expected));
        count(Rule::VersionOfTheHello, version_of_the_hello(account, update, expected));
    }
    count(Rule::NothingChanged, nothing_changed(account, &said, expected));
    if let Said::MemberDown { .. } = &said {
        count(Rule::DeathOfAMember, death_of_a_member(expected));
    }
    count(Rule::OneLeaveForEachPid, one_leave_for_each_pid(account, expected));
}

/// The label of our local data is the lower of our version and the peer's.
///
/// OTP writes the receiver's, and takes what it's told for the sender's. Where ours is the higher
/// one the two are the same.
fn lower_label(account: &Account, expected: &mut [Effect]) -> usize {
    messages(expected)
        .filter_map(|message| {
            let [inner] = message.tagged("$gen_cast")? else { return None };
            let [me, label, data] = inner.tagged("local_data")? else { return None };
            let lower = tuple![atom!("local_data"), me, &account.version, data];
            let changes = *label > account.version;
            changes.then(|| *message = tuple![atom!("$gen_cast"), lower])
        })
        .count()
}

/// An update goes out in the format for the version that the peer's latest hello said.
///
/// OTP goes by the label of its local data, which is our own version: so it tells a lower version
/// what that can't read. It also passes over what a second hello says.
fn version_of_the_hello(account: &Account, update: &Term, expected: &mut Vec<Effect>) -> usize {
    let mut count = 0;
    for (pid, peer) in &account.peers {
        let Some(said) = &peer.said else { continue };
        let (theirs, ours) = (is_old(account, &peer.stored), is_old(account, said));
        let known = update_messages(&account.me, account.module, theirs, update);
        let wanted = update_messages(&account.me, account.module, ours, update);
        if known != wanted && replace(expected, pid, &known, &wanted) {
            count += 1;
        }
    }
    count
}

/// An update that comes before its sender's local data isn't applied: the data that follows holds it.
///
/// OTP applies it to nothing, and the events that it sends then are short of what was before. With
/// the local data come all events at once; both add up to the same.
fn early_update(
    account: &mut Account,
    said: &Said,
    expected: &mut Vec<Effect>,
    got: &mut Vec<Effect>,
) -> usize {
    match said {
        Said::Update { peer, .. } => {
            let Some(known) = account.peers.get_mut(peer).filter(|known| !known.synced) else {
                return 0;
            };
            let events: Vec<Effect> = expected.extract_if(.., |effect| event(effect)).collect();
            let count = usize::from(!events.is_empty());
            known.early.extend(events);
            count
        }
        Said::LocalData { peer, .. } => {
            let early = account.peers.get(peer).map(|known| &known.early);
            let Some(early) = early.filter(|early| !early.is_empty()) else { return 0 };
            let theirs = sum(early.iter().chain(expected.iter()));
            if theirs != sum(got.iter()) {
                return 0;
            }
            expected.retain(|effect| !event(effect));
            got.retain(|effect| !event(effect));
            1
        }
        _ => 0,
    }
}

/// Only what made a difference goes on, to subscribers and to peers.
///
/// OTP passes on all of an update: so subscribers hear of processes that leave groups they aren't in,
/// and peers of names that are what they were.
fn nothing_changed(account: &Account, said: &Said, expected: &mut Vec<Effect>) -> usize {
    let (update, data) = match said {
        Said::Own { update } => (update, &account.own),
        Said::Update { peer, update } => match account.peers.get(peer) {
            Some(known) if known.synced => (update, &known.data),
            _ => return 0,
        },
        _ => return 0,
    };
    let real = data.clone().apply(account.module, update);
    if real == *update && !elements(update).is_empty() {
        return 0;
    }
    let mut count = 0;
    for pid in account.peers.keys() {
        for is_old in [false, true] {
            let known = update_messages(&account.me, account.module, is_old, update);
            let wanted = match elements(&real).as_slice() {
                [] => Vec::new(),
                _ => update_messages(&account.me, account.module, is_old, &real),
            };
            if replace(expected, pid, &known, &wanted) {
                count += 1;
                break;
            }
        }
    }
    if account.module != Module::Pg {
        return count;
    }
    // Of each change, the leaves that OTP tells of are turned into those that happened.
    let mut real = elements(&real).into_iter().peekable();
    for change in elements(update) {
        let Ok([group, add, remove]) = change.tuple::<3>() else { continue };
        let left = real.next_if(|next| {
            next.tuple::<3>().is_ok_and(|[same, joined, _]| same == group && joined == add)
        });
        let left = left.and_then(|next| Some(next.tuple::<3>().ok()?[2].clone()));
        let left = left.unwrap_or(list![]);
        if left == *remove {
            continue;
        }
        expected.retain_mut(|effect| {
            let Effect::Send { message, .. } = effect else { return true };
            let Ok([reference, word, of, pids]) = message.tuple::<4>() else { return true };
            if reference.reference().is_err()
                || !word.is_atom("leave")
                || of != group
                || pids != remove
            {
                return true;
            }
            count += 1;
            *message = tuple![reference, word, of, &left];
            !elements(&left).is_empty()
        });
    }
    count
}

/// A group without members isn't there.
///
/// OTP keeps one after a leave of a group that it didn't know: in what a subscriber gets first, and in
/// what peers are told.
fn empty_group(account: &Account, expected: &mut [Effect]) -> usize {
    if account.module != Module::Pg {
        return 0;
    }
    let without = |groups: &Term| -> Option<Term> {
        let is_empty = |pids: &Term| elements(pids).is_empty();
        match groups {
            Term::Map(map) if map.pairs().iter().any(|(_, pids)| is_empty(pids)) => {
                let left = map.pairs().iter().filter(|(_, pids)| !is_empty(pids)).cloned();
                Some(Term::Map(left.collect::<Map>()))
            }
            Term::List(_) => {
                let all = elements(groups);
                let has_members =
                    |pair: &&Term| pair.tuple::<2>().is_ok_and(|[_, pids]| !is_empty(pids));
                let left: Vec<Term> = all.iter().filter(has_members).cloned().collect();
                (left.len() < all.len()).then(|| Term::list_of(left))
            }
            _ => None,
        }
    };
    messages(expected)
        .filter_map(|message| {
            let changed = if let Some([inner]) = message.tagged("$gen_cast") {
                let inner = if let Some([me, label, data]) = inner.tagged("local_data") {
                    tuple![atom!("local_data"), me, label, without(data)?]
                } else {
                    let [me, data] = inner.tagged("sync")? else { return None };
                    tuple![atom!("sync"), me, without(data)?]
                };
                tuple![atom!("$gen_cast"), inner]
            } else {
                // An answer to `{subscribe, scope}`, `{Tag, {Ref, Groups}}`.
                let [tag, answer] = message.tuple::<2>().ok()?;
                let [reference, groups] = answer.tuple::<2>().ok()?;
                groups.map().ok()?;
                tuple![tag, tuple![reference, without(groups)?]]
            };
            *message = changed;
            Some(())
        })
        .count()
}

/// A peer that hasn't said hello gets no updates: it doesn't have our local data, with which they'd
/// come.
///
/// OTP sends them to whoever has sent its local data. (If it stays silent ours sends it all our data
/// by itself, when a second has passed.)
fn not_asked_yet(account: &Account, expected: &mut Vec<Effect>) -> usize {
    let before = expected.len();
    expected.retain(|effect| {
        let Effect::Send { to: Destination::Pid(to), message } = effect else { return true };
        let is_silent = account.peers.get(to).is_some_and(|peer| peer.said.is_none());
        !(is_silent && is_update(message, &account.me))
    });
    before - expected.len()
}

/// The hello of `pg` is `{discover, Pid}` to everybody who hasn't shown that it's of OTP 29.
///
/// OTP always says `{discover, Pid, 1}`, of which a `pg` of OTP 25 dies.
fn short_hello(account: &Account, expected: &mut [Effect]) -> usize {
    if account.module != Module::Pg {
        return 0;
    }
    let mut count = 0;
    for effect in expected {
        let Effect::Send { to, message } = effect else { continue };
        let is_old = match to {
            Destination::Name(..) => true,
            Destination::Pid(pid) => account
                .peers
                .get(pid)
                .is_some_and(|peer| peer.said.as_ref() == Some(&Term::from(0))),
            Destination::Alias(_) => false,
        };
        if is_old && *message == tuple![atom!("discover"), &account.me, 1] {
            *message = tuple![atom!("discover"), &account.me];
            count += 1;
        }
    }
    count
}

/// A `leave` of version 0 has one pid, with all groups it leaves at once.
///
/// OTP writes one for each list of pids; after one with several a `pg` of OTP 25 keeps an empty group
/// and dies of the next `sync` in which it has members.
fn one_leave_for_each_pid(account: &Account, expected: &mut Vec<Effect>) -> usize {
    let mut count = 0;
    for peer in account.peers.keys() {
        let mut leaves: Vec<(Term, Vec<Term>)> = Vec::new();
        let mut first = None;
        let mut place = 0;
        expected.retain(|effect| {
            let leave = sent(effect, peer).and_then(|message| message.tagged("leave"));
            let Some([me, pids, groups]) = leave else {
                place += 1;
                return true;
            };
            if *me != account.me {
                return true;
            }
            first.get_or_insert(place);
            count += 1;
            for group in elements(groups) {
                for pid in elements(pids) {
                    match leaves.iter_mut().find(|(known, _)| *known == pid) {
                        Some((_, groups)) => groups.push(group.clone()),
                        None => leaves.push((pid, vec![group.clone()])),
                    }
                }
            }
            false
        });
        let Some(first) = first else { continue };
        let messages = leaves.into_iter().map(|(pid, groups)| Effect::Send {
            to: Destination::from(peer),
            message: tuple![atom!("leave"), &account.me, pid, Term::list_of(groups)],
        });
        expected.splice(first..first, messages);
    }
    count
}

/// When a member ends, each of its groups is listed once, in term order, with the pid as often as it
/// had joined.
///
/// OTP lists a group once for each time the process had joined, the latest first.
fn death_of_a_member(expected: &mut Vec<Effect>) -> usize {
    let before = expected.clone();
    // Updates: `[{Group, [], [Pid]}]`, and `{leave, Me, Pids, Groups}`.
    for message in messages(expected) {
        if let Some([me, update]) = message.tagged("update") {
            let mut groups: BTreeMap<Term, Vec<Term>> = BTreeMap::new();
            for change in elements(update) {
                if let Ok([group, _, remove]) = change.tuple::<3>() {
                    groups.entry(group.clone()).or_default().extend(elements(remove));
                }
            }
            let changes = groups
                .into_iter()
                .map(|(group, remove)| tuple![group, list![], Term::list_of(remove)]);
            *message = tuple![atom!("update"), me, Term::list_of(changes)];
        } else if let Some([me, pids, groups]) = message.tagged("leave") {
            let mut groups = elements(groups);
            groups.sort();
            *message = tuple![atom!("leave"), me, pids, Term::list_of(groups)];
        }
    }
    // Events: `{Ref, leave, Group, [Pid]}`, those of each subscriber.
    let mut events: BTreeMap<(String, Term, Term), (Effect, Vec<Term>)> = BTreeMap::new();
    expected.retain(|effect| {
        let Effect::Send { to, message } = effect else { return true };
        let Ok([reference, _, group, pids]) = message.tuple::<4>() else { return true };
        if !event(effect) {
            return true;
        }
        let key = (to.to_string(), group.clone(), reference.clone());
        let (_, all) = events.entry(key).or_insert_with(|| (effect.clone(), Vec::new()));
        all.extend(elements(pids));
        false
    });
    for ((_, group, reference), (effect, pids)) in events {
        let Effect::Send { to, .. } = effect else { continue };
        let message = tuple![reference, atom!("leave"), group, Term::list_of(pids)];
        expected.push(Effect::Send { to, message });
    }
    usize::from(in_order(&before) != in_order(expected))
}

/// Of two peers of one node, which there are while a scope restarts, the younger speaks for the node.
///
/// OTP shows what both own. When the older is gone, events have added up to the same. (That is so
/// with `pg`, which counts. A view that has one value for each node loses with the older peer what
/// the younger one owns, too, on OTP; so there's no such case for `dp_names`.)
fn youngest_speaks(
    account: &mut Account,
    said: &Said,
    expected: &mut Vec<Effect>,
    got: &mut Vec<Effect>,
) -> usize {
    let (Said::LocalData { peer, .. } | Said::Update { peer, .. } | Said::PeerDown { peer, .. }) =
        said
    else {
        return 0;
    };
    let peers = account.peers.keys().filter(|known| known.node == peer.node).count();
    if peers < 2 || !account.peers.contains_key(peer) {
        return 0;
    }
    let (theirs, ours) = account.overlap.entry(peer.node.clone()).or_default();
    theirs.extend(expected.extract_if(.., |effect| event(effect)));
    ours.extend(got.extract_if(.., |effect| event(effect)));
    let is_last = peers == 2 && matches!(said, Said::PeerDown { .. });
    let Some((theirs, ours)) = is_last.then(|| account.overlap.remove(&peer.node)).flatten() else {
        return 0;
    };
    if sum(theirs.iter()) == sum(ours.iter()) {
        return usize::from(!theirs.is_empty());
    }
    expected.extend(theirs);
    got.extend(ours);
    0
}

/// A monitor that has reported isn't ended once more.
///
/// OTP's engine does so when a subscriber is gone; it has no effect.
fn ended_monitor(account: &Account, expected: &mut Vec<Effect>) -> usize {
    let before = expected.len();
    expected.retain(|effect| {
        !matches!(effect, Effect::Demonitor { reference } if account.ended.contains(reference))
    });
    before - expected.len()
}

// --- parts ------------------------------------------------------------------------------------------

fn messages(effects: &mut [Effect]) -> impl Iterator<Item = &mut Term> {
    effects.iter_mut().filter_map(|effect| match effect {
        Effect::Send { message, .. } => Some(message),
        _ => None,
    })
}

fn sent<'a>(effect: &'a Effect, peer: &Pid) -> Option<&'a Term> {
    match effect {
        Effect::Send { to: Destination::Pid(to), message } if to == peer => Some(message),
        _ => None,
    }
}

/// Whether a peer of this version is spoken to in the older of two formats.
fn is_old(account: &Account, version: &Term) -> bool {
    match account.module {
        Module::Pg => *version == Term::from(0),
        Module::Names(format) => format == 2 && *version < account.version,
    }
}

/// `{Ref, ...}`: what a subscriber gets. An answer to a call has two elements.
fn event(effect: &Effect) -> bool {
    let Effect::Send { message, .. } = effect else { return false };
    message.tuple::<4>().is_ok_and(|[reference, ..]| reference.reference().is_ok())
}

fn is_update(message: &Term, me: &Pid) -> bool {
    ["update", "join", "leave"].iter().any(|word| {
        message.tagged(word).is_some_and(|rest| rest.first().is_some_and(|by| by == me))
    })
}

/// What is told to a peer, if it's exactly this, in its place.
fn replace(effects: &mut Vec<Effect>, peer: &Pid, known: &[Term], wanted: &[Term]) -> bool {
    let is_known = |effect: &Effect| sent(effect, peer).is_some_and(|told| known.contains(told));
    let Some(first) = effects.iter().position(is_known) else { return false };
    let told: Vec<&Term> = effects.iter().filter_map(|effect| sent(effect, peer)).collect();
    if told.len() != known.len() || !told.iter().all(|told| known.contains(told)) {
        return false;
    }
    effects.retain(|effect| !is_known(effect));
    let wanted = wanted
        .iter()
        .map(|message| Effect::Send { to: Destination::from(peer), message: message.clone() });
    effects.splice(first..first, wanted);
    true
}

/// What events add up to: for each subscription, and thing that comes or goes, how often.
fn sum<'a>(effects: impl Iterator<Item = &'a Effect>) -> BTreeMap<(Term, Term, Term), i64> {
    let mut sum = BTreeMap::new();
    for effect in effects.filter(|effect| event(effect)) {
        let Effect::Send { message, .. } = effect else { continue };
        let Ok([reference, word, of, what]) = message.tuple::<4>() else { continue };
        let sign = if word.is_atom("join") || word.is_atom("add") { 1 } else { -1 };
        let each = if word.is_atom("join") || word.is_atom("leave") {
            elements(what)
        } else {
            vec![what.clone()]
        };
        for one in each {
            *sum.entry((reference.clone(), of.clone(), one)).or_default() += sign;
        }
    }
    sum.retain(|_, count| *count != 0);
    sum
}

fn in_order(effects: &[Effect]) -> Vec<String> {
    let mut lines: Vec<String> = effects.iter().map(ToString::to_string).collect();
    lines.sort();
    lines
}
