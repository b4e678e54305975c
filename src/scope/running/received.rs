//! What the scope's process receives: into the engine, aside for later, or to `sys`.

use std::collections::VecDeque;
use std::sync::Arc;

use super::{Command, End, Running, shown};
use crate::engine::{DataPublisher, Input, PeerMessage};
use crate::gen_server::{Verdict, is_call};
use crate::node::{Batch, Connection, Envelope, Origin, Received, bad_frame};

/// What is received.
impl<P: DataPublisher> Running<P> {
    /// Something received: handled now, answered if `sys` asks, or put aside.
    pub(super) fn open(&mut self, envelope: Envelope) {
        if let Some(envelope) = self.postpone(envelope) {
            self.judge(envelope);
        }
    }

    /// Puts a call aside that comes over a connection whose queue is above its soft mark: a reply may
    /// be as large as all the data, and a peer that asks for many would be shed by them. The calls are
    /// handled once the peer has taken what is queued for it, and never if it doesn't.
    fn postpone(&mut self, envelope: Envelope) -> Option<Envelope> {
        let Received::Message { term, origin: Origin::Connection(over) } = &envelope.received
        else {
            return Some(envelope);
        };
        if !is_call(term) {
            return Some(envelope);
        }
        let over = over.clone();
        if let Some((waiting_for, calls)) = self.calls.get_mut(over.peer())
            && waiting_for.id() == over.id()
        {
            calls.push_back(envelope);
        } else if over.queue().is_crowded() {
            self.wait_to_answer(over, VecDeque::from([envelope]));
        } else {
            return Some(envelope);
        }
        None
    }

    /// The waiting task ends when the connection has room, or none any more.
    fn wait_to_answer(&mut self, over: Arc<Connection>, calls: VecDeque<Envelope>) {
        self.calls.insert(over.peer().clone(), (over.clone(), calls));
        let commands = self.commands.clone();
        self.runtime.spawn(async move {
            over.queue().drained().await;
            if let Some(commands) = commands.upgrade() {
                let _ = commands.send(Command::Answer(over));
            }
        });
    }

    /// A connection has room: the calls that came over it, as many as it has room for.
    pub(super) fn answer(&mut self, over: Arc<Connection>) {
        if self.calls.get(over.peer()).is_none_or(|(waiting_for, _)| waiting_for.id() != over.id())
        {
            return;
        }
        let Some((_, mut calls)) = self.calls.remove(over.peer()) else { return };
        while !over.is_closed()
            && let Some(envelope) = calls.pop_front()
        {
            self.judge(envelope);
            if over.queue().is_crowded() && !calls.is_empty() {
                return self.wait_to_answer(over, calls);
            }
        }
    }

    fn judge(&mut self, envelope: Envelope) {
        let Self { sys, process, engine, .. } = self;
        match sys.judge(process, envelope, || shown(engine)) {
            Verdict::Handle(envelope) => self.take_in(envelope.received),
            Verdict::Terminate(reason) => self.ending = Some(End::Terminated(reason)),
            Verdict::Done => {}
        }
    }

