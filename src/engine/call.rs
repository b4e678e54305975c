//! Calls from processes of the cluster: `gen_server:call({Scope, OurNode}, Request)`.
//!
//! The caller waits under a tag that must come back unchanged, and for two forms of it at an alias
//! instead of the pid. A caller is never left waiting: what can't be done is answered
//! `{error, badarg}`. (OTP's scope crashes then, and takes the local members of everybody with it.)
//!
//! Source: `gen:reply/2`, OTP 25 to 29; `data_publisher:handle_call/3`, OTP 29.

use super::action::Action;
use super::engine::Engine;
use super::monitors::Purpose;
use super::publisher::DataPublisher;
use crate::term::{BadTerm, Destination, NodeName, Pid, Reference, Term};
use crate::{atom, tuple};

/// Who waits, read from the `From` of a call.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Caller {
    pub(super) pid: Pid,
    tag: Term,
}

impl Caller {
    /// Reads `{Pid, Tag}`.
    pub(super) fn read(from: &Term) -> Result<Self, BadTerm> {
        let [pid, tag] = from.tuple::<2>()?;
        Ok(Self { pid: pid.pid()?.clone(), tag: tag.clone() })
    }

    /// Where the answer goes, and how it looks: `{Tag, Reply}`.
    pub(super) fn reply(&self, reply: impl Into<Term>) -> (Destination, Term) {
        let to = match alias(&self.tag) {
            Some(alias) => Destination::Alias(alias.clone()),
            None => Destination::Pid(self.pid.clone()),
        };
        (to, tuple![&self.tag, reply.into()])
    }
}

/// The alias in `[alias|Ref]` and in `[[alias|Ref]|_]`; `None` for every other tag.
fn alias(tag: &Term) -> Option<&Reference> {
    let Term::ImproperList(list) = tag else { return None };
    match (list.elements(), list.tail()) {
        ([first], Term::Reference(reference)) if first.is_atom("alias") => Some(reference),
        ([Term::ImproperList(inner)], _) => match (inner.elements(), inner.tail()) {
            ([first], Term::Reference(reference)) if first.is_atom("alias") => Some(reference),
            _ => None,
        },
        _ => None,
    }
}

/// `{error, badarg}`.
pub(super) fn refusal() -> Term {
    tuple![atom!("error"), atom!("badarg")]
}

/// Calls, and the subscribers that come with them.
impl<P: DataPublisher> Engine<P> {
    /// `over` is the node the call came from. One in the name of another node's process isn't answered:
    /// that process hasn't asked, and where it's a scope on the BEAM it dies of an answer.
    pub(super) fn call(
        &mut self,
        over: &NodeName,
        from: &Term,
        request: &Term,
        actions: &mut Vec<Action<P>>,
    ) {
        let Ok(caller) = Caller::read(from) else {
            self.counters.unknown += 1;
            return;
        };
        if *over != self.me.node && caller.pid.node != *over {
            self.counters.spoofed += 1;
            return;
        }
        let reply = self.answer(&caller, request, actions).unwrap_or_else(|| {
            self.counters.refused_calls += 1;
            refusal()
        });
        let (to, message) = caller.reply(reply);
        actions.push(Action::Send { to, message });
    }

    /// `None` if there's no such request or it can't be read.
    pub(super) fn answer(
        &mut self,
        caller: &Caller,
        request: &Term,
        actions: &mut Vec<Action<P>>,
    ) -> Option<Term> {
        if let Some([update]) = request.tagged("update") {
            let update = self.publisher.read_own_update(update).ok()?;
            self.update(update, actions);
            return Some(atom!("ok").into());
        }
        if let Some([key]) = request.tagged("subscribe") {
            let key = self.publisher.read_subscription(key).ok()?;
            let node = &caller.pid.node;
            if *node != self.me.node && self.subscribers.is_full_of(node) {
                return None;
            }
            return Some(self.subscribe_process(&caller.pid, key, actions));
        }
        if let Some([reference]) = request.tagged("unsubscribe") {
            // `ok` also for a reference that isn't known, as in OTP 29.
            self.unsubscribe_process(reference.reference().ok()?, actions);
            return Some(atom!("ok").into());
        }
        None
    }

    /// `{Ref, Initial}`; the process is subscribed until it ends or unsubscribes.
    pub(super) fn subscribe_process(
        &mut self,
        pid: &Pid,
        key: P::Subscription,
        actions: &mut Vec<Action<P>>,
    ) -> Term {
        let number = self.subscribers.next_number();
        let reference = self.reference(number);
        let monitor = self.monitors.start(pid.clone(), Purpose::Subscriber(number));
        actions.push(Action::Monitor { id: monitor, pid: pid.clone() });
        let initial = self.publisher.new_subscription(&key, &self.view());
        let reply = tuple![&reference, self.publisher.initial_term(&initial)];
        self.subscribers.add_process(number, key, reference, pid.clone(), monitor);
        reply
    }

    pub(super) fn unsubscribe_process(
        &mut self,
        reference: &Reference,
        actions: &mut Vec<Action<P>>,
    ) {
        if let Some(number) = self.subscribers.number_of(reference) {
            self.unsubscribe_number(number, actions);
        }
    }

    pub(super) fn unsubscribe_number(&mut self, number: u64, actions: &mut Vec<Action<P>>) {
        if let Some(id) = self.subscribers.remove_process(number) {
            self.monitors.stop(id, |purpose| matches!(purpose, Purpose::Subscriber(_)));
            actions.push(Action::Demonitor { id });
        }
    }

    /// A reference no one else has: it holds our own pid, and has four words where those of the node
    /// have three or five. The first word keeps to 18 bits, as all releases want it.
    pub(super) fn reference(&self, number: u64) -> Reference {
        let words = [(number & 0x3_ffff) as u32, (number >> 18) as u32, self.me.id, self.me.serial];
        Reference::new(self.me.node.clone(), self.me.creation, &words)
            .expect("four words are a reference")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::term::Creation;

    fn reference(word: u32) -> Reference {
        Reference::new(NodeName::new("a@h").unwrap(), Creation(5), &[word, 0, 0]).unwrap()
    }

    fn aliased(word: u32) -> Term {
        Term::list_with_tail(vec![atom!("alias").into()], reference(word).into())
    }

    #[test]
    fn the_answer_goes_to_the_alias_in_the_tag_and_else_to_the_pid() {
        let pid =
            Pid { node: NodeName::new("a@h").unwrap(), id: 1, serial: 0, creation: Creation(5) };
        let nested = Term::list_with_tail(vec![aliased(1)], reference(2).into());
        let node: Term = NodeName::new("a@h").unwrap().into();
        for (tag, to) in [
            (reference(1).into(), Destination::Pid(pid.clone())),
            (aliased(1), Destination::Alias(reference(1))),
            (nested, Destination::Alias(reference(1))),
            (tuple![reference(1), node], Destination::Pid(pid.clone())),
            (atom!("any").into(), Destination::Pid(pid.clone())),
        ] {
            let caller = Caller::read(&tuple![&pid, &tag]).unwrap();
            assert_eq!(caller.reply(atom!("ok")), (to, tuple![tag, atom!("ok")]));
        }
    }
}
