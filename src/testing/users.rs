//! What users of a scope do: update, subscribe, call it from processes.

#![expect(clippy::missing_panics_doc, reason = "said once, at `Cluster`")]

use std::rc::Rc;

use super::cluster::{Cluster, Heard, scope};
use super::data::update_text;
use crate::engine::{CallerId, DataPublisher, Input, SubscriberId};
use crate::term::{Destination, Pid, Term};
use crate::{atom, tuple};

/// What users of the scope do.
impl<P: DataPublisher> Cluster<P> {
    /// The node changes what it owns. Whether that made a difference.
    pub fn update(&mut self, node: &str, update: P::Update) -> bool {
        let i = self.index(node);
        self.engine(node);
        let text = self.story.is_some().then(|| update_text(self.engine(node), &update));
        self.tell(|| format!("{node}: {}", text.unwrap_or_default()));
        let before = self.copy_at(i);
        let done = self.handle(i, Input::Update { update, caller: CallerId(0) });
        let changed = done.changed.expect("an update is answered at once");
        // The data first: what is wrong with them is wrong with the view, too, and harder to see there.
        self.check_data(i, before, changed);
        self.check_step(i);
        changed
    }

    /// Somebody on the node subscribes. What there is now, and what is told from then on, until the scope
    /// ends.
    pub fn subscribe(&mut self, node: &str, key: P::Subscription) -> (P::Initial, Heard<P::Event>) {
        let i = self.index(node);
        self.engine(node);
        let (subscriber, heard) = (self.new_subscriber(), Rc::default());
        if let Some(running) = &mut self.nodes[i].scope {
            running.heard.insert(subscriber, Rc::clone(&heard));
        }
        let done = self.feed(i, Input::Subscribe { key, subscriber });
        (done.initial.expect("a subscription is answered at once"), Heard(heard))
    }

    /// A new process on a node, as those are that a publisher watches or that call a scope.
    pub fn spawn(&mut self, node: &str) -> Pid {
        let i = self.index(node);
        let pid = self.nodes[i].new_pid();
        self.nodes[i].processes.insert(pid.clone(), Vec::new());
        pid
    }

    /// The process ends.
    pub fn exit(&mut self, pid: &Pid) {
        let i = self.node_of(pid);
        if self.nodes[i].processes.remove(pid).is_some() {
            self.tell(|| format!("{pid} ends"));
            self.network.process_ended(pid, &atom!("normal"));
        }
    }

    /// The processes of a node that live, the oldest first.
    pub fn processes(&self, node: &str) -> Vec<Pid> {
        self.nodes[self.index(node)].processes.keys().cloned().collect()
    }

    /// What a process was sent since the last time: events, if it has subscribed, as an Erlang process
    /// gets them.
    pub fn received(&mut self, pid: &Pid) -> Vec<Term> {
        let i = self.node_of(pid);
        self.nodes[i].processes.get_mut(pid).map(std::mem::take).unwrap_or_default()
    }

    /// A process sends the scope of a node any message.
    pub fn send(&mut self, from: &Pid, node: &str, message: &Term) {
        let to = Destination::Name(scope(), self.nodes[self.index(node)].name.clone());
        self.post(self.node_of(from), from, &[to], message);
    }

    /// `gen_server:call(Scope, Request)` of a process: what the scope answers, for example to
    /// `{subscribe, Key}`. All that is on its way between the two nodes arrives before.
    pub fn call(&mut self, from: &Pid, node: &str, request: Term) -> Term {
        let (i, j) = (self.node_of(from), self.index(node));
        let tag = Term::Integer(i64::try_from(self.delivered).unwrap_or_default());
        let message = tuple![atom!("$gen_call"), tuple![from, tag.clone()], request];
        self.send(from, node, &message);
        while self.deliver_at(i, j) || self.deliver_at(j, i) {}
        let mailbox = self.nodes[i].processes.get_mut(from);
        let answer = mailbox.and_then(|mailbox| {
            let is_answer = |term: &Term| matches!(term.tuple(), Ok([first, _]) if *first == tag);
            mailbox.iter().position(is_answer).map(|place| mailbox.remove(place))
        });
        match answer.as_ref().map(Term::tuple) {
            Some(Ok([_, reply])) => reply.clone(),
            _ => panic!("{node} doesn't answer {message}"),
        }
    }

    pub(super) fn new_subscriber(&mut self) -> SubscriberId {
        self.subscribers += 1;
        SubscriberId(self.subscribers)
    }

    fn node_of(&self, pid: &Pid) -> usize {
        let place = self.nodes.iter().position(|node| node.name == pid.node);
        place.unwrap_or_else(|| panic!("{pid} lives on no node of this cluster"))
    }
}
