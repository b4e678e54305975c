//! Any publisher's scope, watched without knowing its module.
//!
//! It takes part as a peer that publishes nothing and takes whatever comes as a plain term. So that
//! nobody has to translate for it, it says to each peer that it's of that peer's own version. The
//! first word to a stranger is the short `{discover, Pid}`, which a `pg` of every release knows and
//! any other `data_publisher` passes over; those greet by themselves, unless we are hidden.

use std::collections::BTreeMap;

use data_publisher::engine::{DataPublisher, Effects, PeerMessage, Translated, Version, Wire};
use data_publisher::node::Node;
use data_publisher::scope::{Notice, PeerEvents, Scope, ScopeStopped, Subscription};
use data_publisher::term::{Atom, BadTerm, NodeName, Pid, Reference, Term};
use data_publisher::{atom, tuple};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use serde_json::{Value, json};

use super::{Module, ended};
use crate::args::Join;
use crate::commands::input::alone;
use crate::live::Source;
use crate::output::{Event, Format};
use crate::words;

pub(super) struct Watch {
    scope: Scope<Raw>,
    changes: Subscription<Raw>,
}

impl Watch {
    pub(super) async fn start(node: &Node, scope: Atom) -> anyhow::Result<Self> {
        let scope = Scope::start(node, scope, Raw)?;
        let ((), changes) = scope.subscribe(()).await?;
        Ok(Self { scope, changes })
    }
}

impl Module for Watch {
    const COMMANDS: &str = "data";

    async fn begin(&mut self, args: &Join, _: Format) -> anyhow::Result<()> {
        anyhow::ensure!(args.group.is_empty(), "--group is for --module pg; raw publishes nothing");
        Ok(())
    }

    async fn step(&mut self, format: Format) -> anyhow::Result<()> {
        match self.changes.next().await {
            Some(Notice::Event((node, Heard::All(data)))) => {
                format.print(&Event::LocalData { node: &node, data: &data })?;
            }
            Some(Notice::Event((node, Heard::Update(update)))) => {
                format.print(&Event::Update { node: &node, update: &update })?;
            }
            // Its peer_down says so.
            Some(Notice::Event((_, Heard::Gone))) => {}
            Some(Notice::Lagged(())) => format.print(&Event::Lagged)?,
            None => return Err(ended(self.scope.name())),
        }
        Ok(())
    }

    async fn obey(&mut self, word: &str, rest: &str) -> anyhow::Result<Option<Value>> {
        if word != "data" {
            return Ok(None);
        }
        alone(word, rest)?;
        let one = |(node, known): (&NodeName, &Known)| {
            known.data.as_ref().map(|data| {
                json!({
                    "node": node.as_str(), "updates": known.updates, "data": data.to_string(),
                })
            })
        };
        Ok(Some(self.scope.view(|view| view.iter().filter_map(one).collect())?))
    }

    fn peer_events(&self) -> PeerEvents {
        self.scope.peer_events()
    }

    async fn peers(&self) -> Result<Vec<(Pid, Version)>, ScopeStopped> {
        self.scope.peers().await
    }

    /// Who only watches is owed nothing, and others like us never answer.
    fn ready(&self) -> BoxFuture<'static, ()> {
        std::future::ready(()).boxed()
    }

    fn awaited(&self) -> BoxFuture<'static, Vec<NodeName>> {
        std::future::ready(Vec::new()).boxed()
    }

    fn size(&self) -> String {
        let nodes = self.scope.view(BTreeMap::len).unwrap_or_default();
        words::count(nodes, words::NODES_DATA)
    }

    fn source(&self) -> Source {
        Source::Raw(self.scope.clone())
    }
}

/// The publisher: it knows no format.
pub(crate) struct Raw;

/// What a node has said.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Known {
    /// Its local data, as it came last.
    pub(crate) data: Option<Term>,
    /// How many updates came after it.
    pub(crate) updates: u64,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Heard {
    All(Term),
    Update(Term),
    Gone,
}

impl DataPublisher for Raw {
    type LocalData = Known;
    type Update = Heard;
    type GlobalView = BTreeMap<NodeName, Known>;
    type Subscription = ();
    type Initial = ();
    type Event = (NodeName, Heard);

    fn init_local_data(&self) -> Known {
        Known::default()
    }

    fn init_global_view(&mut self, _scope: &Atom) -> Self::GlobalView {
        BTreeMap::new()
    }

    fn update_local_data(&self, update: Heard, data: &mut Known) -> Option<Heard> {
        data.updates += 1;
        Some(update)
    }

