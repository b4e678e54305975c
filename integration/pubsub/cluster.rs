//! A Rust member among Elixir nodes.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use data_publisher::phoenix_pubsub::{BroadcastError, Notice, Options, PubSub};
use data_publisher::term::Term;
use data_publisher::{atom, list, map, tuple};

use super::{GROUP, NAME, elixir, meet, members, next, rust, wait_told};
use crate::otp::on_each_release;
use crate::support::{Epmd, Otp, SOON, cookie, wait_eval};

on_each_release! {
    of_100_000_broadcasts_none_is_lost_and_none_comes_twice
    of_100_000_broadcasts_over_pools_none_is_lost_and_none_comes_twice
    an_event_of_a_channel_reaches_processes_and_clients_both_ways
    a_direct_broadcast_reaches_one_node
    whatever_a_user_broadcasts_no_worker_crashes
    what_is_no_broadcast_is_passed_over
    a_node_that_comes_later_or_leaves_is_noticed
}

/// Each of the three Elixir nodes and we broadcast 25,000 messages.
const SENDERS: i64 = 5;
const EACH: i64 = 5_000;

async fn of_100_000_broadcasts_none_is_lost_and_none_comes_twice(otp: Otp) -> Result<()> {
    hundred_thousand(otp, 1).await
}

async fn of_100_000_broadcasts_over_pools_none_is_lost_and_none_comes_twice(
    otp: Otp,
) -> Result<()> {
    hundred_thousand(otp, 2).await
}

/// The messages of each sender are numbered; each receiver notes any that isn't the next one.
async fn hundred_thousand(otp: Otp, pool_size: u16) -> Result<()> {
    const LIMIT: Duration = Duration::from_secs(120);
    let epmd = Epmd::start_of(otp).await?;
    let mut nodes = Vec::new();
    for name in ["a", "b", "c"] {
        nodes.push(elixir(otp, name, &epmd, pool_size).await?);
    }
    for other in ["b", "c"] {
        nodes[0].eval(&format!("pong = net_adm:ping('{other}@127.0.0.1')")).await?;
    }
    let config = data_publisher::NodeConfig::new("r@127.0.0.1")?;
    let config = config.cookie(data_publisher::Cookie::new(cookie())?).epmd_port(epmd.port());
    let node = data_publisher::start(config).await?;
    // How far behind this test's reader may be is up to the machine.
    let mut options = Options::default();
    options.behind = 100_000;
    let pubsub = PubSub::start_with(&node, NAME, &options).await?;
    meet(&node, &pubsub, &nodes.iter().collect::<Vec<_>>(), pool_size).await?;
    let all = "['a@127.0.0.1','b@127.0.0.1','c@127.0.0.1','r@127.0.0.1']";
    for number in 1..=pool_size {
        let members = format!("lists:sort([node(P) || P <- {}])", members(number));
        for other in &nodes {
            wait_eval(other, &members, all, SOON).await?;
        }
    }

    let mut subscription = pubsub.subscribe("t");
    let start = Instant::now();
    let received = tokio::spawn(async move {
        let mut counts = BTreeMap::<Term, i64>::new();
        while counts.values().sum::<i64>() < 4 * SENDERS * EACH {
            let notice = tokio::time::timeout(LIMIT, subscription.next()).await;
            let notice = notice.with_context(|| format!("{counts:?}"))?.context("ended")?;
            let Notice::Message(message) = notice else { bail!("{notice:?}") };
            let [tag, sender, number] = message.tuple::<3>()?;
            ensure!(tag.is_atom("count"), "{message}");
            let count = counts.entry(sender.clone()).or_default();
            ensure!(number.integer()? == *count + 1, "{message} after {count}");
            *count += 1;
        }
        // Nothing comes after the last.
        anyhow::Ok((counts, subscription))
    });
    for other in &nodes {
        other.elixir(&format!("PubSubProbe.count({NAME}, \"t\", {SENDERS}, {EACH})")).await?;
    }
    let sending = (1..=SENDERS).map(async |sender| {
        for number in 1..=EACH {
            let message = tuple![atom!("count"), tuple![node.name(), sender], number];
            let reached = pubsub.broadcast("t", message).await?;
            ensure!(reached == 3, "it went to {reached} nodes");
        }
        Ok(())
    });
    futures::future::try_join_all(sending).await?;
    let (counts, mut subscription) = received.await??;
    let took = start.elapsed();

    let expected: Vec<String> = ["a", "b", "c", "r"]
        .iter()
        .flat_map(|name| {
            (1..=SENDERS).map(move |n| format!("{{{{'{name}@127.0.0.1',{n}}},{EACH}}}"))
        })
        .collect();
    let counted: Vec<String> =
        counts.iter().map(|(sender, n)| format!("{{{sender},{n}}}")).collect();
    assert_eq!(counted, expected);
    let told = format!("{{[{}],[]}}", expected.join(","));
    for other in &nodes {
        wait_told(other, &told, LIMIT).await?;
    }
    #[expect(clippy::print_stdout, reason = "a test that measures says what it saw")]
    {
        println!("OTP {otp}, pool of {pool_size}: 100,000 broadcasts to 4 nodes in {took:?}");
    }
    // Each node has one more to say: nothing was left in between.
    for other in &nodes {
        let last =
            format!("Phoenix.PubSub.direct_broadcast(:\"r@127.0.0.1\", {NAME}, \"t\", node())");
        other.elixir(&last).await?;
        let message =
            Notice::Message(other.name().parse::<data_publisher::term::NodeName>()?.into());
        assert_eq!(next(&mut subscription).await?, message);
    }
    for other in nodes {
        other.finish().await?;
    }
    Ok(())
}

