//! Nodes that die, hang or lose each other: everybody sees who is gone, nobody else is harmed, and what
//! comes back is whole.

use std::{
    cell::RefCell,
    net::Ipv4Addr,
    process::Stdio,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use data_publisher::{
    Cookie, Node, NodeConfig, Pg, atom,
    epmd::{Epmd as EpmdClient, NodeKind},
    node::{DownReason, Limits, NodeEvent, NodeEvents, Process, Received},
    term::{NodeName, Pid, Term},
};
use futures::FutureExt;
use rustix::process::{Signal, kill_process};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    process::{Child, ChildStdin, ChildStdout, Command},
    time::Instant,
};

use crate::support::{Epmd, ErlNode, Otp, SOON, cookie, search, wait_eval, wait_until};

/// A module with a test for each release.
macro_rules! on_each_release {
    ($($name:ident)*) => {$(
        mod $name {
            use crate::support::Otp;

            #[tokio::test]
            async fn otp_25() -> anyhow::Result<()> {
                super::check::$name(Otp::R25).await
            }

            #[tokio::test]
            async fn otp_27() -> anyhow::Result<()> {
                super::check::$name(Otp::R27).await
            }

            #[tokio::test]
            async fn otp_29() -> anyhow::Result<()> {
                super::check::$name(Otp::R29).await
            }
        }
    )*};
}

on_each_release! {
    a_killed_beam_node_is_gone_everywhere_and_whole_when_it_returns
    a_killed_rust_node_is_gone_everywhere_and_whole_when_it_returns
    a_connection_closed_by_either_end_is_down_then_up_and_all_is_whole
    a_stopped_beam_node_is_dropped_and_whole_when_it_goes_on
    a_stopped_beam_node_over_the_hard_mark_is_shed_and_harms_nobody
    when_we_are_stopped_we_are_dropped_and_whole_when_we_go_on
    a_connection_that_swallows_everything_is_noticed_and_replaced
    losing_one_node_disconnects_no_other_with_overlapping_partitions_prevented
    losing_one_node_disconnects_no_other_with_overlapping_partitions_allowed
}

/// What the tests show, for one release.
mod check {
    use super::*;

    pub(super) async fn a_killed_beam_node_is_gone_everywhere_and_whole_when_it_returns(
        otp: Otp,
    ) -> Result<()> {
        let epmd = Epmd::start().await?;
        let mut a = beam(otp, "a", &epmd).await?;
        let b = beam(otp, "b", &epmd).await?;
        let rust = Rust::start("r", &epmd, Limits::default()).await?;
        rust.meet(&[&a, &b]).await?;
        let mut events = rust.node.events();
        all_see(&[&a, &b], &[&rust], 3, SOON).await?;

        a.kill().await?;
        let gone = Instant::now();
        all_see(&[&b], &[&rust], 2, SOON).await?;
        ensure!(gone.elapsed() < Duration::from_secs(1), "gone after {:?}", gone.elapsed());
        let down = events_until_down(&mut events, "a").await?;
        ensure!(down == DownReason::ConnectionClosed, "{down:?}");

        a.restart().await?;
        a.eval("probe:start_scope(s), probe:members(s, g, 2)").await?;
        // We look for it by ourselves, unlike `b`.
        ping(&b, &a).await?;
        all_see(&[&a, &b], &[&rust], 4, Duration::from_secs(5)).await?;

        finish(vec![a, b]).await
    }

    pub(super) async fn a_killed_rust_node_is_gone_everywhere_and_whole_when_it_returns(
        otp: Otp,
    ) -> Result<()> {
        let epmd = Epmd::start().await?;
        let a = beam(otp, "a", &epmd).await?;
        let b = beam(otp, "b", &epmd).await?;
        let rust = Rust::start("r", &epmd, Limits::default()).await?;
        rust.meet(&[&a, &b]).await?;
        let mut binary =
            Binary::start("k", &epmd, &["a@127.0.0.1", "b@127.0.0.1", "r@127.0.0.1"]).await?;
        all_see(&[&a, &b], &[&rust], 4, SOON).await?;

        for _ in 0..2 {
            binary.kill().await?;
            let gone = Instant::now();
            all_see(&[&a, &b], &[&rust], 3, SOON).await?;
            ensure!(gone.elapsed() < Duration::from_secs(1), "gone after {:?}", gone.elapsed());

            let back = Instant::now();
            binary =
                Binary::start("k", &epmd, &["a@127.0.0.1", "b@127.0.0.1", "r@127.0.0.1"]).await?;
            all_see(&[&a, &b], &[&rust], 4, SOON).await?;
            ensure!(back.elapsed() < Duration::from_secs(2), "back after {:?}", back.elapsed());
            binary.sees(4).await?;
        }

        drop(binary);
        finish(vec![a, b]).await
    }

