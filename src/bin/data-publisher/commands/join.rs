//! `join`: a member at the keyboard or at the end of a pipe.
//!
//! One loop has all that can happen; each line of input and each event is printed whole before the
//! next is looked at, so the output is in the order things happened.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context;
use data_publisher::node::{ConnectError, Node, NodeEvent, NodeEvents, Process, Received};
use data_publisher::pg::{self, Events, Pg};
use data_publisher::scope::{PeerEvent, PeerEvents};
use data_publisher::term::{NodeName, Pid, Term};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::asked_to_end;
use crate::args::Join;
use crate::commands::input::{self, Line};
use crate::output::{Event, Format};
use crate::{Answer, cure, output};

/// How long a peer named on the command line may take before we say what is wrong.
const CONNECT_LIMIT: Duration = Duration::from_millis(7500);

/// Most processes one `join` line makes.
const MOST_AT_ONCE: usize = 100_000;

pub(super) async fn run(args: Join) -> anyhow::Result<Answer> {
    let format = if args.json { Format::Json } else { Format::Text };
    let node = data_publisher::start(args.config()?).await?;
    let mut session = Session::start(node.clone(), &args, format).await?;
    let result = session.run(&args).await;
    drop(session);
    node.stop().await;
    result.map(|()| Answer::Yes)
}

/// A running `join`.
struct Session {
    node: Node,
    pg: Pg,
    /// In whose name messages are sent.
    sender: Process,
    format: Format,
    members: BTreeMap<Term, Vec<Member>>,
    messages: mpsc::UnboundedReceiver<Told>,
    told: mpsc::UnboundedSender<Told>,
    node_events: NodeEvents,
    peer_events: PeerEvents,
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

impl Session {
    async fn start(node: Node, args: &Join, format: Format) -> anyhow::Result<Self> {
        let node_events = node.events();
        let pg = Pg::start(&node, args.scope()?)?;
        let peer_events = pg.peer_events();
        let (groups, changes) = pg.monitor_scope().await?;
        let (told, messages) = mpsc::unbounded_channel();
        let (sender, members) = (node.spawn(), BTreeMap::new());
        let session = Self {
            node,
            pg,
            sender,
            format,
            members,
            messages,
            told,
            node_events,
            peer_events,
            changes,
        };
        let node = &session.node;
        let (name, port, creation) = (node.name(), node.port(), node.creation());
        session.print(&Event::Up { node: name, port, creation })?;
        for (group, pids) in &groups {
            session.print(&Event::Join { group, pids })?;
        }
        Ok(session)
    }

    async fn run(&mut self, args: &Join) -> anyhow::Result<()> {
        for group in &args.group {
            self.join(group, 1).await?;
        }
        let mut dials = dial(&self.node, &args.peers);
        let mut missing = args.peers.len();
        let mut reached = missing == 0;
        let mut lines = input::lines(args.json);
        let mut end = std::pin::pin!(asked_to_end());
        loop {
            tokio::select! {
                // In this order what is ready at the same time is told: a node before its scope's
                // process, that before its members.
                biased;
                () = &mut end => return Ok(()),
                Some(event) = self.node_events.next() => self.print_node_event(&event)?,
                Some(event) = self.peer_events.next() => self.print_peer_event(&event)?,
                change = self.changes.next() => match change {
                    Some(change) => self.print_change(&change)?,
                    None => anyhow::bail!("the scope {} was ended from outside", self.pg.name()),
                },
                Some(result) = dials.recv() => {
                    missing -= 1;
                    match result {
                        Ok(()) => reached = true,
                        // With no peer at all the user has made a mistake that waiting won't mend;
                        // with one, the others may come later.
                        Err(error) if missing == 0 && !reached => return Err(error.into()),
                        Err(error) => {
                            let error = cure::sentence(&error.into());
                            let what = if reached { "will try again: " } else { "" };
                            output::complain(&format!("{what}{error}"));
                        }
                    }
                }
                line = lines.next() => match line {
                    Some(Line::Text(line)) => if !self.obey(&line).await? { return Ok(()) },
                    Some(Line::End) | None => {}
                },
                Some(told) = self.messages.recv() => match told {
                    Told::Message(pid, term) => {
                        self.print(&Event::Message { pid: &pid, term: &term })?;
                    }
                    Told::Ended(pid) => self.forget(&pid),
                },
            }
        }
    }

