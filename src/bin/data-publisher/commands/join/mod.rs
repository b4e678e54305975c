//! `join`: a member at the keyboard or at the end of a pipe.
//!
//! One loop has all that can happen; each line of input and each event is printed whole before the
//! next is looked at, so the output is in the order things happened. What a scope's publisher adds to
//! that, its commands and its events, is a [`Module`].

mod kv;
mod leave;
mod pg;
pub(crate) mod raw;
mod service;
mod waits;

use std::net::SocketAddr;
use std::time::Duration;

use data_publisher::engine::Version;
use data_publisher::node::{ConnectError, Node, NodeEvent, NodeEvents};
use data_publisher::scope::{PeerEvent, PeerEvents, ScopeStopped};
use data_publisher::term::{NodeName, Pid};
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt as _};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use self::service::Service;
use self::waits::Waits;
use super::asked_to_end;
use crate::args::{self, Join};
use crate::commands::input::{self, Line};
use crate::live::{Model, Server, Source};
use crate::logging::CLI;
use crate::output::{Event, Format};
use crate::{Answer, cure, output, progress, words};

/// How long a peer named on the command line may take before we say what is wrong.
const CONNECT_LIMIT: Duration = Duration::from_millis(7500);

/// How often we look at who is missing; at a terminal, where progress is shown, more often.
const LOOK: Duration = Duration::from_secs(1);
const LOOK_AT_TERMINAL: Duration = Duration::from_millis(200);

/// What runs in the scope: one kind of publisher.
trait Module {
    /// The commands it has besides the common ones.
    const COMMANDS: &str;

    /// Prints what there is at the start and does what the command line asks for.
    async fn begin(&mut self, args: &Join, format: Format) -> anyhow::Result<()>;

    /// Waits for the next thing to print, and prints it. An error when the scope has ended. Cancel
    /// safe.
    async fn step(&mut self, format: Format) -> anyhow::Result<()>;

    /// Does what a line says; `None` when there is no such command.
    async fn obey(&mut self, word: &str, rest: &str) -> anyhow::Result<Option<Value>>;

    fn peer_events(&self) -> PeerEvents;

    async fn peers(&self) -> Result<Vec<(Pid, Version)>, ScopeStopped>;

    /// Resolves when all nodes that are connected now have answered.
    fn ready(&self) -> BoxFuture<'static, ()>;

    /// Those that haven't.
    fn awaited(&self) -> BoxFuture<'static, Vec<NodeName>>;

    /// How much the view has, in words.
    fn size(&self) -> String;

    /// For the live view.
    fn source(&self) -> Source;
}

pub(super) async fn run(args: &Join) -> anyhow::Result<Answer> {
    let http = args.http.bind().await?;
    let node = tokio::select! {
        biased;
        () = asked_to_end() => return Ok(Answer::Yes),
        started = data_publisher::start(args.config()?) => started?,
    };
    leave::guard(&node);
    let scope = args.scope()?;
    let result = match args.module {
        args::Module::Pg => serve(&node, args, http, pg::Groups::start(&node, scope)).await,
        args::Module::Kv => serve(&node, args, http, kv::Keys::start(&node, scope)).await,
        args::Module::Raw => serve(&node, args, http, raw::Watch::start(&node, scope)).await,
    };
    Service::stopping();
    progress::erase();
    node.stop().await;
    result.map(|()| Answer::Yes)
}

async fn serve<M: Module>(
    node: &Node,
    args: &Join,
    http: Option<Server>,
    module: impl Future<Output = anyhow::Result<M>>,
) -> anyhow::Result<()> {
    let format = if args.json { Format::Json } else { Format::Text };
    // Before the scope is there, so that nothing is missed.
    let node_events = node.events();
    let module = module.await?;
    let peer_events = module.peer_events();
    // Ends with us.
    let mut _serving = None;
    let mut address = None;
    if let Some(http) = http {
        address = Some(http.address());
        _serving = Some(http.serve(Model::start(node, module.source()).await?));
    }
    let session = Session {
        node: node.clone(),
        module,
        format,
        node_events,
        peer_events,
        service: Service::default(),
        waits: Waits::default(),
        answers: FuturesUnordered::new(),
        unanswered: None,
        peers: 0,
        address,
        dialling: args.peers.len(),
    };
    session.run(args).await
}