    pub(super) async fn a_connection_closed_by_either_end_is_down_then_up_and_all_is_whole(
        otp: Otp,
    ) -> Result<()> {
        let epmd = Epmd::start().await?;
        let a = beam(otp, "a", &epmd).await?;
        let rust = Rust::start("r", &epmd, Limits::default()).await?;
        rust.meet(&[&a]).await?;
        all_see(&[&a], &[&rust], 2, SOON).await?;
        let name = NodeName::new(a.name())?;
        let peer: Pid = rust.pg.peers().await?[0].0.clone();
        let mut events = rust.node.events();
        ensure!(matches!(next(&mut events).await?, NodeEvent::Up { .. }), "it was up");
        let mut watcher = rust.node.spawn();
        watcher.monitor_nodes();

        for round in 0..20 {
            ensure!(matches!(received(&mut watcher).await?, Received::NodeUp(_)), "first it's up");
            let monitor = watcher.monitor(&peer);
            let by_us = round % 2 == 0;
            if by_us {
                ensure!(rust.node.disconnect(&name), "there was a connection");
                rust.node.connect(&name).await?;
            } else {
                // It's us who dial again, by ourselves.
                a.eval("erlang:disconnect_node('r@127.0.0.1')").await?;
            }

            let expected =
                if by_us { DownReason::Disconnected } else { DownReason::ConnectionClosed };
            match next(&mut events).await? {
                NodeEvent::Down { node, reason } => {
                    ensure!((&node, &reason) == (&name, &expected), "{round}: {node} {reason}");
                }
                other => bail!("{round}: {other:?} before Down"),
            }
            match next(&mut events).await? {
                NodeEvent::Up { node, visible: true, .. } => {
                    ensure!(node == name, "{round}: {node}");
                }
                other => bail!("{round}: {other:?} before Up"),
            }
            // A process hears first of its monitors, then of the node.
            match received(&mut watcher).await? {
                Received::Down { reference, reason, .. } => {
                    ensure!(reference == monitor && reason.is_atom("noconnection"), "{reason}");
                }
                other => bail!("{round}: {other:?} before 'DOWN'"),
            }
            match received(&mut watcher).await? {
                Received::NodeDown(node) => ensure!(node == name, "{round}: {node}"),
                other => bail!("{round}: {other:?} before nodedown"),
            }
            all_see(&[&a], &[&rust], 2, SOON).await?;
        }

        finish(vec![a]).await
    }

    pub(super) async fn a_stopped_beam_node_is_dropped_and_whole_when_it_goes_on(
        otp: Otp,
    ) -> Result<()> {
        let epmd = Epmd::start().await?;
        let mut a = beam(otp, "a", &epmd).await?;
        let b = beam(otp, "b", &epmd).await?;
        let mut limits = Limits::default();
        // Far less than the 15 s between a BEAM's ticks, so the nodes say something more often.
        limits.tick_time = Duration::from_secs(2);
        limits.tick_interval = Duration::from_millis(200);
        let rust = Rust::start("r", &epmd, limits).await?;
        let alive =
            "spawn(fun Say() -> {nobody, 'r@127.0.0.1'} ! alive, timer:sleep(200), Say() end)";
        for node in [&a, &b] {
            node.eval(alive).await?;
        }
        rust.meet(&[&a, &b]).await?;
        all_see(&[&a, &b], &[&rust], 3, SOON).await?;
        let mut events = rust.node.events();

        a.stop_signal()?;
        let stopped = Instant::now();
        let reason = events_until_down(&mut events, "a").await?;
        let after = stopped.elapsed();
        ensure!(reason == DownReason::TickTimeout, "{reason:?}");
        ensure!(after < Duration::from_millis(3500), "dropped after {after:?}");
        wait_until("its member is gone", SOON, async || rust.count(2)).await?;
        // Dialling it takes as long as it likes; meanwhile we're at the others' service.
        rust.join(1).await?;
        wait_eval(&b, COUNT, "4", SOON).await?;

        a.cont_signal()?;
        all_see(&[&a, &b], &[&rust], 4, Duration::from_secs(20)).await?;

        finish(vec![a, b]).await
    }