async fn an_event_of_a_channel_reaches_processes_and_clients_both_ways(otp: Otp) -> Result<()> {
    let epmd = Epmd::start_of(otp).await?;
    let a = elixir(otp, "a", &epmd, 1).await?;
    let (node, pubsub) = rust("r", &epmd).await?;
    meet(&node, &pubsub, &[&a], 1).await?;
    // The collector is a process with the topic, and the socket of a client with it, too.
    a.elixir(&format!("Phoenix.PubSub.subscribe_client({NAME}, \"t\", Process.whereis(C))"))
        .await?;

    let payload = map! {
        atom!("body") => Term::binary_of("h\u{e9}llo"),
        Term::binary_of("list") => list![1, 2.5_f64.to_term(), atom!("nil"), true],
    };
    assert_eq!(pubsub.channel_broadcast("t", "new_msg", payload).await?, 1);
    let told = "{[],[#{'__struct__' => 'Elixir.Phoenix.Socket.Broadcast',event => <<\"new_msg\">>,\
                payload => #{body => <<\"h\u{e9}llo\"/utf8>>,<<\"list\">> => [1,2.5,nil,true]},\
                topic => <<\"t\">>},\
                {text,<<\"[null,null,\\\"t\\\",\\\"new_msg\\\",{\\\"body\\\":\\\"h\u{e9}llo\\\",\\\"list\\\":[1,2.5,null,true]}]\"/utf8>>}]}";
    same_told(&a, told).await?;

    let mut subscription = pubsub.subscribe("t");
    a.elixir(&format!(
        "Phoenix.Channel.Server.broadcast({NAME}, \"t\", \"reply\", %{{from: \"a\", n: 1}})"
    ))
    .await?;
    let notice = next(&mut subscription).await?;
    let Notice::Broadcast(broadcast) = notice else { bail!("{notice:?}") };
    assert_eq!((broadcast.topic.as_str(), broadcast.event.as_str()), ("t", "reply"));
    let payload = map! {atom!("from") => Term::binary_of("a"), atom!("n") => 1};
    assert_eq!(broadcast.payload, payload);
    a.finish().await
}

