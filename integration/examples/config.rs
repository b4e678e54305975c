//! A table of feature flags: each node owns flags, and everybody sees everybody's.
//!
//! ```text
//! cargo run --example config -- r@127.0.0.1 COOKIE [a@127.0.0.1]
//! ```
//!
//! Lines on stdin: `set NAME {"enabled": true, "percent": 10}`, `remove NAME`, `get NAME`, `all`. Besides
//! what `load` shows, here are an update and a subscription of one's own types, reading without
//! asking, and waiting until all peers have answered.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it talks to its user")]

use std::collections::BTreeMap;

use data_publisher::engine::{DataPublisher, Effects};
use data_publisher::scope::Notice;
use data_publisher::term::{Atom, NodeName};
use data_publisher::{Cookie, NodeConfig, Scope, atom};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, BufReader};

/// `#{enabled => true, percent => 10, only_for => [<<"alice">>]}`
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct Flag {
    enabled: bool,
    /// Of all users.
    #[serde(default = "all_users")]
    percent: u8,
    /// These in any case.
    #[serde(default)]
    only_for: Vec<String>,
}

fn all_users() -> u8 {
    100
}

/// `{set, <<"dark_mode">>, #{..}}` or `{remove, <<"dark_mode">>}`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
enum Change {
    Set(String, Flag),
    Remove(String),
}

/// `all` or `{flag, <<"dark_mode">>}`
#[derive(Clone, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Interest {
    All,
    Flag(String),
}

/// The flags of each name, by the nodes that own them.
type Table = BTreeMap<String, BTreeMap<NodeName, Flag>>;

struct Flags;

impl DataPublisher for Flags {
    type LocalData = BTreeMap<String, Flag>;
    type Update = Vec<Change>;
    type GlobalView = Table;
    type Subscription = Interest;
    type Initial = Table;
    type Event = (NodeName, Change);

    fn init_local_data(&self) -> Self::LocalData {
        BTreeMap::new()
    }

    fn init_global_view(&mut self, _: &Atom) -> Table {
        Table::new()
    }

    fn update_local_data(
        &self,
        changes: Vec<Change>,
        flags: &mut Self::LocalData,
    ) -> Option<Vec<Change>> {
        let makes_a_difference = |change: &Change| match change {
            Change::Set(name, flag) => {
                flags.insert(name.clone(), flag.clone()).as_ref() != Some(flag)
            }
            Change::Remove(name) => flags.remove(name).is_some(),
        };
        let real: Vec<_> = changes.into_iter().filter(makes_a_difference).collect();
        (!real.is_empty()).then_some(real)
    }

    fn data_diff(&self, old: &Self::LocalData, new: &Self::LocalData) -> Option<Vec<Change>> {
        let gone = old.keys().filter(|name| !new.contains_key(*name)).cloned().map(Change::Remove);
        let come = new.iter().filter(|(name, flag)| old.get(*name) != Some(flag));
        let come = come.map(|(name, flag)| Change::Set(name.clone(), flag.clone()));
        let changes: Vec<_> = gone.chain(come).collect();
        (!changes.is_empty()).then_some(changes)
    }

    fn update_global_view_and_notify(
        &self,
        node: &NodeName,
        changes: &Vec<Change>,
        table: &mut Table,
        effects: &mut Effects<'_, Self>,
    ) {
        for change in changes {
            let name = match change {
                Change::Set(name, flag) => {
                    table.entry(name.clone()).or_default().insert(node.clone(), flag.clone());
                    name
                }
                Change::Remove(name) => {
                    if let Some(owners) = table.get_mut(name) {
                        owners.remove(node);
                    }
                    table.retain(|_, owners| !owners.is_empty());
                    name
                }
            };
            let event = (node.clone(), change.clone());
            effects.notify(&Interest::All, &event);
            effects.notify(&Interest::Flag(name.clone()), &event);
        }
    }

    fn new_subscription(&self, interest: &Interest, table: &Table) -> Table {
        let mut table = table.clone();
        if let Interest::Flag(name) = interest {
            table.retain(|other, _| other == name);
        }
        table
    }

    data_publisher::serde_terms!();
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (Some(name), Some(cookie)) = (arguments.next(), arguments.next()) else {
        anyhow::bail!("usage: config NAME@HOST COOKIE [PEER]")
    };
    let config = NodeConfig::new(&name)?.cookie(Cookie::new(&cookie)?);
    let node = data_publisher::start(config).await?;
    let flags = Scope::start(&node, atom!("flags"), Flags)?;
    for peer in arguments {
        node.connect(&*peer).await?;
    }
    flags.ready().await?;
    println!("ready, flags: {}", flags.view(Table::len)?);