    pub(super) async fn a_stopped_beam_node_over_the_hard_mark_is_shed_and_harms_nobody(
        otp: Otp,
    ) -> Result<()> {
        let epmd = Epmd::start().await?;
        let mut a = beam(otp, "a", &epmd).await?;
        let b = beam(otp, "b", &epmd).await?;
        let mut limits = Limits::default();
        limits.hard_mark = 256 << 10;
        limits.soft_mark = 128 << 10;
        // Time alone is no reason here.
        limits.stall_time = Duration::from_secs(60);
        let rust = Rust::start("r", &epmd, limits).await?;
        rust.meet(&[&a, &b]).await?;
        all_see(&[&a, &b], &[&rust], 3, SOON).await?;
        let mut events = rust.node.events();

        a.stop_signal()?;
        // The sockets take some megabytes before anything is left to our queue.
        let large = "x".repeat(32 << 10);
        let pid = &rust.first();
        let mut times = Vec::new();
        let mut shed = Vec::new();
        for round in 0_i64..2000 {
            let group = data_publisher::tuple![round, Term::binary_of(&large)];
            let start = Instant::now();
            rust.pg.join(&group, pid).await?;
            times.push(start.elapsed());
            rust.pg.leave(&group, pid).await?;
            shed = downs(&mut events);
            if !shed.is_empty() {
                break;
            }
            if round % 16 == 0 {
                // Not faster than the healthy one can take it, whose mark is small as well.
                let seen = format!("pg:get_members(s, {{seen, {round}}}) =/= []");
                rust.pg.join(format!("{{seen, {round}}}").parse::<Term>()?, pid).await?;
                wait_eval(&b, &seen, "true", SOON).await?;
            }
        }
        ensure!(shed == [(String::from("a"), DownReason::Slow)], "{shed:?}");
        // It stands still further on; enough of them that one per cent is more than the very worst.
        for round in 0_i64..200 {
            let start = Instant::now();
            rust.pg.join(data_publisher::tuple![round], pid).await?;
            times.push(start.elapsed());
            rust.pg.leave(data_publisher::tuple![round], pid).await?;
        }
        times.sort_unstable();
        let p99 = times[times.len() * 99 / 100];
        ensure!(p99 <= Duration::from_millis(10), "of {} joins 1 % took {p99:?}", times.len());
        rust.join(1).await?;
        wait_eval(
            &b,
            "length([P || P <- pg:get_members(s, g), node(P) =:= 'r@127.0.0.1'])",
            "2",
            SOON,
        )
        .await?;

        a.cont_signal()?;
        all_see(&[&a, &b], &[&rust], 4, Duration::from_secs(20)).await?;
        let views = "erlang:phash2(probe:plain(probe:view(s)))";
        let whole = b.peek(views).await?;
        wait_eval(&a, views, &whole, SOON).await?;

        finish(vec![a, b]).await
    }

    pub(super) async fn when_we_are_stopped_we_are_dropped_and_whole_when_we_go_on(
        otp: Otp,
    ) -> Result<()> {
        let epmd = Epmd::start().await?;
        // Our ticks, every 5 s, suit 8 s and more.
        let a = ErlNode::options(otp, "a", epmd.port()).net_ticktime(8).start().await?;
        a.eval("probe:start_scope(s), probe:member(s, g)").await?;
        let mut binary = Binary::start("k", &epmd, &["a@127.0.0.1"]).await?;
        wait_eval(&a, COUNT, "2", SOON).await?;

        binary.signal(Signal::STOP)?;
        wait_eval(&a, COUNT, "1", Duration::from_secs(15)).await?;
        wait_eval(&a, "nodes()", "[]", SOON).await?;
        a.eval("probe:member(s, g)").await?;

        binary.signal(Signal::CONT)?;
        wait_eval(&a, COUNT, "3", Duration::from_secs(5)).await?;
        binary.sees(3).await?;

        drop(binary);
        finish(vec![a]).await
    }

