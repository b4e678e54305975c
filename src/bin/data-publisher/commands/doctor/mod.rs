//! `doctor`: why there is no connection to a node, or who sees something else than we do.
//!
//! Each step is one that a connection takes anyway, taken by itself: the name, EPMD, the port, and then all of it by
//! a hidden node of ours, whose error tells how far it came. Connected, it asks for the tick time, and for the scope
//! of all nodes that can be reached.

mod report;
mod scope;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use data_publisher::epmd::{Epmd, EpmdError, NodeInfo};
use data_publisher::node::{ConnectError, HandshakeError, NodeEvent, TlsError};
use data_publisher::term::{NodeName, Term};
use data_publisher::wire::Flags;
use data_publisher::{Node, atom, list, rpc};
use tokio::net::TcpStream;
use tokio::time::timeout;

use self::report::{Report, Trouble};
use super::guest::{self, Absent};
use super::ping;
use crate::args::Doctor;
use crate::output::Format;
use crate::{Answer, cure};

/// A port that takes nobody for so long is one that nobody can reach.
const REACHED: Duration = Duration::from_secs(5);

/// So many names of an EPMD are told.
const NAMES: usize = 10;

pub(super) async fn run(mut args: Doctor) -> anyhow::Result<Answer> {
    // A visible node would be told to all others, by `global`.
    args.guest.access.hidden = true;
    let format = if args.json { Format::Json } else { Format::Text };
    let mut report = Report::new(format);
    if let Some(node) = reach(&args, &mut report).await? {
        let looked = look(&args, &node, &mut report).await;
        node.stop().await;
        looked?;
    }
    Ok(if report.has_failed() { Answer::No } else { Answer::Yes })
}

/// From the name to a connection.
async fn reach(args: &Doctor, report: &mut Report) -> anyhow::Result<Option<Node>> {
    let (peer, access) = (&args.node, &args.guest.access);
    let began = Instant::now();
    let resolved = name(peer).await;
    let Some(addresses) = report.step("name", began, resolved)? else { return Ok(None) };

    let mut port = access.dist_port;
    if let Some(port) = port {
        report.skipped("epmd", &format!("not asked: every node is at port {port}"))?;
    } else {
        let epmd = Epmd::new(access.epmd_port);
        let began = Instant::now();
        let known = known(epmd, peer).await;
        let Some(names) = report.step("epmd", began, known)? else { return Ok(None) };
        let began = Instant::now();
        let registered = registered(epmd, peer, &names).await;
        let Some(info) = report.step("registered", began, registered)? else { return Ok(None) };
        port = Some(info.port);
    }
    let port = port.unwrap_or_default();

    let began = Instant::now();
    let addresses: Vec<_> =
        addresses.iter().map(|address| SocketAddr::new(address.ip(), port)).collect();
    let reached = reached(&addresses).await;
    if report.step("port", began, reached)?.is_none() {
        return Ok(None);
    }

    let began = Instant::now();
    match guest::connect(&args.guest, "doctor", peer).await {
        Ok(node) => {
            let mut events = node.events();
            let flags = match timeout(REACHED, events.next()).await {
                Ok(Some(NodeEvent::Up { flags, .. })) => flags,
                _ => Flags::default(),
            };
            let secured = is_secured(args);
            if secured {
                report.step("tls", began, Ok(((), "both ends speak it".to_owned())))?;
            }
            let seen = format!("name, status and flags agreed on: {}", in_words(flags));
            report.step("handshake", began, Ok(((), seen)))?;
            report.step(
                "cookie",
                began,
                Ok(((), "each has proved that it knows it".to_owned())),
            )?;
            Ok(Some(node))
        }
        Err(Absent::Us(error)) => Err(error),
        Err(Absent::Peer(error)) => {
            let (step, trouble) = of_connect(error);
            report.step::<()>(step, began, Err(trouble))?;
            Ok(None)
        }
    }
}

/// The form of the name, and the addresses of its host.
async fn name(peer: &NodeName) -> Result<(Vec<SocketAddr>, String), Trouble> {
    let host = peer.host();
    let found = tokio::net::lookup_host((host, 0)).await.map(Iterator::collect::<Vec<_>>);
    let addresses = match found {
        Ok(addresses) if !addresses.is_empty() => addresses,
        other => {
            let why = other.err().map_or("no address".to_owned(), |error| error.to_string());
            return Err(Trouble::new(
                format!("host {host} is unknown: {why}"),
                "Is the part after the @ what `node()` says there, and can this machine resolve it? \
                 /etc/hosts will do",
            ));
        }
    };
    let form = if peer.is_long() { "long name (-name)" } else { "short name (-sname)" };
    let mut all: Vec<_> = addresses.iter().map(|address| address.ip().to_string()).collect();
    all.dedup();
    Ok((addresses, format!("{peer} is a {form}; {host} is {}", all.join(", "))))
}