    /// Messages of a connection, in bytes. How many there were.
    ///
    /// Those of peers go straight into the engine, if they are as they mostly are; every other one
    /// becomes a term.
    pub(super) fn open_batch(&mut self, batch: Batch) -> usize {
        let Batch { mut messages, connection, mut credit } = batch;
        let count = messages.len();
        let from = connection.peer();
        let mut ahead = Ahead::default();
        while let Some(payload) = messages.next() {
            // What a connection that is gone brought is lost with it: its sender starts over.
            if connection.is_closed() {
                break;
            }
            let bytes = payload.len();
            if !self.sys.is_suspended()
                && let Some(mut pieces) = payload.pieces()
                && let Some(message) = self.engine.take(&mut pieces)
            {
                if ahead.add(message, bytes) {
                    self.handle_ahead(&connection, &mut ahead);
                }
                continue;
            }
            self.handle_ahead(&connection, &mut ahead);
            match payload.decode() {
                Ok(term) => {
                    let waits = self.sys.is_suspended() || is_call(&term);
                    let held = waits.then(|| credit.split(bytes));
                    let router = self.process.router();
                    if !router.refuse_io(self.process.pid(), &term) {
                        let origin = Origin::Connection(connection.clone());
                        let received = Received::Message { term, origin };
                        self.open(Envelope { received, credit: held });
                    }
                    // Perhaps it was a `resume`: what has waited comes before what follows here.
                    while let Some(envelope) = self.sys.next() {
                        self.open(envelope);
                    }
                }
                Err(error)
                    if error.is_beyond_limits()
                        && let Some(mut pieces) = payload.pieces()
                        && self.run(|engine, actions| {
                            engine.handle_unreadable(from, &mut pieces, actions)
                        }) =>
                {
                    let text = format!("to {}: {}", self.engine.scope(), bad_frame(&error));
                    self.process.router().warn_beyond_limits(&connection, &text);
                }
                Err(error) => {
                    self.process.router().close(&connection, &bad_frame(&error));
                    break;
                }
            }
        }
        self.handle_ahead(&connection, &mut ahead);
        if self.ready.is_awaited(from) && self.engine.has_answered(from) {
            self.ready.settled(from, &self.process);
        }
        count
    }

    /// Handles what was read ahead, one message after the other.
    fn handle_ahead(&mut self, connection: &Connection, ahead: &mut Ahead<P>) {
        if ahead.messages.len() > 1 {
            self.engine.look_ahead(&ahead.messages);
        }
        ahead.bytes = 0;
        for message in ahead.messages.drain(..).take_while(|_| !connection.is_closed()) {
            self.run(|engine, actions| engine.handle_taken(connection.peer(), message, actions));
        }
    }

    fn take_in(&mut self, received: Received) {
        match received {
            Received::Message { term, origin } => {
                // What a connection that is gone brought is lost with it: its sender starts over.
                if origin.is_gone() {
                    return;
                }
                let from = match &origin {
                    Origin::Local => self.process.pid().node.clone(),
                    Origin::Connection(connection) => connection.peer().clone(),
                };
                // Only a message from there is an answer; looked at only while somebody waits.
                let awaited = self.ready.is_awaited(&from).then(|| from.clone());
                self.handle(Input::Message { from, message: term });
                if let Some(node) = awaited.filter(|node| self.engine.has_answered(node)) {
                    self.ready.settled(&node, &self.process);
                }
            }
            Received::Down { reference, reason, .. } => {
                if let Some(node) = self.ready.node_of(&reference) {
                    return self.ready.settled(&node, &self.process);
                }
                let Some(monitor) = self.references.remove(&reference) else { return };
                let Some((_, pid)) = self.monitors.remove(&monitor) else { return };
                self.handle(Input::Down { monitor, pid, reason });
            }
            Received::NodeUp(connection) => {
                let node = connection.peer().clone();
                self.connections.insert(node.clone(), connection);
                self.audience = None;
                self.handle(Input::NodeUp(node));
            }
            Received::NodeDown(node) => {
                self.connections.remove(&node);
                self.audience = None;
                self.ready.settled(&node, &self.process);
                self.handle(Input::NodeDown(node));
            }
            Received::Exit { .. } | Received::SpawnReply { .. } => {}
        }
    }
}

/// Messages of a connection that are read and not handled yet.
struct Ahead<P: DataPublisher> {
    messages: Vec<PeerMessage<P>>,
    bytes: usize,
}

impl<P: DataPublisher> Ahead<P> {
    const MOST: usize = 16;
    /// What is read is some times larger than its bytes, so not much of it lies around.
    const MOST_BYTES: usize = 16 * 1024;

    /// Whether it's full now. Local data is nothing to keep waiting.
    fn add(&mut self, message: PeerMessage<P>, bytes: usize) -> bool {
        let is_update = matches!(message, PeerMessage::Update { .. });
        self.messages.push(message);
        self.bytes += bytes;
        !is_update || self.messages.len() >= Self::MOST || self.bytes >= Self::MOST_BYTES
    }
}

impl<P: DataPublisher> Default for Ahead<P> {
    fn default() -> Self {
        Self { messages: Vec::new(), bytes: 0 }
    }
}