/// What `join` does next, of things that may be ready at any time.
enum Turn {
    Told(anyhow::Result<()>),
    Dialled(Result<(), ConnectError>),
    Line(Option<Line>),
    Answered,
    Unanswered(Vec<NodeName>),
    Look,
}

/// A running `join`.
struct Session<M> {
    node: Node,
    module: M,
    format: Format,
    node_events: NodeEvents,
    peer_events: PeerEvents,
    service: Service,
    waits: Waits,
    /// Each is there until all nodes that were connected when it came have answered.
    answers: FuturesUnordered<BoxFuture<'static, ()>>,
    /// The question who hasn't.
    unanswered: Option<BoxFuture<'static, Vec<NodeName>>>,
    /// How many peers there are.
    peers: usize,
    /// Where the live view is.
    address: Option<SocketAddr>,
    /// How many nodes of the command line are being dialled for the first time; how that ends is told anyway.
    dialling: usize,
}

impl<M: Module> Session<M> {
    async fn run(mut self, args: &Join) -> anyhow::Result<()> {
        let (node, port, creation) = (self.node.name(), self.node.port(), self.node.creation());
        self.format.print(&Event::Up { node, port, creation })?;
        if let Some(address) = self.address {
            self.format.print(&Event::Http { address })?;
        }
        self.module.begin(args, self.format).await?;
        self.service.ready();
        let mut dials = dial(&self.node, &args.peers);
        let mut reached = args.peers.is_empty();
        let mut lines = input::lines(args.json);
        let mut end = std::pin::pin!(asked_to_end());
        let mut looks = tokio::time::interval(look_every());
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                // In this order what is ready at the same time is told: a node before its scope's
                // process, that before its data.
                biased;
                () = &mut end => return Ok(()),
                Some(event) = self.node_events.next() => self.print_node_event(&event)?,
                Some(event) = self.peer_events.next() => self.print_peer_event(&event)?,
                // None of these may keep the others waiting, however much it has to say.
                turn = async {
                    tokio::select! {
                        told = self.module.step(self.format) => Turn::Told(told),
                        Some(result) = dials.recv() => Turn::Dialled(result),
                        line = lines.next() => Turn::Line(line),
                        Some(()) = self.answers.next() => Turn::Answered,
                        nodes = asked(&mut self.unanswered) => Turn::Unanswered(nodes),
                        _ = looks.tick() => Turn::Look,
                    }
                } => match turn {
                    Turn::Told(told) => told?,
                    Turn::Line(Some(Line::Text(line))) => {
                        if !self.obey(&line).await? {
                            return Ok(());
                        }
                    }
                    Turn::Line(Some(Line::End) | None) => {}
                    Turn::Answered => self.answered(),
                    Turn::Unanswered(nodes) => self.look_at(&nodes),
                    Turn::Look => self.look(),
                    Turn::Dialled(result) => {
                        self.dialling -= 1;
                        match result {
                            Ok(()) => reached = true,
                            // With no peer at all the user has made a mistake that waiting won't
                            // mend; with one, the others may come later.
                            Err(error)
                                if self.dialling == 0 && !reached && !args.keep_trying =>
                            {
                                return Err(error.into());
                            }
                            Err(error) => {
                                let error = cure::sentence(&error.into());
                                let goes_on = reached || args.keep_trying;
                                let what = if goes_on { "will try again: " } else { "" };
                                output::complain(&format!("{what}{error}"));
                            }
                        }
                    }
                },
            }
        }
    }

    /// Shows how far large messages are, and asks who hasn't answered.
    fn look(&mut self) {
        if progress::is_possible() {
            progress::show(&self.node.transfers());
        }
        self.service.alive();
        if self.answers.is_empty() {
            self.look_at(&[]);
        } else if self.unanswered.is_none() {
            self.unanswered = Some(self.module.awaited());
        }
    }

    /// Says who is waited for.
    fn look_at(&mut self, unanswered: &[NodeName]) {
        let sought = if self.dialling == 0 { self.node.sought() } else { Vec::new() };
        self.waits.look(&sought, unanswered);
        let (nodes, peers) = (self.node.nodes().len(), self.peers);
        let missing = match self.waits.count() {
            0 => String::new(),
            count => format!(", waiting for {count}"),
        };
        let (nodes, peers) = (words::count(nodes, words::NODES), words::count(peers, words::PEERS));
        self.service.status(format!("{nodes} connected, {peers} in the scope{missing}"));
    }

    /// All nodes that were connected at some moment have answered.
    fn answered(&mut self) {
        if self.answers.is_empty() && log::log_enabled!(target: CLI, log::Level::Info) {
            let (nodes, size) = (self.node.nodes().len(), self.module.size());
            let count = words::count(nodes, words::NODES);
            log::info!(target: CLI, nodes; "all connected nodes have answered: {count}, {size}");
        }
    }

    /// Does what a line says and prints the answer; `false` for `quit`.
    async fn obey(&mut self, line: &str) -> anyhow::Result<bool> {
        let line = line.trim();
        if line.is_empty() {
            return Ok(true);
        }
        let (word, rest) = input::word(line);
        let result = self.answer(word, rest).await;
        let go_on = word != "quit" || result.is_err();
        let result = result.map_err(|error| cure::sentence(&error));
        self.format.print(&Event::Reply { command: line, result })?;
        Ok(go_on)
    }

    async fn answer(&mut self, word: &str, rest: &str) -> anyhow::Result<Value> {
        if let Some(answer) = self.module.obey(word, rest).await? {
            return Ok(answer);
        }
        let help = || format!("{} | peers | nodes | help | quit", M::COMMANDS);
        if !["peers", "nodes", "help", "quit"].contains(&word) {
            anyhow::bail!("no command `{word}`; there are: {}", help());
        }
        input::alone(word, rest)?;
        Ok(match word {
            "peers" => {
                let peers = self.module.peers().await?;
                let peer = |(pid, version): &(Pid, Version)| {
                    json!({
                        "node": pid.node.as_str(), "pid": pid.to_string(),
                        "version": version.0.to_string(),
                    })
                };
                peers.iter().map(peer).collect()
            }
            "nodes" => strings(&self.node.nodes()),
            "help" => json!(help()),
            _ => Value::Null,
        })
    }

    fn print_node_event(&mut self, event: &NodeEvent) -> std::io::Result<()> {
        match event {
            NodeEvent::Up { node, visible, flags } => {
                self.answers.push(self.module.ready());
                let (visible, flags) = (*visible, *flags);
                self.format.print(&Event::NodeUp { node, visible, flags })
            }
            NodeEvent::Down { node, reason } => {
                self.format.print(&Event::NodeDown { node, reason: reason.to_string() })
            }
            _ => Ok(()),
        }
    }

    fn print_peer_event(&mut self, event: &PeerEvent) -> std::io::Result<()> {
        match event {
            PeerEvent::Up { pid, version } => {
                self.peers += 1;
                self.format.print(&Event::PeerUp { pid, version: &version.0 })
            }
            PeerEvent::Down { pid, reason } => {
                self.peers = self.peers.saturating_sub(1);
                self.format.print(&Event::PeerDown { pid, reason })
            }
            _ => Ok(()),
        }
    }
}

/// Often enough for whoever watches: a terminal, a service manager.
fn look_every() -> Duration {
    let usual = if progress::is_possible() { LOOK_AT_TERMINAL } else { LOOK };
    Service::pause().map_or(usual, |pause| pause.min(usual))
}

/// The answer to a question, once; never without one. Cancel safe.
async fn asked<T>(question: &mut Option<BoxFuture<'static, T>>) -> T {
    match question {
        Some(future) => {
            let answer = future.await;
            *question = None;
            answer
        }
        None => std::future::pending().await,
    }
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

/// The scope's process was ended, by an exit signal from somewhere.
fn ended(scope: &data_publisher::term::Atom) -> anyhow::Error {
    anyhow::anyhow!("the scope {scope} was ended from outside")
}