async fn known(epmd: Epmd, peer: &NodeName) -> Result<(Vec<String>, String), Trouble> {
    let host = peer.host();
    let names = epmd.names(host).await.map_err(|error| {
        let cure = match &error {
            EpmdError::NotRunning { .. } => format!(
                "Does any Erlang node run on {host}, and is the EPMD port right (--epmd-port)? \
                 `epmd -daemon` starts one, nodes register again by themselves within seconds"
            ),
            EpmdError::Timeout { .. } => {
                "Packets to its port are dropped: a firewall, or a host that is down".to_owned()
            }
            EpmdError::BadReply { .. } => {
                "Another program has the port; give EPMD's with --epmd-port".to_owned()
            }
            _ => "Can this machine reach that host?".to_owned(),
        };
        Trouble::new(sentence(error), cure)
    })?;
    let mut names: Vec<String> = names.into_iter().map(|(name, _)| name).collect();
    names.sort();
    let seen = format!("EPMD at {host}:{} knows {}", epmd.port(), some_of(&names));
    Ok((names, seen))
}

fn some_of(names: &[String]) -> String {
    let more = names.len().saturating_sub(NAMES);
    let some = names.iter().take(NAMES).map(String::as_str).collect::<Vec<_>>().join(", ");
    match (names.len(), more) {
        (0, _) => "no node".to_owned(),
        (_, 0) => some,
        _ => format!("{some} and {more} more"),
    }
}

async fn registered(
    epmd: Epmd,
    peer: &NodeName,
    names: &[String],
) -> Result<(NodeInfo, String), Trouble> {
    let (short, host) = (peer.short(), peer.host());
    match epmd.lookup(host, short).await {
        Ok(Some(info)) => {
            let port = info.port;
            let seen = format!(
                "{short} is at port {port}, distribution protocol {} to {}",
                info.lowest_version, info.highest_version
            );
            Ok((info, seen))
        }
        Ok(None) => Err(Trouble::new(
            format!("EPMD doesn't know {short}, but {}", some_of(names)),
            "Does the node run, started with -name or -sname, and with this name?",
        )),
        Err(error) => Err(Trouble::new(sentence(error), "Ask again in a moment")),
    }
}

async fn reached(addresses: &[SocketAddr]) -> Result<((), String), Trouble> {
    let mut last = None;
    for address in addresses {
        match timeout(REACHED, TcpStream::connect(address)).await {
            Ok(Ok(_)) => return Ok(((), format!("{address} takes connections"))),
            Ok(Err(error)) => {
                last = Some(Trouble::new(
                    format!("{address}: {error}"),
                    "EPMD knows a port that nobody listens at: the node has just died, or listens at \
                     another address (`inet_dist_use_interface`)",
                ));
            }
            Err(_) => {
                last = Some(Trouble::new(
                    format!("{address} doesn't answer within {} s", REACHED.as_secs()),
                    "Packets to this port are dropped: open it in the firewall; \
                     `-kernel inet_dist_listen_min N inet_dist_listen_max M` keeps nodes to a range",
                ));
            }
        }
    }
    Err(last.unwrap_or_else(|| Trouble::new("no address", "Check the host part of the name")))
}

/// The step at which a connection failed, by what it failed.
fn of_connect(error: ConnectError) -> (&'static str, Trouble) {
    let (step, cure) = match &error {
        ConnectError::BadCookie { node } => (
            "cookie",
            format!(
                "The name is right, the cookie isn't: `erlang:get_cookie()` on {node} shows it; give it \
                 with --cookie-file or --cookie"
            ),
        ),
        ConnectError::WrongName { found, .. } => (
            "handshake",
            format!(
                "The node there is called {found}: use that name, host part and all. -name and -sname \
                 nodes don't mix"
            ),
        ),
        ConnectError::NotAllowed { .. } => (
            "handshake",
            "It has a list of nodes that may connect (`net_kernel:allow/1`), or demands a flag that \
             isn't ours"
                .to_owned(),
        ),
        ConnectError::Tls { source, .. } => ("tls", of_tls(source)),
        ConnectError::Handshake { source, .. } => match &**source {
            HandshakeError::MissingFlags { missing, .. } => (
                "handshake",
                format!(
                    "That node doesn't offer {}: it must be OTP 25 or later",
                    Flags(*missing).names().collect::<Vec<_>>().join(", ")
                ),
            ),
            HandshakeError::SpeaksTls => (
                "tls",
                "That node wants TLS: give --tls-certfile and --tls-cacertfile, or --tls-optfile"
                    .to_owned(),
            ),
            HandshakeError::Closed { .. } => (
                "handshake",
                "It closed without a word: its log says why. A node with TLS does so when none is \
                 spoken, and one that isn't Erlang's"
                    .to_owned(),
            ),
            _ => ("handshake", "Its log may say more".to_owned()),
        },
        ConnectError::Timeout { .. } => (
            "handshake",
            "The port takes connections, but nobody answers: the node is hung or stopped, or it \
             speaks TLS and we don't, or it isn't Erlang's"
                .to_owned(),
        ),
        _ => ("handshake", "Its log may say more".to_owned()),
    };
    (step, Trouble::new(sentence(error), cure))
}