/// The collector's terms in any order, maps in the order of our own parser.
async fn same_told(node: &crate::support::ErlNode, expected: &str) -> Result<()> {
    let read = |text: &str| -> Result<(Term, Vec<Term>)> {
        let [counts, others] = text.parse::<Term>()?.tuple::<2>()?.clone();
        let mut others = others.list()?.to_vec();
        others.sort();
        Ok((counts, others))
    };
    let expected = read(expected)?;
    crate::support::wait_until("the collector has it", SOON, async || {
        let told = node.elixir("PubSubProbe.told(Process.whereis(C))").await;
        let told = told.map_err(|error| format!("{error:#}"))?;
        match read(&told) {
            Ok(terms) if terms == expected => Ok(()),
            _ => Err(told),
        }
    })
    .await
}

/// Floats aren't terms by themselves: some are none.
trait ToTerm {
    fn to_term(self) -> Term;
}

impl ToTerm for f64 {
    fn to_term(self) -> Term {
        Term::float_of(self).expect("it's finite")
    }
}

async fn a_direct_broadcast_reaches_one_node(otp: Otp) -> Result<()> {
    let epmd = Epmd::start_of(otp).await?;
    let a = elixir(otp, "a", &epmd, 3).await?;
    let b = elixir(otp, "b", &epmd, 3).await?;
    let (node, pubsub) = rust("r", &epmd).await?;
    meet(&node, &pubsub, &[&a, &b], 3).await?;
    let mut subscription = pubsub.subscribe("t");

    pubsub.direct_broadcast(&a.name().parse()?, "t", atom!("to_a")).await?;
    pubsub.broadcast("t", atom!("to_all")).await?;
    assert_eq!(next(&mut subscription).await?, Notice::Message(atom!("to_all").into()));
    wait_told(&a, "{[],[to_a,to_all]}", SOON).await?;
    wait_told(&b, "{[],[to_all]}", SOON).await?;

    // By processes that use all of the groups; each of them is a name of ours.
    let direct = format!(
        "for n <- 1..30, do: spawn(fn -> Phoenix.PubSub.direct_broadcast(:\"r@127.0.0.1\", {NAME}, \"t\", n) end)"
    );
    a.elixir(&format!("{direct}; :ok")).await?;
    let mut numbers = Vec::new();
    for _ in 0..30 {
        let notice = next(&mut subscription).await?;
        let Notice::Message(number) = notice else { bail!("{notice:?}") };
        numbers.push(number.integer()?);
    }
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=30).collect::<Vec<_>>());
    wait_told(&b, "{[],[to_all]}", SOON).await?;
    a.finish().await?;
    b.finish().await
}

async fn whatever_a_user_broadcasts_no_worker_crashes(otp: Otp) -> Result<()> {
    let epmd = Epmd::start_of(otp).await?;
    let a = elixir(otp, "a", &epmd, 1).await?;
    let (node, pubsub) = rust("r", &epmd).await?;
    meet(&node, &pubsub, &[&a], 1).await?;
    a.elixir(&format!("Phoenix.PubSub.subscribe_client({NAME}, \"t\", Process.whereis(C))"))
        .await?;
    let worker = format!("whereis({GROUP})");
    let before = a.peek(&worker).await?;

    let long = "x".repeat(100_000);
    a.elixir(&format!("Process.register(PubSubProbe.collect({NAME}, \"\"), C1)")).await?;
    for topic in ["", "\u{1f600}", "a\0b", long.as_str()] {
        pubsub.broadcast(topic, atom!("odd")).await?;
        pubsub.channel_broadcast(topic, topic, map! {}).await?;
        pubsub.direct_broadcast(&a.name().parse()?, topic, list![]).await?;
    }
    let tuple = tuple![1];
    for payload in [
        Term::NIL,
        tuple.clone(),
        tuple![atom!("binary"), Term::binary_of("x")],
        map! {atom!("a") => tuple.clone()},
        map! {tuple => 1},
        map! {atom!("a") => Term::binary_of([255])},
        map! {atom!("__struct__") => atom!("Elixir.Date")},
        map! {atom!("a") => Term::list_with_tail(vec![1.into()], 2.into())},
    ] {
        let refused = pubsub.channel_broadcast("t", "e", payload.clone()).await;
        ensure!(matches!(refused, Err(BroadcastError::NotJson(_))), "{payload}: {refused:?}");
        // As a plain message anything may be said.
        pubsub.broadcast("t", payload).await?;
    }
    pubsub.channel_broadcast("t", "last", map! {}).await?;
    crate::support::wait_until("the last one is there", SOON, async || {
        let told = a.elixir("PubSubProbe.told(Process.whereis(C))").await;
        let told = told.map_err(|error| format!("{error:#}"))?;
        if told.contains("last") { Ok(()) } else { Err(told) }
    })
    .await?;
    assert_eq!(a.peek(&worker).await?, before);
    a.finish().await
}

