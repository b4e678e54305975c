//! The scope: whether it's there, which dialect it speaks, and whether all see the same in it.
//!
//! For this we run the scope, too, without members, connected to all nodes the peer is connected to. So our view is
//! what all of them publish; a node that sees something else has missed it, or somebody else's word. Views change
//! while one looks at them, so nobody disagrees before it has done so for a while.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use data_publisher::kv::Kv;
use data_publisher::pg::Pg;
use data_publisher::rpc::RpcError;
use data_publisher::term::{Atom, NodeName, Term};
use data_publisher::{Node, atom, list, rpc};
use futures::stream::{self, StreamExt};

use super::report::{Report, Trouble};
use crate::args::{Comparable, Doctor};
use crate::words;

/// How long views may differ before somebody disagrees.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long the scopes of others may take to answer.
const ANSWERED: Duration = Duration::from_secs(5);

/// Groups of a node that are looked at, the first in term order; and how many at a time.
const GROUPS: usize = 5000;
const AT_ONCE: usize = 32;

/// What is in each group, or at each key; sorted.
type View = BTreeMap<Term, Vec<Term>>;

/// A scope of ours.
enum Ours {
    Pg(Pg),
    Kv(Kv),
}

pub(super) async fn look(args: &Doctor, node: &Node, report: &mut Report) -> anyhow::Result<()> {
    let peer = &args.node;
    let name: Atom = args.scope.as_deref().unwrap_or("pg").parse()?;
    let began = Instant::now();
    let others = meet_others(node, peer).await;
    let seen = match &others[..] {
        [] => format!("{peer} is connected to no other node that we can reach"),
        others => {
            let names: Vec<_> = others.iter().map(ToString::to_string).collect();
            format!("{peer} is connected to {}", super::some_of(&names))
        }
    };
    report.step("nodes", began, Ok(((), seen)))?;

    let began = Instant::now();
    if args.module == Comparable::Kv {
        // A `pg` before OTP 29 dies of the words in which any other publisher greets.
        for other in others.iter().chain([peer]) {
            if is_pg(node, other, &name).await {
                let trouble = Trouble::new(
                    format!("{name} on {other} is a scope of pg, which isn't greeted as one of kv"),
                    "Leave --module kv out, or name another --scope",
                );
                report.step::<()>("scope", began, Err(trouble))?;
                return Ok(());
            }
        }
    }
    let ours = match args.module {
        Comparable::Kv => Ours::Kv(Kv::start(node, name.clone())?),
        Comparable::Pg => Ours::Pg(Pg::start(node, name.clone())?),
    };
    let dialects = dialects(node, &ours, &name, others.iter().chain([peer])).await;
    if args.scope.is_none() && dialects.is_empty() {
        // Nobody asked for it: an Elixir application has scopes of other names.
        let seen = format!("{name} isn't started on {peer}; --scope looks at another one");
        report.skipped("scope", &seen)?;
        ours.stop().await;
        return Ok(());
    }
    let found = match dialects.iter().find(|(node, _)| node == peer) {
        Some((_, version)) => Ok(((), dialect(args.module, &name, version))),
        None => Err(Trouble::new(
            format!("no scope {name} answers on {peer}"),
            format!("Is it started there (`whereis({name})`), and is --module right?"),
        )),
    };
    let is_there = report.step("scope", began, found)?.is_some();
    if is_there {
        for (other, version) in dialects.iter().filter(|(node, _)| node != peer) {
            let seen = format!("on {other}, too: {}", dialect(args.module, &name, version));
            report.step("scope", began, Ok(((), seen)))?;
        }
        let members: Vec<_> = dialects.iter().map(|(node, _)| node.clone()).collect();
        for member in members {
            let began = Instant::now();
            let compared = compare(node, &ours, &name, &member).await;
            match compared {
                Compared::Same(count) => {
                    let what = ours.entries();
                    let seen = format!("{member} sees what we see: {}", words::count(count, what));
                    report.step("view", began, Ok(((), seen)))?;
                }
                Compared::Different(difference) => {
                    let trouble = Trouble::new(
                        format!("{member} disagrees: {difference}"),
                        "A scope that is restarted there starts over; is it connected to all nodes, \
                         and is none of them stopped?",
                    );
                    report.step::<()>("view", began, Err(trouble))?;
                }
                Compared::NotAsked(why) => {
                    report.skipped("view", &format!("{member} isn't asked: {why}"))?;
                }
            }
        }
    }
    ours.stop().await;
    Ok(())
}