    fn update_global_view_and_notify(
        &self,
        origin: &NodeName,
        update: &Heard,
        view: &mut Self::GlobalView,
        effects: &mut Effects<'_, Self>,
    ) {
        match update {
            Heard::All(data) => {
                view.insert(origin.clone(), Known { data: Some(data.clone()), updates: 0 });
            }
            Heard::Update(_) => view.entry(origin.clone()).or_default().updates += 1,
            Heard::Gone => {
                view.remove(origin);
            }
        }
        effects.notify(&(), &(origin.clone(), update.clone()));
    }

    fn data_diff(&self, old: &Known, new: &Known) -> Option<Heard> {
        (old != new).then(|| new.data.clone().map_or(Heard::Gone, Heard::All))
    }

    fn new_subscription(&self, (): &(), _: &Self::GlobalView) {}

    /// Not ours to say.
    fn translate_update(&self, _: &Pid, _: &Version, _: &Heard) -> Wire {
        Wire::Plain(Vec::new())
    }

    fn translate_local_data(&self, _: &Pid, _: &Version, _: &Known) -> Wire {
        Wire::Plain(Vec::new())
    }

    fn read_update(&self, term: &Term) -> Result<Heard, BadTerm> {
        Ok(Heard::Update(term.clone()))
    }

    fn read_own_update(&self, term: &Term) -> Result<Heard, BadTerm> {
        Err(BadTerm::new("nothing: this scope only watches", term))
    }

    fn read_local_data(&self, term: &Term) -> Result<Known, BadTerm> {
        Ok(Known { data: Some(term.clone()), updates: 0 })
    }

    fn read_subscription(&self, term: &Term) -> Result<(), BadTerm> {
        Err(BadTerm::new("nothing: this scope only watches", term))
    }

    fn initial_term(&self, (): &()) -> Term {
        atom!("undefined").into()
    }

    fn event_term(&self, reference: &Reference, _: &Self::Event) -> Term {
        reference.clone().into()
    }

    /// The words of a `pg` before OTP 29.
    fn translate_message(
        &self,
        message: &Term,
        _: &mut Self::GlobalView,
        _: &mut Effects<'_, Self>,
    ) -> Translated<Self> {
        let Ok(words) = message.tuple_elements() else { return Translated::Drop };
        Translated::Peer(match words {
            [word, Term::Pid(peer)] if word.is_atom("discover") => {
                PeerMessage::Discover { peer: peer.clone(), version: 0.into() }
            }
            [word, Term::Pid(peer), data] if word.is_atom("sync") => PeerMessage::LocalData {
                peer: peer.clone(),
                label: 0.into(),
                data: Known { data: Some(data.clone()), updates: 0 },
            },
            [word, Term::Pid(peer), _, _] if word.is_atom("join") || word.is_atom("leave") => {
                PeerMessage::Update { peer: peer.clone(), update: Heard::Update(message.clone()) }
            }
            _ => return Translated::Drop,
        })
    }

    fn hello(&self, me: &Pid, peer: Option<&Version>) -> Term {
        match peer {
            Some(version) if *version != 0.into() => tuple![atom!("discover"), me, &version.0],
            _ => tuple![atom!("discover"), me],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use data_publisher::engine::{Action, Engine, EngineOptions, Input};
    use data_publisher::term::Creation;

    fn pid(node: &str) -> Pid {
        Pid { node: NodeName::new(node).unwrap(), id: 1, serial: 0, creation: Creation(4) }
    }

    /// What goes to the peer after it has said this.
    fn said_after(message: Term) -> Vec<Term> {
        let mut engine = Engine::new(atom!("s"), pid("me@h"), Raw, EngineOptions::default());
        let mut actions = Vec::new();
        engine.handle(Input::Message { from: pid("a@h").node, message }, &mut actions);
        let sent = actions.into_iter().filter_map(|action| match action {
            Action::Send { message, .. } => Some(message),
            _ => None,
        });
        sent.collect()
    }

    #[test]
    fn a_peer_hears_its_own_version_and_never_any_data() {
        let version = tuple![atom!("v"), 7];
        let discover = tuple![atom!("discover"), pid("a@h"), &version];
        assert_eq!(said_after(discover), [tuple![atom!("discover"), pid("me@h"), version]]);
        let short = tuple![atom!("discover"), pid("a@h")];
        assert_eq!(said_after(short), [tuple![atom!("discover"), pid("me@h")]]);
    }
}