async fn what_is_no_broadcast_is_passed_over(otp: Otp) -> Result<()> {
    let epmd = Epmd::start_of(otp).await?;
    let a = elixir(otp, "a", &epmd, 1).await?;
    let (node, pubsub) = rust("r", &epmd).await?;
    meet(&node, &pubsub, &[&a], 1).await?;
    let mut subscription = pubsub.subscribe("t");
    for other in [
        "hello",
        "{forward_to_local, t, not_a_binary, 'Elixir.Phoenix.PubSub'}",
        "{forward_to_local, <<\"t\">>, no_dispatcher}",
        "{forward_to_local, <<\"t\">>, no_atom, \"x\"}",
        "{forward_to_local, none, <<\"t\">>, of_1_x}",
        "{'EXIT', self(), x}",
        "[]",
    ] {
        a.eval(&format!("{{{GROUP}, 'r@127.0.0.1'}} ! {other}, ok")).await?;
    }
    let exit = format!("[exit(P, shutdown) || P <- {}, node(P) =/= node()], ok", members(1));
    a.eval(&exit).await?;
    // A worker would crash of a call; here at least nobody waits.
    let call = format!("gen_server:call({{{GROUP}, 'r@127.0.0.1'}}, x)");
    assert_eq!(a.eval(&call).await?, "{error,badarg}");
    // A dispatcher of somebody's own: for us all subscribers are alike.
    a.elixir(&format!(
        "Phoenix.PubSub.direct_broadcast(:\"r@127.0.0.1\", {NAME}, \"t\", :own, MyApp.Own)"
    ))
    .await?;
    assert_eq!(next(&mut subscription).await?, Notice::Message(atom!("own").into()));
    a.finish().await
}

async fn a_node_that_comes_later_or_leaves_is_noticed(otp: Otp) -> Result<()> {
    let epmd = Epmd::start_of(otp).await?;
    let (node, pubsub) = rust("r", &epmd).await?;
    let mut subscription = pubsub.subscribe("t");
    assert_eq!(pubsub.broadcast("t", 0).await?, 0);
    assert_eq!(next(&mut subscription).await?, Notice::Message(0.into()));
    let mut a = elixir(otp, "a", &epmd, 2).await?;
    meet(&node, &pubsub, &[&a], 2).await?;
    assert_eq!(pubsub.nodes(), [a.name().parse()?]);
    assert_eq!(pubsub.broadcast("t", 1).await?, 1);
    wait_told(&a, "{[],[1]}", SOON).await?;

    a.kill().await?;
    crate::support::wait_until("it's gone", SOON, async || {
        let nodes = pubsub.nodes();
        if nodes.is_empty() { Ok(()) } else { Err(format!("{nodes:?}")) }
    })
    .await?;
    assert_eq!(pubsub.broadcast("t", 2).await?, 0);
    a.finish().await?;

    // And for an Elixir node we are gone when we stop.
    let b = elixir(otp, "b", &epmd, 1).await?;
    meet(&node, &pubsub, &[&b], 1).await?;
    pubsub.stop().await;
    let members = format!("length({})", members(1));
    wait_eval(&b, &members, "1", SOON).await?;
    b.finish().await
}