/// Connects to those the peer is connected to; who can be reached.
async fn meet_others(node: &Node, peer: &NodeName) -> Vec<NodeName> {
    let asked = rpc::call(node, peer, atom!("erlang"), atom!("nodes"), list![atom!("connected")]);
    let told = match asked.await {
        Ok(told) => told,
        // A node of ours knows this one.
        Err(_) => rpc::call(node, peer, atom!("erlang"), atom!("nodes"), list![])
            .await
            .unwrap_or(Term::NIL),
    };
    let names = told.list().map(|names| names.iter().filter_map(|name| name.node_name().ok()));
    let mut met = Vec::new();
    for name in names.into_iter().flatten().take(1024) {
        if name != *node.name() && node.connect(&name).await.is_ok() {
            met.push(name);
        }
    }
    met.sort();
    met
}

/// Whether who has the name there is a `pg` before OTP 29.
async fn is_pg(node: &Node, peer: &NodeName, scope: &Atom) -> bool {
    let Ok(pid @ Term::Pid(_)) = call(node, peer, "erlang", "whereis", list![scope]).await else {
        return false;
    };
    let began = call(node, peer, "proc_lib", "translate_initial_call", list![pid]).await;
    began.is_ok_and(|began| began.tuple::<3>().is_ok_and(|[module, ..]| module.is_atom("pg")))
}

