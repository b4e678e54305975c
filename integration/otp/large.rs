//! Messages too large for one piece, and so many that nobody reads them.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use data_publisher::node::{Process, Received};
use data_publisher::term::{Destination, NodeName, Pid, Term};
use data_publisher::{Node, atom, tuple};

use super::{BOTH, Seen, erl, on_each_release, rust_node};
use crate::support::{Otp, SOON};

on_each_release! {
    large_messages_let_small_ones_pass_both_ways
    ten_megabytes_return_from_an_echo
    a_process_that_sleeps_suspends_nobody
}

/// What small messages may take while a large one is under way.
const PATIENCE: Duration = Duration::from_secs(1);

const LARGE: usize = 64 << 20;

/// A process here that returns `{echo, What}` to who sends `{Pid, What}`.
fn echo(node: &Node, name: &str) -> Result<()> {
    let mut process = node.spawn();
    node.register(data_publisher::term::Atom::new(name)?, process.pid())?;
    tokio::spawn(async move {
        while let Some(received) = process.receive().await {
            let message = received.into_term();
            if let Ok([Term::Pid(from), what]) = message.tuple::<2>() {
                process.send(from.clone(), tuple![atom!("echo"), what]);
            }
        }
    });
    Ok(())
}

async fn next(process: &mut Process) -> Result<Term> {
    let received = tokio::time::timeout(SOON, process.receive()).await.context("no message")?;
    received.map(Received::into_term).context("the process has ended")
}

fn pid_of(term: &Term) -> Result<Pid> {
    match term {
        Term::Pid(pid) => Ok(pid.clone()),
        other => anyhow::bail!("{other} is no pid"),
    }
}

/// The best of three: other tests have the processors, too.
async fn large_messages_let_small_ones_pass_both_ways(otp: Otp) -> Result<()> {
    for seen in BOTH {
        let mut all = Vec::new();
        for _ in 0..3 {
            let passed = echoes_both_ways(otp, seen).await?;
            all.push(passed);
            if is_enough(&passed) {
                break;
            }
        }
        ensure!(all.last().is_some_and(is_enough), "{seen:?}: echoes and the longest: {all:?}");
    }
    Ok(())
}

/// How many echoes came while a large message was on its way, in and out, and how long the slowest took.
type Passed = [(i64, Duration); 2];

fn is_enough(passed: &Passed) -> bool {
    passed.iter().all(|(count, longest)| *count >= 20 && *longest < PATIENCE)
}