fn of_tls(error: &TlsError) -> String {
    match error {
        TlsError::UnknownCa => {
            "Give the CA that signed its certificate with --tls-cacertfile".to_owned()
        }
        TlsError::WrongName { .. } => {
            "Its certificate needs the host part of its name as subjectAltName".to_owned()
        }
        TlsError::NotTls | TlsError::NoAnswer => {
            "It doesn't speak TLS, or waits for more: leave the --tls options out".to_owned()
        }
        // So ends a BEAM without TLS that waited seven seconds for its own handshake, too.
        TlsError::Closed => "If it was started without -proto_dist inet_tls, leave the --tls \
                             options out; else its log says what it doesn't like"
            .to_owned(),
        _ => {
            "See to it that both certificates are in their time, and signed by a CA that the other \
              end knows"
                .to_owned()
        }
    }
}

#[cfg(feature = "tls")]
fn is_secured(args: &Doctor) -> bool {
    args.guest.access.tls.is_given()
}

#[cfg(not(feature = "tls"))]
fn is_secured(_: &Doctor) -> bool {
    false
}

fn in_words(flags: Flags) -> String {
    let words = [
        (Flags::DIST_HDR_ATOM_CACHE, "atom cache"),
        (Flags::FRAGMENTS, "fragments"),
        (Flags::SPAWN, "spawn"),
        (Flags::ALIAS, "aliases"),
        (Flags::ALTACT_SIG, "priority"),
    ];
    let agreed = words.iter().filter(|(flag, _)| flags.contains(*flag)).map(|(_, word)| *word);
    agreed.collect::<Vec<_>>().join(", ")
}

/// What a node that is connected tells.
async fn look(args: &Doctor, node: &Node, report: &mut Report) -> anyhow::Result<()> {
    let peer = &args.node;
    let began = Instant::now();
    let answered = match ping::ask(node, peer).await {
        Ok(took) => {
            Ok(((), format!("net_kernel answers in {:.1} ms", took.as_secs_f64() * 1000.0)))
        }
        Err(error) => Err(Trouble::new(
            cure::sentence(&error),
            "It is connected and says nothing: `net_kernel` hangs, or the node does",
        )),
    };
    if report.step("alive", began, answered)?.is_none() {
        return Ok(());
    }
    let began = Instant::now();
    match tick_time(node, peer).await {
        Some(seconds) => {
            let told = format!(
                "its tick time is {seconds} s: a node that is silent for {} to {} s counts as gone there",
                seconds * 3 / 4,
                seconds * 5 / 4
            );
            let ours =
                data_publisher::node::Limits::default().tick_interval.as_secs().cast_signed();
            let result = if seconds * 3 / 4 > ours {
                Ok(((), told))
            } else {
                Err(Trouble::new(
                    told,
                    format!(
                        "We send a tick every {ours} s: raise `net_ticktime` there, or give \
                         `Limits::tick_interval` (`join --net-ticktime`) here"
                    ),
                ))
            };
            report.step("ticks", began, result)?;
        }
        None => report.skipped("ticks", "it doesn't tell its tick time: no node of Erlang")?,
    }
    scope::look(args, node, report).await
}

/// `net_kernel:get_net_ticktime()`.
async fn tick_time(node: &Node, peer: &NodeName) -> Option<i64> {
    let asked =
        rpc::call(node, peer, atom!("net_kernel"), atom!("get_net_ticktime"), list![]).await;
    match asked.ok()? {
        Term::Integer(seconds) => Some(seconds),
        // While it changes: `{ongoing_change_to, Seconds}`.
        other => {
            let [seconds] = other.tagged("ongoing_change_to")? else { return None };
            seconds.integer().ok()
        }
    }
}

/// An error with its causes, without a cure.
fn sentence(error: impl std::error::Error + Send + Sync + 'static) -> String {
    let error = anyhow::Error::from(error);
    error.chain().map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