    pub(super) async fn a_connection_that_swallows_everything_is_noticed_and_replaced(
        otp: Otp,
    ) -> Result<()> {
        let epmd = Epmd::start().await?;
        let a = ErlNode::options(otp, "a", epmd.port()).net_ticktime(4).start().await?;
        a.eval("probe:start_scope(s), probe:member(s, g)").await?;
        // Who asks this EPMD for `a` is sent to the proxy.
        let proxied = Epmd::start_of(otp).await?;
        let real = EpmdClient::new(epmd.port()).lookup("127.0.0.1", "a").await?;
        let proxy = Proxy::start(real.context("a is registered")?.port).await?;
        let _registration =
            EpmdClient::new(proxied.port()).register("a", proxy.port, NodeKind::Visible).await?;
        let mut limits = Limits::default();
        // Between the BEAM's own ticks there may be 1 s.
        limits.tick_time = Duration::from_millis(2400);
        limits.tick_interval = Duration::from_millis(300);
        let rust = Rust::start("r", &proxied, limits).await?;
        let mut events = rust.node.events();
        rust.meet(&[&a]).await?;
        all_see(&[&a], &[&rust], 2, SOON).await?;

        for (swallow, seen_by_us) in
            [(Swallow::Both, true), (Swallow::FromBeam, true), (Swallow::ToBeam, false)]
        {
            proxy.swallow(swallow);
            let start = Instant::now();
            // Not seen by the other end until the connection is there again.
            a.eval("probe:member(s, g)").await?;
            rust.join(1).await?;
            let expected = rust.processes.borrow().len();
            let reason = events_until_down(&mut events, "a").await?;
            let after = start.elapsed();
            if seen_by_us {
                ensure!(reason == DownReason::TickTimeout, "{swallow:?}: {reason:?}");
                ensure!(after < Duration::from_millis(3500), "{swallow:?}: after {after:?}");
            } else {
                // The BEAM hears nothing of us, and closes.
                ensure!(reason == DownReason::ConnectionClosed, "{swallow:?}: {reason:?}");
            }
            // The next connection is served well, though the BEAM may believe in the old one.
            all_see(&[&a], &[&rust], 2 * expected, SOON).await?;
        }

        finish(vec![a]).await
    }

    pub(super) async fn losing_one_node_disconnects_no_other_with_overlapping_partitions_prevented(
        otp: Otp,
    ) -> Result<()> {
        losing_one_node_disconnects_no_other(otp, true).await
    }

    pub(super) async fn losing_one_node_disconnects_no_other_with_overlapping_partitions_allowed(
        otp: Otp,
    ) -> Result<()> {
        losing_one_node_disconnects_no_other(otp, false).await
    }