async fn echoes_both_ways(otp: Otp, seen: Seen) -> Result<Passed> {
    let (epmd, a) = erl(otp).await?;
    a.load("erlang/test/flood.erl").await?;
    let rust = rust_node("r", &epmd, seen).await?;
    rust.connect("a@127.0.0.1").await?;
    echo(&rust, "echo")?;
    let mut sink = rust.spawn();
    rust.register(atom!("sink"), sink.pid())?;

    // From there to here, while a process there asks for echoes.
    a.peek(&format!(
        "Pinger = spawn(fun() -> Tested = flood:ping({{echo, 'r@127.0.0.1'}}, 10000), \
             {{sink, 'r@127.0.0.1'}} ! Tested end), \
             spawn(fun() -> {{sink, 'r@127.0.0.1'}} ! {{Pinger, binary:copy(<<5>>, {LARGE})}} end)"
    ))
    .await?;
    let message = next(&mut sink).await?;
    let [pinger, binary] = message.tuple::<2>()?;
    ensure!(binary.binary()?.len() == LARGE && binary.binary()?.iter().all(|byte| *byte == 5));
    sink.send(pid_of(pinger)?, tuple![atom!("done"), atom!("in")]);
    let tested = next(&mut sink).await?;
    let [_, count, longest] = tested.tuple::<3>()?;
    let (count, longest) =
        (count.integer()?, Duration::from_micros(longest.integer()?.cast_unsigned()));
    println!("OTP {otp}, {seen:?}, 64 MB in: {count} echoes meanwhile, the longest {longest:?}");
    let inwards = (count, longest);

    // From here to there, while a process here asks for echoes.
    a.peek(
        "register(sink, spawn(fun() -> receive {From, B} -> \
             From ! {size(B), erlang:crc32(B) =:= erlang:crc32(binary:copy(<<6>>, size(B)))} \
             end end)), \
             register(mirror, spawn(fun() -> F = fun F() -> receive {P, N} -> P ! {echo, N}, F() \
             end end, F() end)), ok",
    )
    .await?;
    let there = NodeName::new("a@127.0.0.1")?;
    let mut large = rust.spawn();
    let binary = Term::binary_of(vec![6; LARGE]);
    let sink_there = Destination::Name(atom!("sink"), there.clone());
    ensure!(large.send(sink_there, tuple![large.pid(), binary]), "not queued");
    let mut pinger = rust.spawn();
    let (mut count, mut longest) = (0, Duration::ZERO);
    let answer = loop {
        let start = Instant::now();
        let mirror = Destination::Name(atom!("mirror"), there.clone());
        ensure!(pinger.send(mirror, tuple![pinger.pid(), count]), "not queued");
        assert_eq!(next(&mut pinger).await?, tuple![atom!("echo"), count]);
        count += 1;
        longest = longest.max(start.elapsed());
        if let Some(answer) = large.try_receive() {
            break answer.into_term();
        }
    };
    assert_eq!(answer, tuple![Term::from(LARGE as u64), true]);
    println!("OTP {otp}, {seen:?}, 64 MB out: {count} echoes meanwhile, the longest {longest:?}");
    rust.stop().await;
    a.finish().await?;
    Ok([inwards, (count, longest)])
}

async fn ten_megabytes_return_from_an_echo(otp: Otp) -> Result<()> {
    let (epmd, a) = erl(otp).await?;
    for seen in BOTH {
        let rust = rust_node("r", &epmd, seen).await?;
        echo(&rust, "echo")?;
        rust.connect("a@127.0.0.1").await?;
        // Large in one piece, in many, and in small parts.
        let there_and_back = "fun(Term) -> Start = erlang:monotonic_time(millisecond), \
            {echo, 'r@127.0.0.1'} ! {self(), Term}, \
            receive {echo, Term} -> erlang:monotonic_time(millisecond) - Start end end";
        for term in [
            "binary:copy(<<7>>, 10485760)",
            "[binary:copy(<<7>>, 1000) || _ <- lists:seq(1, 10485)]",
            "maps:from_list([{N, {atom, self(), <<0:600>>}} || N <- lists:seq(1, 100000)])",
        ] {
            let mut best = u64::MAX;
            for _ in 0..3 {
                let took = a.eval(&format!("({there_and_back})({term})")).await?.parse()?;
                best = best.min(took);
            }
            println!("OTP {otp}, {seen:?}: {term} there and back in {best} ms");
            ensure!(best < 1000, "{best} ms for {term}");
        }
        rust.stop().await;
    }
    a.finish().await
}

async fn a_process_that_sleeps_suspends_nobody(otp: Otp) -> Result<()> {
    const COUNT: i64 = 1_000_000;
    let (epmd, a) = erl(otp).await?;
    a.load("erlang/test/flood.erl").await?;
    let rust = rust_node("r", &epmd, Seen::Visible).await?;
    let mut sleeper = rust.spawn();
    rust.register(atom!("sleeper"), sleeper.pid())?;
    rust.connect("a@127.0.0.1").await?;
    let flood = format!("flood:send({{sleeper, 'r@127.0.0.1'}}, {COUNT})");
    let longest: u64 = a.eval(&flood).await?.parse()?;
    println!("OTP {otp}: the longest of {COUNT} sends took {longest} us");
    ensure!(longest < 1_000_000, "a send took {longest} us");
    for number in 1..=COUNT {
        assert_eq!(next(&mut sleeper).await?, tuple![atom!("msg"), number]);
    }
    assert_eq!(rust.nodes(), [NodeName::new("a@127.0.0.1")?]);
    a.finish().await
}
