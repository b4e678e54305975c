//! A key-value scope: keys put and deleted by lines of input.

use std::collections::BTreeMap;

use anyhow::Context;
use data_publisher::engine::Version;
use data_publisher::kv::{self, Kv, Owners};
use data_publisher::node::Node;
use data_publisher::scope::{Notice, PeerEvents, ScopeStopped, Subscription};
use data_publisher::term::{Atom, NodeName, Pid, Term};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use serde_json::{Value, json};

use super::{Module, ended};
use crate::args::Join;
use crate::commands::input::{alone, one_term};
use crate::live::Source;
use crate::output::{Event, Format};
use crate::words;

pub(super) struct Keys {
    kv: Kv,
    /// What was printed so far: the events, added up.
    told: BTreeMap<Term, Owners>,
    initial: BTreeMap<Term, Owners>,
    changes: Subscription<kv::KvPublisher>,
}

impl Keys {
    pub(super) async fn start(node: &Node, scope: Atom) -> anyhow::Result<Self> {
        let kv = Kv::start(node, scope)?;
        let (initial, changes) = kv.subscribe().await?;
        Ok(Self { kv, told: BTreeMap::new(), initial, changes })
    }

    fn print(&mut self, change: &kv::Event, format: Format) -> std::io::Result<()> {
        match change {
            kv::Event::Put { node, key, value } => {
                let owners = self.told.entry(key.clone()).or_default();
                owners.insert(node.clone(), value.clone());
                format.print(&Event::Put { node, key, value })
            }
            kv::Event::Delete { node, key } => {
                if let Some(owners) = self.told.get_mut(key) {
                    owners.remove(node);
                    if owners.is_empty() {
                        self.told.remove(key);
                    }
                }
                format.print(&Event::Delete { node, key })
            }
        }
    }

    /// We were too slow to be told of each change: prints those that lead to how it is now.
    fn catch_up(&mut self, now: &BTreeMap<Term, Owners>, format: Format) -> std::io::Result<()> {
        for change in changes(&self.told, now) {
            self.print(&change, format)?;
        }
        Ok(())
    }
}

fn changes(old: &BTreeMap<Term, Owners>, new: &BTreeMap<Term, Owners>) -> Vec<kv::Event> {
    let value = |of: &BTreeMap<Term, Owners>, key: &Term, node| {
        of.get(key).and_then(|owners| owners.get(node)).cloned()
    };
    let mut all = Vec::new();
    for (key, owners) in old {
        for node in owners.keys().filter(|node| value(new, key, node).is_none()) {
            all.push(kv::Event::Delete { node: node.clone(), key: key.clone() });
        }
    }
    for (key, owners) in new {
        for (node, now) in owners {
            if value(old, key, node).as_ref() != Some(now) {
                let (node, key, value) = (node.clone(), key.clone(), now.clone());
                all.push(kv::Event::Put { node, key, value });
            }
        }
    }
    all
}

impl Module for Keys {
    const COMMANDS: &str = "put KEY TERM | delete KEY | get KEY | all";

    async fn begin(&mut self, args: &Join, format: Format) -> anyhow::Result<()> {
        anyhow::ensure!(
            args.group.is_empty(),
            "--group is for --module pg; here use `put KEY TERM`"
        );
        let initial = std::mem::take(&mut self.initial);
        Ok(self.catch_up(&initial, format)?)
    }

    async fn step(&mut self, format: Format) -> anyhow::Result<()> {
        match self.changes.next().await {
            Some(Notice::Event(change)) => self.print(&change, format)?,
            Some(Notice::Lagged(kv::Initial::All(now))) => self.catch_up(&now, format)?,
            Some(Notice::Lagged(kv::Initial::Key(_))) => {}
            None => return Err(ended(self.kv.name())),
        }
        Ok(())
    }

    async fn obey(&mut self, word: &str, rest: &str) -> anyhow::Result<Option<Value>> {
        Ok(Some(match word {
            "put" => {
                let (key, rest) = Term::parse_prefix(rest).context("KEY")?;
                json!(self.kv.put(key, one_term(rest, "TERM")?).await?)
            }
            "delete" => json!(self.kv.delete(one_term(rest, "KEY")?).await?),
            "get" => {
                let key = one_term(rest, "KEY")?;
                values(None, &self.kv.get(&key)).into()
            }
            "all" => {
                alone(word, rest)?;
                let all = self.kv.get_all();
                all.iter().flat_map(|(key, owners)| values(Some(key), owners)).collect()
            }
            _ => return Ok(None),
        }))
    }

    fn peer_events(&self) -> PeerEvents {
        self.kv.peer_events()
    }

    async fn peers(&self) -> Result<Vec<(Pid, Version)>, ScopeStopped> {
        self.kv.peers().await
    }

    fn ready(&self) -> BoxFuture<'static, ()> {
        let kv = self.kv.clone();
        async move { kv.ready().await.unwrap_or_default() }.boxed()
    }

    fn awaited(&self) -> BoxFuture<'static, Vec<NodeName>> {
        let kv = self.kv.clone();
        async move { kv.awaited().await.unwrap_or_default() }.boxed()
    }

    fn size(&self) -> String {
        words::count(self.told.len(), words::KEYS)
    }

    fn source(&self) -> Source {
        Source::Kv(self.kv.clone())
    }
}

/// One object for each value.
fn values(key: Option<&Term>, owners: &Owners) -> Vec<Value> {
    let one = |(node, value): (&NodeName, &Term)| match key {
        Some(key) => json!({
            "key": key.to_string(), "node": node.as_str(), "value": value.to_string(),
        }),
        None => json!({ "node": node.as_str(), "value": value.to_string() }),
    };
    owners.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use data_publisher::term::NodeName;

    #[test]
    fn catching_up_leads_from_one_view_to_the_other() {
        let view = |all: &[(i64, &str, i64)]| {
            let mut view: BTreeMap<Term, Owners> = BTreeMap::new();
            for (key, node, value) in all {
                let owners = view.entry((*key).into()).or_default();
                owners.insert(NodeName::new(node).unwrap(), (*value).into());
            }
            view
        };
        let old = view(&[(1, "a@h", 1), (1, "b@h", 1), (2, "a@h", 1)]);
        let new = view(&[(1, "a@h", 2), (3, "b@h", 1), (2, "a@h", 1)]);
        let (a, b) = (NodeName::new("a@h").unwrap(), NodeName::new("b@h").unwrap());
        let expected = [
            kv::Event::Delete { node: b.clone(), key: 1.into() },
            kv::Event::Put { node: a, key: 1.into(), value: 2.into() },
            kv::Event::Put { node: b, key: 3.into(), value: 1.into() },
        ];
        assert_eq!(changes(&old, &new), expected);
        assert_eq!(changes(&new, &new), []);
    }
}
