//! Faults of a real network: a real node here, and ours on [another host](host::Host), at the end of a
//! [cable](cable::Cable) that can be bad in every way. Each ends with equal views, nothing left open, and no
//! crash on the BEAM.
//!
//! The tick time is 8 s instead of 60, so that silence is noticed soon; with `FAULTS_LONG=1` the same happens
//! with the usual one, and peers stand still for two minutes instead of not at all. Where there can't be network
//! namespaces, which want root, or no TUN devices, each test says so and does nothing.
//!
//! What needs no network of its own is elsewhere: peers that stand still, and we, in `partition.rs`; EPMD that dies or has
//! our name taken in `otp/connect.rs` and `otp/races.rs`; a port that is another's by now in `hostile/handshake.rs`.

#![expect(clippy::print_stdout, reason = "figures, for who runs it with --nocapture")]

mod cable;
mod host;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use data_publisher::epmd::EpmdServer;
use rustix::process::Signal;
use tokio::time::Instant;

use self::cable::{Faults, Way};
use self::host::{Host, is_possible};
use crate::cli::Cli;
use crate::support::{ErlNode, Otp, SOON, cookie, free_port, wait_eval, wait_until};

/// As for most networks.
const MTU: u16 = 1500;

/// After a node is back, so long until the views are equal.
const HEALED: Duration = Duration::from_secs(2);

/// How long it may take until we dial again, at most: an attempt that nobody answers, and a pause.
const DIALLED: Duration = Duration::from_secs(45);

/// Our members as the BEAM has them, creation and all.
const OURS: &str = "[term_to_binary(P) || P <- pg:get_members(s, g) -- pg:get_local_members(s, g)]";

/// Members of the group on the BEAM; ours has one.
const BEAM: usize = 3;

fn is_long() -> bool {
    let is_long = std::env::var("FAULTS_LONG").is_ok_and(|value| value == "1");
    if !is_long {
        println!("shortened; whole with FAULTS_LONG=1");
    }
    is_long
}

/// A node of OTP here, and ours there.
struct Pair {
    host: Host,
    beam: ErlNode,
    rust: Cli,
    epmd: EpmdServer,
    /// The other host's.
    _their_epmd: Cli,
    tick_time: u64,
}

impl Pair {
    /// Both run and see each other's members.
    async fn start(otp: Otp, mtu: u16, tick_time: u64) -> Result<Self> {
        let host = Host::new(mtu)?;
        let epmd = EpmdServer::bind(&[([0, 0, 0, 0], free_port()?).into()]).await?;
        let beam = ErlNode::options(otp, "a", epmd.port())
            .host(&host.here)
            .net_ticktime(tick_time.try_into()?)
            .start()
            .await?;
        beam.eval(&format!("probe:start_scope(s), probe:members(s, g, {BEAM}), ok")).await?;
        let port = epmd.port().to_string();
        let mut command = host.command(env!("CARGO_BIN_EXE_data-publisher"));
        command.args(["epmd", "--address", "0.0.0.0", "--port", &port]);
        let their_epmd = Cli::of(command)?;
        let rust = Self::rust(&host, &beam, &epmd, tick_time)?;
        let mut this = Self { host, beam, rust, epmd, _their_epmd: their_epmd, tick_time };
        this.see(BEAM, 1, SOON).await?;
        Ok(this)
    }

    fn rust(host: &Host, beam: &ErlNode, epmd: &EpmdServer, tick_time: u64) -> Result<Cli> {
        let mut command = host.command(env!("CARGO_BIN_EXE_data-publisher"));
        command
            .args(["join", beam.name(), "--name", &format!("r@{}", host.there)])
            .args(["--cookie", cookie(), "--scope", "s", "--group", "g", "--json"])
            .args(["--net-ticktime", &tick_time.to_string()])
            .args(["--epmd-port", &epmd.port().to_string()]);
        Cli::of(command)
    }

    /// Waits until both see so many members of the BEAM and of ours, and nobody else.
    async fn see(&mut self, beam: usize, rust: usize, limit: Duration) -> Result<()> {
        self.beam_sees(beam, rust, limit).await?;
        self.rust_sees(beam, rust, limit).await
    }

    async fn beam_sees(&self, beam: usize, rust: usize, limit: Duration) -> Result<()> {
        let members = "length(pg:get_local_members(s, g)), length(pg:get_members(s, g))";
        let expected = format!("{{{beam},{}}}", beam + rust);
        wait_eval(&self.beam, &format!("{{{members}}}"), &expected, limit).await
    }

