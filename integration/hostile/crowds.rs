//! Crowds: of connections that never say who they are, of atoms, of idle clients of our EPMD.
//!
//! What counts is the memory of a whole process, so the victim is one of its own: the program.

#![expect(clippy::print_stdout, reason = "figures, for who runs it with --nocapture")]

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use data_publisher::atom;
use data_publisher::epmd::{Epmd, EpmdServer, NodeKind};
use data_publisher::term::{Atom, Pid, Term};
use data_publisher::wire::signal::{PidOrName, Signal};
use rustix::process::{Resource, Rlimit, Signal as Kill, getrlimit, setrlimit};
use tokio::net::TcpStream;

use super::raw::Raw;
use super::{VICTIM, Victim};
use crate::cli::Cli;
use crate::support::{SOON, cookie, free_port, wait_until};

const MIB: u64 = 1 << 20;

/// Starts the program as a member of a scope; the port it listens at.
async fn program() -> Result<(Cli, u16)> {
    let arguments = ["join", "--json", "--name", VICTIM, "--cookie", cookie()];
    let program = Cli::start(free_port()?, &arguments)?;
    let up = program.event("up", |event| event["event"] == "up").await?;
    Ok((program, up["port"].as_u64().context("a port")? as u16))
}

/// Bytes of its memory that are in use.
fn resident(program: &Cli) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", program.process_id()?))?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).context("no VmRSS")?;
    let kib = line.split_whitespace().nth(1).context("a number")?;
    Ok(kib.parse::<u64>()? * 1024)
}

/// As many sockets as the system lets us have, at least these.
fn allow_sockets(count: u64) -> Result<()> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_some_and(|current| current < count) {
        ensure!(
            maximum.is_none_or(|maximum| maximum >= count),
            "{count} sockets are more than `ulimit -Hn` allows"
        );
        setrlimit(Resource::Nofile, Rlimit { current: Some(count), maximum })?;
    }
    Ok(())
}

#[tokio::test]
async fn ten_thousand_strangers_cost_4_mib_and_nobody_waits() -> Result<()> {
    const STRANGERS: usize = 10_000;
    const ROUNDS: usize = 10;
    allow_sockets(STRANGERS as u64 + 500)?;
    let (program, port) = program().await?;
    let mut peer = Raw::dial(port, "x@127.0.0.1").await?;
    peer.round_trip(0).await?;
    let before = resident(&program)?;

    let (mut strangers, mut longest, mut most) = (Vec::new(), Duration::ZERO, before);
    for round in 0..ROUNDS {
        // At once: a SYN for which there's no room in the system's queue comes again after a second.
        let some = (0..STRANGERS / ROUNDS).map(|_| TcpStream::connect(("127.0.0.1", port)));
        strangers.extend(futures::future::try_join_all(some).await?);
        longest = longest.max(peer.round_trip(round as u32 + 1).await?);
        most = most.max(resident(&program)?);
    }
    let taken = most.saturating_sub(before);
    println!("10,000 strangers: {} KiB, a round trip at most {longest:?}", taken / 1024);
    ensure!(taken <= 4 * MIB, "{taken} bytes for {STRANGERS} connections");
    ensure!(longest < Duration::from_secs(1), "{longest:?} for a round trip");
    let descriptors = std::fs::read_dir(format!("/proc/{}/fd", program.process_id()?))?.count();
    ensure!(descriptors < 128 + 50, "{descriptors} file descriptors");
    drop(strangers);
    peer.round_trip(20_000).await?;
    Ok(())
}