    let (_, mut changes) = flags.subscribe(Interest::All).await?;
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    loop {
        tokio::select! {
            change = changes.next() => match change {
                Some(Notice::Event((node, change))) => println!("{node} {change:?}"),
                Some(Notice::Lagged(all)) => println!("all anew: {}", serde_json::to_string(&all)?),
                None => anyhow::bail!("the scope has ended"),
            },
            line = lines.next_line() => match line? {
                Some(line) => match obey(&flags, &line).await {
                    Ok(answer) => println!("{answer}"),
                    Err(error) => eprintln!("{error}"),
                },
                None => break,
            },
        }
    }
    node.stop().await;
    Ok(())
}

async fn obey(flags: &Scope<Flags>, line: &str) -> anyhow::Result<String> {
    let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
    Ok(match word {
        "set" => {
            let (name, flag) = rest.split_once(' ').unwrap_or((rest, ""));
            let set = Change::Set(name.to_owned(), serde_json::from_str(flag)?);
            flags.update(vec![set]).await?.to_string()
        }
        "remove" => flags.update(vec![Change::Remove(rest.to_owned())]).await?.to_string(),
        // No task is asked: this is the view itself.
        "get" => flags.view(|table| serde_json::to_string(&table.get(rest)))??,
        "all" => flags.view(serde_json::to_string)??,
        _ => anyhow::bail!("set NAME JSON, remove NAME, get NAME or all"),
    })
}

#[cfg(all(test, feature = "testing"))]
mod tests {
    use data_publisher::testing::{Cluster, Random, shake};
    use data_publisher::{list, map, term::Term, tuple};

    use super::*;

    const NAMES: [&str; 3] = ["dark", "beta", "new_search"];

    fn cluster() -> Cluster<Flags> {
        let hear_all = |seen: &mut Table, event| hear(seen, event);
        let mut cluster = Cluster::new(["a", "b", "c"], |_| Flags).compare(Table::clone);
        cluster = cluster.follow(Interest::All, hear_all);
        cluster.follow(Interest::Flag(NAMES[0].to_owned()), hear_all)
    }

    /// What a reader makes of an event.
    fn hear(seen: &mut Table, (node, change): (NodeName, Change)) {
        match change {
            Change::Set(name, flag) => _ = seen.entry(name).or_default().insert(node, flag),
            Change::Remove(name) => {
                let owners = seen.get_mut(&name).expect("only what is there is removed");
                owners.remove(&node);
                seen.retain(|_, owners| !owners.is_empty());
            }
        }
    }

    fn flag(percent: u8) -> Flag {
        Flag { enabled: percent > 0, percent, only_for: Vec::new() }
    }

    fn set(name: &str, percent: u8) -> Vec<Change> {
        vec![Change::Set(name.to_owned(), flag(percent))]
    }

    #[test]
    fn a_flag_is_there_for_all_until_its_last_owner_is_gone() {
        let mut cluster = cluster();
        cluster.connect_all();
        cluster.update("a", set("dark", 10));
        cluster.update("b", set("dark", 20));
        cluster.settle();
        assert_eq!(cluster.view("c")["dark"][cluster.name("b")], flag(20));
        cluster.kill("a");
        assert_eq!(cluster.view("c")["dark"].len(), 1);
        cluster.update("b", vec![Change::Remove("dark".to_owned())]);
        cluster.settle();
        assert!(cluster.view("c").is_empty());
    }

    #[test]
    fn a_process_on_the_beam_sets_a_flag_and_hears_of_it() {
        let mut cluster = cluster();
        cluster.connect_all();
        cluster.settle();
        let process = cluster.spawn("b");
        let subscribe = |interest: Term| tuple![atom!("subscribe"), interest];
        let reply = cluster.call(&process, "a", subscribe(atom!("all").into()));
        let [reference, _] = reply.tuple().expect("a pair");
        // What isn't said is as in `Flag`.
        let change =
            tuple![atom!("set"), Term::binary_of("dark"), map![atom!("enabled") => atom!("true")]];
        let update = tuple![atom!("update"), list![change]];
        assert_eq!(cluster.call(&process, "a", update), Term::from(atom!("ok")));
        let all = map! {
            atom!("enabled") => atom!("true"), atom!("percent") => 100, atom!("only_for") => list![]
        };
        let event = tuple![
            reference,
            cluster.name("a"),
            tuple![atom!("set"), Term::binary_of("dark"), all]
        ];
        assert_eq!(cluster.received(&process), [event]);
        let refused = cluster.call(&process, "a", subscribe(atom!("some").into()));
        assert_eq!(refused, tuple![atom!("error"), atom!("badarg")]);
    }

    #[test]
    fn whatever_happens_all_see_the_same() {
        shake(
            0..200,
            |_| cluster(),
            |cluster, node, random: &mut Random| {
                let changes = (0..=random.below(2)).map(|_| {
                    let name = (*random.pick(&NAMES)).to_owned();
                    match random.below(4) {
                        0 => Change::Remove(name),
                        percent => Change::Set(name, flag(percent as u8)),
                    }
                });
                cluster.update(node, changes.collect());
            },
        );
    }
}
