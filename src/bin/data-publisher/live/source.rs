//! The scope that is looked at, of whichever publisher: its names, what is behind each, and what changes.

use std::collections::BTreeMap;

use data_publisher::engine::DataPublisher;
use data_publisher::kv::{self, Kv, KvPublisher};
use data_publisher::pg::{self, Pg};
use data_publisher::scope::{Notice, PeerEvents, Scope, ScopeStats, ScopeStopped, Subscription};
use data_publisher::term::{Atom, NodeName, Pid, Term};

use super::event::{Happened, cut, pids};
use super::search::Row;
use crate::commands::join::raw::{Heard, Raw};
use crate::words::{self, Counted};

/// Values of a key that are shown.
const MOST_VALUES: usize = 5;

/// A handle to the scope.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    Pg(Pg),
    Kv(Kv),
    Raw(Scope<Raw>),
}

impl Source {
    pub(super) fn name(&self) -> &Atom {
        match self {
            Self::Pg(pg) => pg.name(),
            Self::Kv(kv) => kv.name(),
            Self::Raw(scope) => scope.name(),
        }
    }

    /// As `--module` has it.
    pub(super) fn module(&self) -> &'static str {
        match self {
            Self::Pg(_) => "pg",
            Self::Kv(_) => "kv",
            Self::Raw(_) => "raw",
        }
    }

    /// What its entries are.
    pub(super) fn entries(&self) -> Counted {
        match self {
            Self::Pg(_) => words::GROUPS,
            Self::Kv(_) => words::KEYS,
            Self::Raw(_) => words::NODES_DATA,
        }
    }

    /// How many entries there are, without listing them.
    pub(super) fn count(&self) -> usize {
        match self {
            Self::Pg(pg) => pg.members().group_count(),
            Self::Kv(kv) => kv.key_count(),
            Self::Raw(scope) => scope.view(BTreeMap::len).unwrap_or_default(),
        }
    }

    /// The names of all entries, in term order. With a hundred thousand of them it takes a tenth of a second.
    pub(super) fn names(&self) -> Vec<Term> {
        match self {
            Self::Pg(pg) => pg.which_groups(),
            Self::Kv(kv) => kv.keys(),
            Self::Raw(scope) => {
                scope.view(|view| view.keys().map(Term::from).collect()).unwrap_or_default()
            }
        }
    }

    /// What is behind a name; `None` if it's gone by now.
    pub(super) fn row(&self, term: &Term, name: &str) -> Option<Row> {
        let (count, detail) = match self {
            Self::Pg(pg) => {
                let members = pg.get_members(term);
                (members.len(), pids(&members))
            }
            Self::Kv(kv) => {
                let owners = kv.get(term.clone());
                let mut all: Vec<_> = owners.iter().take(MOST_VALUES).map(owned).collect();
                if owners.len() > MOST_VALUES {
                    all.push(format!("and {} more", owners.len() - MOST_VALUES));
                }
                (owners.len(), all.join("; "))
            }
            Self::Raw(scope) => {
                let node = term.node_name().ok()?;
                let known = scope.view(|view| view.get(&node).cloned()).ok()??;
                (1, known.data.as_ref().map(cut).unwrap_or_default())
            }
        };
        (count > 0).then(|| Row { name: name.to_owned(), count, detail })
    }

    pub(super) async fn stats(&self) -> Result<ScopeStats, ScopeStopped> {
        match self {
            Self::Pg(pg) => pg.stats().await,
            Self::Kv(kv) => kv.stats().await,
            Self::Raw(scope) => scope.stats().await,
        }
    }

    pub(super) async fn ready(&self) -> Result<(), ScopeStopped> {
        match self {
            Self::Pg(pg) => pg.ready().await,
            Self::Kv(kv) => kv.ready().await,
            Self::Raw(scope) => scope.ready().await,
        }
    }

    pub(super) fn peer_events(&self) -> PeerEvents {
        match self {
            Self::Pg(pg) => pg.peer_events(),
            Self::Kv(kv) => kv.peer_events(),
            Self::Raw(scope) => scope.peer_events(),
        }
    }

    /// What changes from now on.
    pub(super) async fn changes(&self) -> Result<Changes, ScopeStopped> {
        Ok(match self {
            Self::Pg(pg) => Changes::Pg(pg.monitor_scope().await?.1),
            Self::Kv(kv) => Changes::Kv(kv.subscribe().await?.1),
            Self::Raw(scope) => Changes::Raw(scope.subscribe(()).await?.1),
        })
    }
}

fn owned((node, value): (&NodeName, &Term)) -> String {
    format!("{node}: {}", cut(value))
}

/// The changes of a scope.
pub(super) enum Changes {
    Pg(pg::Events),
    Kv(Subscription<KvPublisher>),
    Raw(Subscription<Raw>),
}

/// One of them. Most are only counted, so it's put into words later.
pub(super) enum Change {
    Pg(pg::Event),
    Kv(kv::Event),
    Raw(<Raw as DataPublisher>::Event),
    /// Some were left out.
    Lagged,
}

impl Changes {
    /// `None` when the scope has ended. Cancel safe.
    pub(super) async fn next(&mut self) -> Option<Change> {
        Some(match self {
            Self::Pg(events) => Change::Pg(events.next().await?),
            Self::Kv(changes) => match changes.next().await? {
                Notice::Event(change) => Change::Kv(change),
                Notice::Lagged(_) => Change::Lagged,
            },
            Self::Raw(changes) => match changes.next().await? {
                Notice::Event(change) => Change::Raw(change),
                Notice::Lagged(()) => Change::Lagged,
            },
        })
    }
}

impl Change {
    pub(super) fn told(&self) -> Happened {
        let of_pids = |event, group: &Term, all: &[Pid]| {
            Happened::new(event, all.first().map(|pid| &pid.node), cut(group), pids(all))
        };
        match self {
            Self::Pg(pg::Event::Join { group, pids }) => of_pids("join", group, pids),
            Self::Pg(pg::Event::Leave { group, pids }) => of_pids("leave", group, pids),
            Self::Kv(kv::Event::Put { node, key, value }) => {
                Happened::new("put", Some(node), cut(key), cut(value))
            }
            Self::Kv(kv::Event::Delete { node, key }) => {
                Happened::new("delete", Some(node), cut(key), String::new())
            }
            Self::Raw((node, heard)) => {
                let (event, detail) = match heard {
                    Heard::All(data) => ("local_data", cut(data)),
                    Heard::Update(update) => ("update", cut(update)),
                    Heard::Gone => ("gone", String::new()),
                };
                Happened::new(event, Some(node), node.to_string(), detail)
            }
            Self::Lagged => {
                Happened::new("lagged", None, String::new(), "changes were left out".to_owned())
            }
        }
    }
}