#[tokio::test]
async fn a_million_atoms_leave_memory_flat() -> Result<()> {
    const MESSAGES: usize = 1000;
    const ATOMS: usize = 1000;
    let (program, port) = program().await?;
    let mut peer = Raw::dial(port, "x@127.0.0.1").await?;
    let mut after_tenth = 0;
    for message in 0..MESSAGES {
        let atoms = (0..ATOMS).map(|number| Atom::new(&format!("atom {message} {number}")));
        let atoms = atoms.map(|atom| atom.map(Term::from)).collect::<Result<Vec<_>, _>>()?;
        peer.send_to_name("pg", Term::list_of(atoms)).await?;
        if message == MESSAGES / 10 {
            peer.round_trip(1).await?;
            after_tenth = resident(&program)?;
        }
        // Nobody's inbox is the matter here.
        if message % 20 == 0 {
            peer.round_trip(message as u32 + 2).await?;
        }
    }
    peer.round_trip(2000).await?;
    let grown = resident(&program)?.saturating_sub(after_tenth);
    println!("a million atoms: {} KiB more than a tenth of them", grown / 1024);
    ensure!(grown <= 4 * MIB, "{grown} bytes more");
    Ok(())
}

#[tokio::test]
async fn our_epmd_answers_within_50_ms_among_1500_idle_clients() -> Result<()> {
    const IDLE: usize = 1500;
    const QUESTIONS: usize = 100;
    allow_sockets(3 * IDLE as u64)?;
    let server = EpmdServer::bind_loopback(0).await?;
    let epmd = Epmd::new(server.port());
    let _registration = epmd.register("a", 4711, NodeKind::Visible).await?;
    let mut idle = Vec::new();
    for _ in 0..IDLE {
        idle.push(TcpStream::connect(("127.0.0.1", server.port())).await?);
    }

    let mut times = Vec::new();
    for _ in 0..QUESTIONS {
        let asked = Instant::now();
        let found = epmd.lookup("127.0.0.1", "a").await?.context("it isn't there")?;
        ensure!(found.port == 4711, "{found:?}");
        times.push(asked.elapsed());
    }
    times.sort();
    let (median, p99) = (times[QUESTIONS / 2], times[QUESTIONS - 2]);
    println!("look-ups among {IDLE} idle clients: median {median:?}, p99 {p99:?}");
    ensure!(p99 <= Duration::from_millis(50), "{times:?}");
    for socket in &idle {
        let mut byte = [0];
        let read = socket.try_read(&mut byte);
        ensure!(read.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock), "closed");
    }
    Ok(())
}

/// Exit signals and DOWNs in others' names do nothing to those they name.
#[tokio::test]
async fn a_signal_to_another_nodes_process_goes_nowhere() -> Result<()> {
    let victim = Victim::start().await?;
    let mut peer = victim.attacker("x@127.0.0.1").await?;
    let friends: Pid = victim.friends_worker.pid().clone();
    let bystander = victim.node.spawn();
    let reason = Term::from(atom!("kill"));
    peer.signal(&Signal::Exit2 {
        from: peer.pid(1),
        to: friends.clone().into(),
        reason: reason.clone(),
    })
    .await?;
    peer.signal(&Signal::Exit { from: friends.clone(), to: bystander.pid().clone(), reason })
        .await?;
    peer.signal(&Signal::MonitorExit {
        from: PidOrName::Pid(friends),
        to: bystander.pid().clone(),
        reference: peer.reference(7),
        reason: atom!("noproc").into(),
    })
    .await?;
    peer.round_trip(1).await?;
    wait_until("the bystander lives", SOON, async || {
        victim.node.is_alive(bystander.pid()).then_some(()).ok_or_else(|| "it ended".to_owned())
    })
    .await?;
    victim.assert_unharmed().await
}

#[tokio::test]
async fn a_fault_that_comes_again_and_again_is_one_line_of_the_log() -> Result<()> {
    let (program, port) = program().await?;
    for _ in 0..20 {
        let mut peer = Raw::dial(port, "x@127.0.0.1").await?;
        peer.frame(b"no frame").await?;
        peer.wait_closed().await?;
    }
    program.signal(Kill::TERM)?;
    let log = program.end().await?.err;
    let lines = log.iter().filter(|line| line.contains("down, bad_frame")).count();
    ensure!(lines == 1, "{lines} lines: {log:?}");
    Ok(())
}