    async fn losing_one_node_disconnects_no_other(otp: Otp, prevent: bool) -> Result<()> {
        let epmd = Epmd::start().await?;
        let mut nodes = Vec::new();
        for name in ["a", "b", "c"] {
            let options = ErlNode::options(otp, name, epmd.port());
            let options = if prevent {
                options.prevent_overlapping_partitions()
            } else {
                options.allow_overlapping_partitions()
            };
            let node = options.start().await?;
            node.eval("probe:start_scope(s), probe:member(s, g)").await?;
            nodes.push(node);
        }
        nodes[0].eval("net_adm:ping('b@127.0.0.1'), net_adm:ping('c@127.0.0.1')").await?;
        for node in &nodes {
            wait_eval(node, "length(nodes())", "2", SOON).await?;
            node.eval("global:sync()").await?;
            node.eval("Noted = probe:collector(), spawn(fun() -> net_kernel:monitor_nodes(true), \
                       register(watch, self()), (fun F() -> receive M -> Noted ! M, F() end end)() end)")
                .await?;
            wait_eval(node, "is_pid(whereis(watch))", "true", SOON).await?;
        }
        let rust = Rust::start("r", &epmd, Limits::default()).await?;
        let mut events = rust.node.events();
        let all: Vec<_> = nodes.iter().collect();
        rust.meet(&all).await?;
        all_see(&all, &[&rust], 4, SOON).await?;

        // One BEAM node throws us out; we're back, and nobody has lost anybody else.
        nodes[0].eval("erlang:disconnect_node('r@127.0.0.1')").await?;
        events_until_down(&mut events, "a").await?;
        all_see(&all, &[&rust], 4, SOON).await?;
        let lost = "lists:usort([N || {nodedown, N} <- probe:messages(Noted)])";
        ensure!(nodes[0].peek(lost).await? == "['r@127.0.0.1']", "a lost us and nobody else");
        for node in &nodes[1..] {
            ensure!(node.peek(lost).await? == "[]", "{node} lost {}", node.peek(lost).await?);
        }

        // Another Rust node dies.
        let mut binary = Binary::start(
            "k",
            &epmd,
            &["a@127.0.0.1", "b@127.0.0.1", "c@127.0.0.1", "r@127.0.0.1"],
        )
        .await?;
        all_see(&all, &[&rust], 5, SOON).await?;
        binary.kill().await?;
        all_see(&all, &[&rust], 4, SOON).await?;
        for node in &nodes[1..] {
            let lost = node.peek(lost).await?;
            ensure!(lost == "['k@127.0.0.1']", "{node} lost {lost}");
        }

        // Two BEAM nodes lose each other. What OTP makes of it is OTP's: with prevention they may
        // leave the third one, too. Nobody leaves us, and we see the members of all.
        nodes[0].eval("erlang:disconnect_node('b@127.0.0.1')").await?;
        wait_eval(&nodes[1], "lists:member('a@127.0.0.1', nodes())", "false", SOON).await?;
        if !prevent {
            for node in &nodes[..2] {
                wait_eval(node, COUNT, "3", SOON).await?;
            }
            wait_eval(&nodes[2], COUNT, "4", SOON).await?;
        }
        for node in &nodes {
            // What `global` does has happened by then.
            node.eval("global:sync()").await?;
            let nodes = node.peek("lists:member('r@127.0.0.1', nodes())").await?;
            ensure!(nodes == "true", "{node} has left us");
        }
        ensure!(rust.node.nodes().len() == 3, "{:?}", rust.node.nodes());
        rust.count(4).map_err(anyhow::Error::msg)?;
        let lost = downs(&mut events);
        ensure!(lost == [(String::from("k"), DownReason::ConnectionClosed)], "{lost:?}");
        nodes[0]
            .eval("[net_kernel:connect_node(N) || N <- ['b@127.0.0.1', 'c@127.0.0.1']]")
            .await?;
        nodes[1].eval("net_kernel:connect_node('c@127.0.0.1')").await?;
        all_see(&nodes.iter().collect::<Vec<_>>(), &[&rust], 4, SOON).await?;

        // One BEAM node dies.
        for node in &nodes[1..] {
            node.eval("Before = length(probe:messages(Noted))").await?;
        }
        nodes[0].kill().await?;
        let living: Vec<_> = nodes[1..].iter().collect();
        all_see(&living, &[&rust], 3, SOON).await?;
        for node in living {
            node.eval("global:sync()").await?;
            let since = node.peek("lists:nthtail(Before, probe:messages(Noted))").await?;
            ensure!(since == "[{nodedown,'a@127.0.0.1'}]", "{node}: {since}");
        }
        ensure!(rust.node.nodes().len() == 2, "{:?}", rust.node.nodes());

        finish(nodes).await
    }
}

/// How many members the group has that all tests use.
const COUNT: &str = "length(pg:get_members(s, g))";

/// A BEAM node with a member of the group.
async fn beam(otp: Otp, name: &str, epmd: &Epmd) -> Result<ErlNode> {
    let node = ErlNode::start(otp, name, epmd).await?;
    node.eval("probe:start_scope(s), probe:member(s, g)").await?;
    Ok(node)
}

async fn ping(from: &ErlNode, to: &ErlNode) -> Result<()> {
    let answer = from.peek(&format!("net_adm:ping('{}')", to.name())).await?;
    ensure!(answer == "pong", "{from} can't reach {to}");
    Ok(())
}

async fn finish(nodes: Vec<ErlNode>) -> Result<()> {
    for node in nodes {
        node.finish().await?;
    }
    Ok(())
}

