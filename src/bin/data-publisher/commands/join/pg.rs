//! A `pg` scope: member processes made and ended by lines of input.

use std::collections::BTreeMap;

use anyhow::{Context, bail};
use data_publisher::engine::Version;
use data_publisher::node::{Node, Process, Received};
use data_publisher::pg::{self, Events, Pg};
use data_publisher::scope::{PeerEvents, ScopeStopped};
use data_publisher::term::{Atom, NodeName, Pid, Term};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::{Module, ended, strings};
use crate::args::Join;
use crate::commands::input::{alone, one_term};
use crate::live::Source;
use crate::output::{Event, Format};
use crate::words;

/// Most processes one `join` line makes.
const MOST_AT_ONCE: usize = 100_000;

pub(super) struct Groups {
    node: Node,
    pg: Pg,
    /// In whose name messages are sent.
    sender: Process,
    members: BTreeMap<Term, Vec<Member>>,
    messages: mpsc::UnboundedReceiver<Told>,
    told: mpsc::UnboundedSender<Told>,
    /// What there was at the start, until it's printed.
    initial: Vec<(Term, std::sync::Arc<[Pid]>)>,
    changes: Events,
}

/// A member process of ours. Its task receives; dropping the sender ends both.
struct Member {
    pid: Pid,
    _end: tokio::sync::oneshot::Sender<()>,
}

/// What a member has to tell.
enum Told {
    Message(Pid, Term),
    /// Somebody ended it by an exit signal.
    Ended(Pid),
}

impl Groups {
    pub(super) async fn start(node: &Node, scope: Atom) -> anyhow::Result<Self> {
        let pg = Pg::start(node, scope)?;
        let (initial, changes) = pg.monitor_scope().await?;
        let (told, messages) = mpsc::unbounded_channel();
        let (sender, members) = (node.spawn(), BTreeMap::new());
        Ok(Self { node: node.clone(), pg, sender, members, messages, told, initial, changes })
    }

    async fn join(&mut self, group: &Term, count: usize) -> anyhow::Result<Vec<Pid>> {
        anyhow::ensure!(count <= MOST_AT_ONCE, "at most {MOST_AT_ONCE} at once");
        let processes: Vec<Process> = (0..count).map(|_| self.node.spawn()).collect();
        let pids: Vec<Pid> = processes.iter().map(|process| process.pid().clone()).collect();
        self.pg.join(group, &pids[..]).await?;
        let told = self.told.clone();
        let members = processes.into_iter().map(|process| member(process, told.clone()));
        self.members.entry(group.clone()).or_default().extend(members);
        Ok(pids)
    }

    /// Ends the newest members. They leave first, so that the answer is already true.
    async fn leave(&mut self, group: &Term, count: usize) -> anyhow::Result<Vec<Pid>> {
        let members = self.members.get_mut(group).context("no member of ours is in this group")?;
        anyhow::ensure!(
            count <= members.len(),
            "only {} of our members are in this group",
            members.len()
        );
        let ended = members.split_off(members.len() - count);
        if members.is_empty() {
            self.members.remove(group);
        }
        let pids: Vec<Pid> = ended.iter().rev().map(|member| member.pid.clone()).collect();
        self.pg.leave(group, &pids[..]).await?;
        Ok(pids)
    }

    fn forget(&mut self, pid: &Pid) {
        self.members.retain(|_, members| {
            members.retain(|member| member.pid != *pid);
            !members.is_empty()
        });
    }
}

impl Module for Groups {
    const COMMANDS: &str = "join GROUP [COUNT] | leave GROUP [COUNT] | members GROUP | \
         local GROUP | groups | send GROUP TERM";

    async fn begin(&mut self, args: &Join, format: Format) -> anyhow::Result<()> {
        for (group, pids) in self.initial.drain(..) {
            format.print(&Event::Join { group: &group, pids: &pids })?;
        }
        for group in &args.group {
            self.join(group, 1).await?;
        }
        Ok(())
    }