    /// Does what a line says and prints the answer; `false` for `quit`.
    async fn obey(&mut self, line: &str) -> anyhow::Result<bool> {
        let line = line.trim();
        if line.is_empty() {
            return Ok(true);
        }
        let command = input::command(line);
        let go_on = !matches!(command, Ok(input::Command::Quit));
        let result = match command {
            Ok(command) => self.answer(command).await,
            Err(error) => Err(error),
        };
        let result = result.map_err(|error| cure::sentence(&error));
        self.print(&Event::Reply { command: line, result })?;
        Ok(go_on)
    }

    async fn answer(&mut self, command: input::Command) -> anyhow::Result<Value> {
        use input::Command;
        Ok(match command {
            Command::Join(group, count) => strings(&self.join(&group, count).await?),
            Command::Leave(group, count) => strings(&self.leave(&group, count).await?),
            Command::Members(group) => strings(&self.pg.get_members(&group)),
            Command::Local(group) => strings(&self.pg.get_local_members(&group)),
            Command::Groups => strings(&self.pg.which_groups()),
            Command::Nodes => strings(&self.node.nodes()),
            Command::Peers => {
                let peers = self.pg.peers().await?;
                let peer = |(pid, version): &(Pid, data_publisher::engine::Version)| {
                    json!({
                        "node": pid.node.as_str(), "pid": pid.to_string(),
                        "version": version.0.to_string(),
                    })
                };
                peers.iter().map(peer).collect()
            }
            Command::Send(group, term) => {
                // Never waits: a member whose node is stuck mustn't keep the next line.
                let members = self.pg.get_members(&group);
                json!(members.iter().filter(|pid| self.sender.send(*pid, &term)).count())
            }
            Command::Help => json!(input::HELP),
            Command::Quit => Value::Null,
        })
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

    fn print_node_event(&self, event: &NodeEvent) -> std::io::Result<()> {
        match event {
            NodeEvent::Up { node, .. } => self.print(&Event::NodeUp { node }),
            NodeEvent::Down { node, reason } => {
                self.print(&Event::NodeDown { node, reason: reason.to_string() })
            }
            _ => Ok(()),
        }
    }

    fn print_peer_event(&self, event: &PeerEvent) -> std::io::Result<()> {
        match event {
            PeerEvent::Up { pid, version } => {
                self.print(&Event::PeerUp { pid, version: &version.0 })
            }
            PeerEvent::Down { pid, reason } => self.print(&Event::PeerDown { pid, reason }),
            _ => Ok(()),
        }
    }

    fn print_change(&self, change: &pg::Event) -> std::io::Result<()> {
        match change {
            pg::Event::Join { group, pids } => self.print(&Event::Join { group, pids }),
            pg::Event::Leave { group, pids } => self.print(&Event::Leave { group, pids }),
        }
    }

    fn print(&self, event: &Event<'_>) -> std::io::Result<()> {
        self.format.print(event)
    }
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

/// Connects to each peer at once; each result once. The node itself keeps trying afterwards.
fn dial(node: &Node, peers: &[NodeName]) -> mpsc::Receiver<Result<(), ConnectError>> {
    let (results, receiver) = mpsc::channel(peers.len().max(1));
    for peer in peers {
        let (node, peer, results) = (node.clone(), peer.clone(), results.clone());
        tokio::spawn(async move {
            let result = match tokio::time::timeout(CONNECT_LIMIT, node.connect(&peer)).await {
                Ok(result) => result,
                Err(_) => Err(ConnectError::Timeout { node: peer }),
            };
            let _ = results.send(result).await;
        });
    }
    receiver
}

fn strings<T: ToString>(all: &[T]) -> Value {
    all.iter().map(ToString::to_string).collect()
}