/// All have so many members in their view, no matter whose, and it's the same view.
async fn all_see(
    beam: &[&ErlNode],
    rust: &[&Rust],
    count: usize,
    deadline: Duration,
) -> Result<()> {
    let members = "{length(pg:get_members(s, g)), lists:sort(probe:plain(pg:get_members(s, g)))}";
    wait_until(&format!("all see the same {count}"), deadline, async || {
        let mut views = Vec::new();
        for node in beam {
            views.push(node.peek(members).await.map_err(|error| format!("{error:#}"))?);
        }
        views.extend(rust.iter().map(|rust| rust.members()));
        let counted = format!("{{{count},");
        let equal = views.windows(2).all(|two| two[0] == two[1]);
        let all = views.iter().all(|view| view.starts_with(&counted));
        if equal && all { Ok(()) } else { Err(format!("{views:#?}")) }
    })
    .await
}

/// A Rust node in this process with members of the group.
struct Rust {
    node: Node,
    pg: Pg,
    processes: RefCell<Vec<Process>>,
}

impl Rust {
    async fn start(name: &str, epmd: &Epmd, limits: Limits) -> Result<Self> {
        let config = NodeConfig::new(format!("{name}@127.0.0.1"))?
            .cookie(Cookie::new(cookie())?)
            .epmd_port(epmd.port())
            .embedded_epmd(false)
            .limits(limits);
        let node = data_publisher::start(config).await?;
        let pg = Pg::start(&node, atom!("s"))?;
        let rust = Self { node, pg, processes: RefCell::default() };
        rust.join(1).await?;
        Ok(rust)
    }

    async fn join(&self, count: usize) -> Result<()> {
        for _ in 0..count {
            let process = self.node.spawn();
            self.pg.join(atom!("g"), process.pid()).await?;
            self.processes.borrow_mut().push(process);
        }
        Ok(())
    }

    fn first(&self) -> Pid {
        self.processes.borrow()[0].pid().clone()
    }

    /// Connects all with all.
    async fn meet(&self, nodes: &[&ErlNode]) -> Result<()> {
        for (place, node) in nodes.iter().enumerate() {
            self.node.connect(node.name()).await?;
            for other in &nodes[..place] {
                ping(node, other).await?;
            }
        }
        Ok(())
    }

    /// How many members the group has, and which, as the BEAM prints it.
    fn members(&self) -> String {
        let mut pids = self.pg.get_members(&atom!("g").into()).to_vec();
        pids.sort_by_key(|pid| (pid.node.clone(), pid.id, pid.serial));
        let all = pids.iter().map(|pid| format!("{{'{}',{},{}}}", pid.node, pid.id, pid.serial));
        format!("{{{},[{}]}}", pids.len(), all.collect::<Vec<_>>().join(","))
    }

    /// Fine if the group has so many members.
    fn count(&self, expected: usize) -> Result<(), String> {
        let members = self.pg.get_members(&atom!("g").into());
        if members.len() == expected { Ok(()) } else { Err(format!("{members:?}")) }
    }
}

async fn next(events: &mut NodeEvents) -> Result<NodeEvent> {
    let event = tokio::time::timeout(SOON, events.next()).await;
    event.context("no event of a node")?.context("the node has ended")
}

async fn received(process: &mut Process) -> Result<Received> {
    let received = tokio::time::timeout(SOON, process.receive()).await;
    received.context("nothing received")?.context("the process has ended")
}

/// Why the connection to `name@127.0.0.1` went down, once it does. No other may.
async fn events_until_down(events: &mut NodeEvents, name: &str) -> Result<DownReason> {
    loop {
        if let NodeEvent::Down { node, reason } = next(events).await? {
            ensure!(node.short() == name, "{node} went down, {reason}");
            return Ok(reason);
        }
    }
}

/// The nodes that went down since the last look, each with the reason.
fn downs(events: &mut NodeEvents) -> Vec<(String, DownReason)> {
    let mut downs = Vec::new();
    while let Some(Some(event)) = events.next().now_or_never() {
        if let NodeEvent::Down { node, reason } = event {
            downs.push((node.short().to_owned(), reason));
        }
    }
    downs
}