    async fn step(&mut self, format: Format) -> anyhow::Result<()> {
        tokio::select! {
            biased;
            change = self.changes.next() => match change {
                Some(pg::Event::Join { group, pids }) => {
                    format.print(&Event::Join { group: &group, pids: &pids })?;
                }
                Some(pg::Event::Leave { group, pids }) => {
                    format.print(&Event::Leave { group: &group, pids: &pids })?;
                }
                None => return Err(ended(self.pg.name())),
            },
            Some(told) = self.messages.recv() => match told {
                Told::Message(pid, term) => {
                    format.print(&Event::Message { pid: &pid, term: &term })?;
                }
                Told::Ended(pid) => self.forget(&pid),
            },
        }
        Ok(())
    }

    async fn obey(&mut self, word: &str, rest: &str) -> anyhow::Result<Option<Value>> {
        Ok(Some(match word {
            "join" => {
                let (group, count) = group_and_count(rest)?;
                strings(&self.join(&group, count).await?)
            }
            "leave" => {
                let (group, count) = group_and_count(rest)?;
                strings(&self.leave(&group, count).await?)
            }
            "members" => strings(&self.pg.get_members(&one_term(rest, "GROUP")?)),
            "local" => strings(&self.pg.get_local_members(&one_term(rest, "GROUP")?)),
            "groups" => {
                alone(word, rest)?;
                strings(&self.pg.which_groups())
            }
            "send" => {
                let (group, rest) = Term::parse_prefix(rest).context("GROUP")?;
                let term = one_term(rest, "TERM")?;
                // Never waits: a member whose node is stuck mustn't keep the next line.
                let members = self.pg.get_members(&group);
                json!(members.iter().filter(|pid| self.sender.send(*pid, &term)).count())
            }
            _ => return Ok(None),
        }))
    }

    fn peer_events(&self) -> PeerEvents {
        self.pg.peer_events()
    }

    async fn peers(&self) -> Result<Vec<(Pid, Version)>, ScopeStopped> {
        self.pg.peers().await
    }

    fn ready(&self) -> BoxFuture<'static, ()> {
        let pg = self.pg.clone();
        async move { pg.ready().await.unwrap_or_default() }.boxed()
    }

    fn awaited(&self) -> BoxFuture<'static, Vec<NodeName>> {
        let pg = self.pg.clone();
        async move { pg.awaited().await.unwrap_or_default() }.boxed()
    }

    fn size(&self) -> String {
        words::count(self.pg.which_groups().len(), words::GROUPS)
    }

    fn source(&self) -> Source {
        Source::Pg(self.pg.clone())
    }
}

fn group_and_count(text: &str) -> anyhow::Result<(Term, usize)> {
    let (group, rest) = Term::parse_prefix(text).context("GROUP")?;
    let count = match rest.trim() {
        "" => 1,
        count => match count.parse() {
            Ok(count) if count > 0 => count,
            _ => bail!("COUNT must be a number above 0, not `{count}`"),
        },
    };
    Ok((group, count))
}

/// Starts a member's task. It ends with the member, or when an exit signal ends the process.
fn member(mut process: Process, told: mpsc::UnboundedSender<Told>) -> Member {
    let pid = process.pid().clone();
    let (end, mut ended) = tokio::sync::oneshot::channel();
    tokio::spawn(async move {
        loop {
            let received = tokio::select! {
                received = process.receive() => received,
                _ = &mut ended => return,
            };
            let told = match received {
                Some(Received::NodeUp(_) | Received::NodeDown(_)) => continue,
                Some(received) => {
                    told.send(Told::Message(process.pid().clone(), received.into_term()))
                }
                None => {
                    let _ = told.send(Told::Ended(process.pid().clone()));
                    return;
                }
            };
            if told.is_err() {
                return;
            }
        }
    });
    Member { pid, _end: end }
}

#[cfg(test)]
mod tests {
    use super::*;
    use data_publisher::{atom, tuple};

    #[test]
    fn a_group_is_any_term_and_a_count_is_optional() {
        let group: Term = tuple![atom!("room"), 1];
        assert_eq!(group_and_count("{room, 1}").unwrap(), (group.clone(), 1));
        assert_eq!(group_and_count("{room, 1} 3").unwrap(), (group, 3));
        for bad in ["", "{a", "a 0", "a -1", "a b"] {
            assert!(group_and_count(bad).is_err(), "{bad}");
        }
    }
}