/// Who runs the scope, and how each speaks. Those who say that they do are waited for until we know each other.
async fn dialects(
    node: &Node,
    ours: &Ours,
    scope: &Atom,
    nodes: impl Iterator<Item = &NodeName>,
) -> Vec<(NodeName, Term)> {
    let end = Instant::now() + ANSWERED;
    let _ = tokio::time::timeout(ANSWERED, ours.ready()).await;
    let mut expected = Vec::new();
    for other in nodes {
        // A node of ours says nothing of it.
        if let Ok(Term::Pid(_)) = call(node, other, "erlang", "whereis", list![scope]).await {
            expected.push(other);
        }
    }
    loop {
        let found = ours.peers().await;
        let is_there = |other: &&NodeName| found.iter().any(|(node, _)| node == *other);
        if expected.iter().all(is_there) || Instant::now() >= end {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn dialect(module: Comparable, scope: &Atom, version: &Term) -> String {
    match (module, version) {
        (Comparable::Pg, Term::Integer(0)) => format!("{scope} speaks pg of OTP 23 to 28"),
        (Comparable::Pg, _) => {
            format!("{scope} speaks data_publisher of OTP 29, pg version {version}")
        }
        _ => format!("{scope} speaks data_publisher, version {version}"),
    }
}

impl Ours {
    fn entries(&self) -> words::Counted {
        match self {
            Self::Pg(_) => words::GROUPS,
            Self::Kv(_) => words::KEYS,
        }
    }

    async fn ready(&self) {
        // Whoever hasn't answered by then is said not to.
        let _ = match self {
            Self::Pg(pg) => pg.ready().await,
            Self::Kv(kv) => kv.ready().await,
        };
    }

    async fn peers(&self) -> Vec<(NodeName, Term)> {
        let peers = match self {
            Self::Pg(pg) => pg.peers().await,
            Self::Kv(kv) => kv.peers().await,
        };
        let peers = peers.unwrap_or_default().into_iter();
        peers.map(|(pid, version)| (pid.node, version.0)).collect()
    }

    fn view(&self) -> View {
        match self {
            Self::Pg(pg) => {
                let groups = pg.members().all().into_iter();
                sorted(groups.map(|(group, pids)| (group, pids.iter().map(Term::from).collect())))
            }
            Self::Kv(kv) => {
                let keys = kv.get_all().into_iter();
                sorted(keys.map(|(key, owners)| {
                    let values = owners.into_iter();
                    (key, values.map(|(node, value)| list![node, value]).collect())
                }))
            }
        }
    }

    async fn stop(self) {
        match self {
            Self::Pg(pg) => pg.stop().await,
            Self::Kv(kv) => kv.stop().await,
        }
    }
}

fn sorted(groups: impl Iterator<Item = (Term, Vec<Term>)>) -> View {
    let groups = groups.map(|(group, mut all)| {
        all.sort();
        (group, all)
    });
    groups.filter(|(_, all)| !all.is_empty()).take(GROUPS).collect()
}

enum Compared {
    Same(usize),
    Different(String),
    NotAsked(String),
}

async fn compare(node: &Node, ours: &Ours, scope: &Atom, peer: &NodeName) -> Compared {
    let end = Instant::now() + PATIENCE;
    loop {
        let theirs = match ours {
            Ours::Pg(_) => groups_of(node, scope, peer).await,
            Ours::Kv(_) => keys_of(node, scope, peer).await,
        };
        let theirs = match theirs {
            Ok(theirs) => theirs,
            Err(why) => return Compared::NotAsked(why),
        };
        let ours = ours.view();
        match difference(&ours, &theirs) {
            None => return Compared::Same(ours.len()),
            Some(difference) if Instant::now() >= end => return Compared::Different(difference),
            Some(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

/// The first that is not the same.
fn difference(ours: &View, theirs: &View) -> Option<String> {
    let differs = |group: &&Term| ours.get(*group) != theirs.get(*group);
    let all = ours.keys().chain(theirs.keys().filter(|group| !ours.contains_key(*group)));
    let mut different: Vec<_> = all.filter(differs).collect();
    different.sort();
    let first = different.first()?;
    let words = |view: &View| {
        let all = view.get(*first).map_or(&[][..], Vec::as_slice);
        let some = all.iter().take(3).map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let more = all.len().saturating_sub(3);
        if more > 0 { format!("{some} and {more} more") } else { some }
    };
    let more = match different.len() - 1 {
        0 => String::new(),
        more => format!(", and on {more} more"),
    };
    Some(format!("on {first}: [{}] there, [{}] here{more}", words(theirs), words(ours)))
}

/// All groups with their members, as a BEAM sees them.
async fn groups_of(node: &Node, scope: &Atom, peer: &NodeName) -> Result<View, String> {
    let groups = call(node, peer, "pg", "which_groups", list![scope]).await?;
    let mut groups: Vec<Term> = groups.list().map_err(|error| error.to_string())?.to_vec();
    groups.sort();
    groups.truncate(GROUPS);
    let asked = groups.into_iter().map(async |group| {
        let members = call(node, peer, "pg", "get_members", list![scope, &group]).await?;
        let members = members.list().map_err(|error| error.to_string())?.to_vec();
        Ok::<_, String>((group, members))
    });
    let answers: Vec<_> = stream::iter(asked).buffered(AT_ONCE).collect().await;
    Ok(sorted(answers.into_iter().collect::<Result<Vec<_>, _>>()?.into_iter()))
}

/// All keys with their values.
async fn keys_of(node: &Node, scope: &Atom, peer: &NodeName) -> Result<View, String> {
    let keys = call(node, peer, "dp_kv", "get_all", list![scope]).await?;
    let keys = keys.map().map_err(|error| error.to_string())?;
    let mut all = Vec::new();
    for (key, owners) in keys.pairs() {
        let owners = owners.map().map_err(|error| error.to_string())?.pairs().iter();
        all.push((key.clone(), owners.map(|(node, value)| list![node, value]).collect()));
    }
    Ok(sorted(all.into_iter()))
}

async fn call(
    node: &Node,
    peer: &NodeName,
    module: &str,
    function: &str,
    args: Term,
) -> Result<Term, String> {
    let atom = |text: &str| text.parse::<Atom>().map_err(|error| error.to_string());
    let called = rpc::call(node, peer, atom(module)?, atom(function)?, args).await;
    called.map_err(|error| match error {
        RpcError::Exception(raised) if raised.reason.is_atom("undef") => {
            format!("there is no {module}:{function} that others may call; nodes in Rust have none")
        }
        error => format!("{module}:{function} there: {error}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(groups: &[(&str, &[i64])]) -> View {
        let groups = groups.iter().map(|(group, members)| {
            (group.parse().unwrap(), members.iter().copied().map(Term::from).collect())
        });
        sorted(groups)
    }

    #[test]
    fn a_difference_names_the_first_group_and_both_views() {
        let ours = view(&[("a", &[1, 2]), ("b", &[3]), ("empty", &[])]);
        assert_eq!(difference(&ours, &view(&[("b", &[3]), ("a", &[2, 1])])), None);
        let theirs = view(&[("a", &[1, 2, 3, 4, 5]), ("c", &[])]);
        assert_eq!(
            difference(&ours, &theirs).unwrap(),
            "on a: [1, 2, 3 and 2 more] there, [1, 2] here, and on 1 more"
        );
        assert_eq!(
            difference(&View::new(), &ours).unwrap(),
            "on a: [1, 2] there, [] here, and on 1 more"
        );
    }
}