/// The program of this package in a process of its own: `join --json` with a member of the group.
struct Binary {
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Binary {
    async fn start(name: &str, epmd: &Epmd, peers: &[&str]) -> Result<Self> {
        let mut child = Command::new(env!("CARGO_BIN_EXE_data-publisher"))
            .args(["join", "--json", "--name", &format!("{name}@127.0.0.1"), "--cookie", cookie()])
            .args(["--epmd-port", &epmd.port().to_string(), "--scope", "s", "--group", "g"])
            .args(peers)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        crate::cli::Lines::collect(child.stderr.take().context("stderr was said to be a pipe")?);
        let input = child.stdin.take().context("stdin was said to be a pipe")?;
        let output = child.stdout.take().context("stdout was said to be a pipe")?;
        let mut this = Self { child, input, output: BufReader::new(output).lines() };
        this.line_with("up").await?;
        Ok(this)
    }

    /// What a command line answers.
    async fn ask(&mut self, command: &str) -> Result<Value> {
        self.input.write_all(format!("{command}\n").as_bytes()).await?;
        let reply = self.line_with("reply").await?;
        reply.get("ok").cloned().with_context(|| format!("`{command}`: {reply}"))
    }

    /// Waits until the group has so many members there.
    async fn sees(&mut self, count: usize) -> Result<()> {
        wait_until(&format!("the program sees {count}"), SOON, async || {
            let members = self.ask("members g").await.map_err(|error| format!("{error:#}"))?;
            let found = members.as_array().map_or(0, Vec::len);
            if found == count { Ok(()) } else { Err(members.to_string()) }
        })
        .await
    }

    /// SIGKILL.
    async fn kill(&mut self) -> Result<()> {
        Ok(self.child.kill().await?)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let id = self.child.id().context("it runs")?;
        let pid = rustix::process::Pid::from_raw(id.cast_signed()).context("no process id")?;
        Ok(kill_process(pid, signal)?)
    }

    async fn line_with(&mut self, event: &str) -> Result<Value> {
        let line = async {
            while let Some(line) = self.output.next_line().await? {
                search("the program", line.as_bytes(), line.len());
                let line: Value = serde_json::from_str(&line)?;
                if line["event"] == event {
                    return Ok(line);
                }
            }
            bail!("the program has ended")
        };
        tokio::time::timeout(SOON, line).await.with_context(|| format!("no `{event}`"))?
    }
}

/// Forwards connections to a port, until it's told to swallow what those carry that there are by then.
///
/// A swallowed end of a connection isn't seen at the other end either: it's half open.
struct Proxy {
    port: u16,
    newest: Arc<Mutex<Arc<AtomicU8>>>,
}

/// Which way nothing comes through any more.
#[derive(Clone, Copy, Debug)]
enum Swallow {
    ToBeam = 1,
    FromBeam = 2,
    Both = 3,
}

impl Proxy {
    async fn start(to: u16) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        let newest = Arc::<Mutex<Arc<AtomicU8>>>::default();
        let swallowed = newest.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let swallowed = swallowed.lock().expect("no panic under this lock").clone();
                let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, to)).await else {
                    continue;
                };
                let (from_client, to_client) = client.into_split();
                let (from_server, to_server) = server.into_split();
                let to_beam = (swallowed.clone(), Swallow::ToBeam);
                tokio::spawn(forward(from_client, to_server, to_beam));
                tokio::spawn(forward(from_server, to_client, (swallowed, Swallow::FromBeam)));
            }
        });
        Ok(Self { port, newest })
    }

    fn swallow(&self, which: Swallow) {
        let mut newest = self.newest.lock().expect("no panic under this lock");
        std::mem::take(&mut *newest).store(which as u8, Ordering::SeqCst);
    }
}

async fn forward(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    (swallowed, way): (Arc<AtomicU8>, Swallow),
) {
    let mut bytes = vec![0; 1 << 16];
    loop {
        let read = from.read(&mut bytes).await;
        let swallow = swallowed.load(Ordering::SeqCst) & way as u8 != 0;
        match read {
            Ok(count) if count > 0 => {
                if !swallow && to.write_all(&bytes[..count]).await.is_err() {
                    return;
                }
            }
            // Open for ever.
            _ if swallow => return std::future::pending().await,
            _ => return,
        }
    }
}