    async fn rust_sees(&mut self, beam: usize, rust: usize, limit: Duration) -> Result<()> {
        let (here, there) = (format!("<a@{}.", self.host.here), format!("<r@{}.", self.host.there));
        let start = Instant::now();
        let mut seen = serde_json::Value::Null;
        while start.elapsed() < limit {
            seen = self.rust.ask("members g").await?;
            let pids = seen.as_array().context("a list of pids")?;
            let count = |node: &str| {
                let of_node = |pid: &&serde_json::Value| {
                    pid.as_str().is_some_and(|pid| pid.starts_with(node))
                };
                pids.iter().filter(of_node).count()
            };
            if (count(&here), count(&there), pids.len()) == (beam, rust, beam + rust) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        anyhow::bail!("not {beam} and {rust} members within {limit:?}: {seen}")
    }

    /// How often we have said so until now.
    fn count(&self, event: &str) -> usize {
        let is_it = |line: &String| line.contains(&format!("\"event\":\"{event}\""));
        self.rust.out.all().iter().filter(|line| is_it(line)).count()
    }

    /// Waits until we have said it once more than that.
    async fn once_more(&self, event: &str, before: usize, limit: Duration) -> Result<()> {
        wait_until(&format!("one more {event}"), limit, async || match self.count(event) {
            count if count > before => Ok(()),
            _ => Err(self.rust.out.all().join("\n")),
        })
        .await
    }

    async fn beam_has_lost_us(&self, limit: Duration) -> Result<()> {
        wait_eval(&self.beam, "nodes(connected)", "[]", limit).await
    }

    /// What our process has open.
    fn files(&self) -> Result<usize> {
        Ok(std::fs::read_dir(format!("/proc/{}/fd", self.rust.process_id()?))?.count())
    }

    /// Waits until it's no more than before.
    async fn nothing_leaks(&self, before: usize) -> Result<()> {
        wait_until("no more files than before", SOON, async || match self.files() {
            Ok(now) if now <= before => Ok(()),
            other => Err(format!("{other:?}, {before} before")),
        })
        .await
    }

    /// The connection is back: soon the views are equal.
    async fn heals(&mut self, ups: usize) -> Result<Duration> {
        self.once_more("node_up", ups, DIALLED).await?;
        let up = Instant::now();
        self.see(BEAM, 1, HEALED).await?;
        Ok(up.elapsed())
    }

    async fn finish(self) -> Result<()> {
        self.rust.signal(Signal::KILL)?;
        self.beam.finish().await
    }
}

/// R8: both ends notice within three quarters and five quarters of the tick time.
#[tokio::test]
async fn a_silent_cut_is_noticed_and_healed() -> Result<()> {
    if !is_possible() {
        return Ok(());
    }
    silent_cut(Otp::R29, 8).await?;
    if is_long() {
        silent_cut(Otp::R27, 60).await?;
    }
    Ok(())
}

async fn silent_cut(otp: Otp, tick_time: u64) -> Result<()> {
    let mut pair = Pair::start(otp, MTU, tick_time).await?;
    let files = pair.files()?;
    let (ups, downs) = (pair.count("node_up"), pair.count("node_down"));
    let tick = Duration::from_secs(tick_time);
    let limit = tick * 2;
    pair.host.cable.cut();
    let cut = Instant::now();
    let (ours, theirs) = tokio::join!(
        async { pair.once_more("node_down", downs, limit).await.map(|()| cut.elapsed()) },
        async { pair.beam_has_lost_us(limit).await.map(|()| cut.elapsed()) },
    );
    let (ours, theirs) = (ours?, theirs?);
    for took in [ours, theirs] {
        // Silence may have begun before the cut, a quarter of the time at most.
        ensure!(took >= tick / 2 && took <= tick * 5 / 4 + HEALED, "{ours:?}, {theirs:?}");
    }
    pair.beam_sees(BEAM, 0, SOON).await?;
    pair.rust_sees(0, 1, SOON).await?;
    pair.host.cable.heal();
    let healed = pair.heals(ups).await?;
    pair.nothing_leaks(files).await?;
    println!(
        "OTP {otp}, tick time {tick_time} s, cable cut: we notice after {ours:.1?}, the BEAM after \
         {theirs:.1?}; equal {healed:.2?} after the new connection"
    );
    pair.finish().await
}

#[tokio::test]
async fn a_deaf_side_closes_and_the_other_follows() -> Result<()> {
    if !is_possible() {
        return Ok(());
    }
    for (otp, way) in [(Otp::R25, Way::FromHost), (Otp::R27, Way::ToHost)] {
        let mut pair = Pair::start(otp, MTU, 8).await?;
        let files = pair.files()?;
        let (ups, downs) = (pair.count("node_up"), pair.count("node_down"));
        let limit = Duration::from_secs(30);
        pair.host.cable.set_way(way, Faults { lost: 100.0, ..Faults::default() });
        let cut = Instant::now();
        let (ours, theirs) = tokio::join!(
            async { pair.once_more("node_down", downs, limit).await.map(|()| cut.elapsed()) },
            async { pair.beam_has_lost_us(limit).await.map(|()| cut.elapsed()) },
        );
        let (ours, theirs) = (ours?, theirs?);
        let (deaf, other) = match way {
            Way::FromHost => (theirs, ours),
            Way::ToHost => (ours, theirs),
        };
        ensure!(deaf <= Duration::from_secs(12), "{deaf:?}");
        ensure!(other <= deaf + Duration::from_secs(12), "{deaf:?}, {other:?}");
        pair.host.cable.heal();
        let healed = pair.heals(ups).await?;
        pair.nothing_leaks(files).await?;
        println!(
            "OTP {otp}, nothing comes through {way:?}: the deaf side closes after {deaf:.1?}, the \
             other after {other:.1?}; equal after {healed:.2?}"
        );
        pair.finish().await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_bad_line_costs_nothing_but_time() -> Result<()> {
    if !is_possible() {
        return Ok(());
    }
    let millis = Duration::from_millis;
    let bad = Faults { lost: 5.0, ..Faults::default() };
    let awful = Faults { lost: 30.0, doubled: 10.0, delay: millis(100), jitter: millis(50) };
    let slow = Faults { lost: 0.0, doubled: 10.0, ..awful };
    for (otp, name, faults, may_reconnect) in [
        (Otp::R25, "5 % lost", bad, false),
        (Otp::R27, "100 ms ± 50 ms, reordered, 10 % doubled", slow, false),
        (Otp::R29, "the same and 30 % lost", awful, true),
    ] {
        let mut pair = Pair::start(otp, MTU, 60).await?;
        let (files, downs) = (pair.files()?, pair.count("node_down"));
        pair.host.cable.set(faults);
        let start = Instant::now();
        let join = "[ok = pg:join(s, {b, I}, hd(pg:get_local_members(s, g))) || I <- lists:seq(1, 500)], ok";
        pair.beam.peek(join).await?;
        for number in 0..100 {
            pair.rust.ask(&format!("join {{r, {number}}}")).await?;
        }
        pair.see_groups(500, 100, Duration::from_secs(60)).await.context(name)?;
        let took = start.elapsed();
        let lost = pair.count("node_down") - downs;
        ensure!(may_reconnect || lost == 0, "{name}: {lost} connections lost");
        pair.host.cable.heal();
        pair.see(BEAM, 1, DIALLED).await?;
        pair.nothing_leaks(files).await?;
        println!(
            "OTP {otp}, {name}: 600 joins are everywhere after {took:.1?}, {lost} connections lost"
        );
        pair.finish().await?;
    }
    Ok(())
}

impl Pair {
    /// Waits until both see so many groups `{b, I}` and `{r, I}`.
    async fn see_groups(&mut self, beam: usize, rust: usize, limit: Duration) -> Result<()> {
        let count = |tag| {
            format!(
                "length([I || {{{tag}, I}} <- pg:which_groups(s), pg:get_members(s, {{{tag}, I}}) =/= []])"
            )
        };
        let both = format!("{{{}, {}}}", count('b'), count('r'));
        wait_eval(&self.beam, &both, &format!("{{{beam},{rust}}}"), limit).await?;
        let start = Instant::now();
        loop {
            let groups = self.rust.ask("groups").await?;
            let groups = groups.as_array().context("a list of groups")?;
            let of = |tag: &str| {
                let is_it = |group: &&serde_json::Value| {
                    group.as_str().is_some_and(|group| group.starts_with(tag))
                };
                groups.iter().filter(is_it).count()
            };
            if (of("{b,"), of("{r,")) == (beam, rust) {
                return Ok(());
            }
            ensure!(start.elapsed() < limit, "{} and {} groups", of("{b,"), of("{r,"));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// R10, and race 13: the BEAM still believes in a connection whose other end has died in silence.
#[tokio::test]
async fn who_died_behind_a_cut_cable_returns_as_somebody_else() -> Result<()> {
    if !is_possible() {
        return Ok(());
    }
    for otp in [Otp::R25, Otp::R29] {
        let mut pair = Pair::start(otp, MTU, 60).await?;
        let old = pair.beam.peek(OURS).await?;
        pair.host.cable.cut();
        pair.rust.signal(Signal::KILL)?;
        let Pair { host, beam, epmd, tick_time, .. } = &pair;
        let again = Pair::rust(host, beam, epmd, *tick_time)?;
        pair.rust = again;
        let start = Instant::now();
        pair.host.cable.heal();
        pair.once_more("node_up", 0, DIALLED).await?;
        let up = Instant::now();
        pair.see(BEAM, 1, Duration::from_secs(1)).await?;
        let (up, equal) = (up - start, up.elapsed());
        let new = pair.beam.peek(OURS).await?;
        ensure!(new != old, "{new} is still there");
        println!(
            "OTP {otp}: connected {up:.1?} after the cable was healed, equal {equal:.2?} later"
        );
        pair.finish().await?;
    }
    Ok(())
}

/// R8: with a reset, the system's own.
#[tokio::test]
async fn a_killed_node_is_noticed_within_100_ms() -> Result<()> {
    if !is_possible() {
        return Ok(());
    }
    let mut best = Duration::MAX;
    for otp in [Otp::R25, Otp::R27, Otp::R29] {
        let pair = Pair::start(otp, MTU, 60).await?;
        // `nodedown` by the BEAM's own clock, which is the machine's.
        pair.beam
            .eval(
                "Self = self(), Keeper = spawn(fun() -> net_kernel:monitor_nodes(true), Self ! ready, \
                 receive {nodedown, _} -> ok end, T = os:system_time(microsecond), \
                 receive {From, ask} -> From ! {at, T} end end), receive ready -> ok end",
            )
            .await?;
        let killed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
        pair.rust.signal(Signal::KILL)?;
        let at = "Keeper ! {self(), ask}, receive {at, At} -> At end";
        let at: u64 = pair.beam.eval(at).await?.parse()?;
        best = best.min(Duration::from_micros(at).saturating_sub(killed));
        pair.beam_sees(BEAM, 0, SOON).await?;
        pair.beam.finish().await?;
    }
    println!("killed: `nodedown` after {best:.1?}, the best of three");
    ensure!(best <= Duration::from_millis(100), "{best:?}");
    Ok(())
}

#[tokio::test]
async fn a_storm_of_closed_connections_leaves_nothing_behind() -> Result<()> {
    if !is_possible() {
        return Ok(());
    }
    let mut pair = Pair::start(Otp::R27, MTU, 8).await?;
    let files = pair.files()?;
    let seconds = if is_long() { 60 } else { 5 };
    let (node, count) = (format!("'r@{}'", pair.host.there), seconds * 20);
    pair.beam
        .eval_within(
            &format!(
                "[begin erlang:disconnect_node({node}), timer:sleep(25), \
                 net_kernel:connect_node({node}), timer:sleep(25) end \
                 || _ <- lists:seq(1, {count})], ok"
            ),
            Duration::from_secs(seconds + 30),
        )
        .await?;
    pair.see(BEAM, 1, DIALLED).await?;
    pair.nothing_leaks(files).await?;
    let downs = pair.count("node_down");
    ensure!(downs as u64 > count / 2, "only {downs} connections were closed");
    println!("closed every 50 ms for {seconds} s: {downs} connections, nothing left behind");
    pair.finish().await
}

#[tokio::test]
async fn segments_of_a_few_bytes_carry_everything() -> Result<()> {
    if !is_possible() {
        return Ok(());
    }
    // With the heads of IP and TCP that leaves 36 bytes.
    let mut pair = Pair::start(Otp::R29, 88, 60).await?;
    let (files, downs) = (pair.files()?, pair.count("node_down"));
    let start = Instant::now();
    let join =
        "[ok = pg:join(s, {b, I}, hd(pg:get_local_members(s, g))) || I <- lists:seq(1, 2000)], ok";
    pair.beam.peek(join).await?;
    for number in 0..200 {
        pair.rust.ask(&format!("join {{r, {number}}}")).await?;
    }
    pair.see_groups(2000, 200, Duration::from_secs(60)).await?;
    ensure!(pair.count("node_down") == downs, "a connection was lost");
    println!("36 bytes a segment: 2,200 joins are everywhere after {:.1?}", start.elapsed());
    pair.nothing_leaks(files).await?;
    pair.finish().await
}

/// Two minutes, which only the long run has.
#[tokio::test]
async fn who_stands_still_for_two_minutes_is_dropped_and_whole_again() -> Result<()> {
    if !is_possible() || !is_long() {
        return Ok(());
    }
    let stands_still = Duration::from_secs(120);
    let mut pair = Pair::start(Otp::R29, MTU, 60).await?;
    let (files, ups) = (pair.files()?, pair.count("node_up"));
    pair.beam.stop_signal()?;
    pair.once_more("node_down", 0, stands_still).await?;
    tokio::time::sleep(stands_still).await;
    pair.beam.cont_signal()?;
    pair.heals(ups).await?;
    pair.nothing_leaks(files).await?;

    let ups = pair.count("node_up");
    pair.rust.signal(Signal::STOP)?;
    pair.beam_has_lost_us(stands_still).await?;
    tokio::time::sleep(stands_still).await;
    pair.rust.signal(Signal::CONT)?;
    pair.heals(ups).await?;
    pair.nothing_leaks(files).await?;
    println!("each stood still for two minutes");
    pair.finish().await
}
