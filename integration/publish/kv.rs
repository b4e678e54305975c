//! `kv` here and `dp_kv` there, in one scope.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use data_publisher::kv::{Event, Kv, KvPublisher};
use data_publisher::node::{Node, Process};
use data_publisher::scope::{Notice, Subscription};
use data_publisher::term::{NodeName, Term};
use data_publisher::{atom, tuple};

use super::{beam_node, load, next, rust_node};
use crate::otp::{erlang_pid, on_each_release};
use crate::support::{Epmd, ErlNode, Otp, SOON, wait_eval, wait_until};

/// Within this a put or delete is to be seen on all nodes.
const AT_ONCE: Duration = Duration::from_millis(100);

on_each_release! {
    a_put_or_delete_is_seen_on_all_nodes_within_100_ms
    keys_go_with_their_node_and_come_back_with_its_scope
    many_keys_at_once_and_odd_ones_arrive
}

/// Two BEAM nodes, a visible and a hidden Rust node, each with the scope `settings` and the key `here`.
struct Cluster {
    epmd: Epmd,
    beam: Vec<ErlNode>,
    rust: Vec<(Node, Kv)>,
}

impl Cluster {
    async fn start(otp: Otp) -> Result<Self> {
        let epmd = Epmd::start_of(otp).await?;
        let mut this = Self { epmd, beam: Vec::new(), rust: Vec::new() };
        for name in ["a", "b"] {
            let node = beam_node(otp, name, &this.epmd).await?;
            start_kv(&node).await?;
            this.beam.push(node);
        }
        this.beam[0].eval("pong = net_adm:ping('b@127.0.0.1')").await?;
        for (name, hidden) in [("r", false), ("h", true)] {
            let node = rust_node(name, &this.epmd, hidden).await?;
            let kv = Kv::start(&node, atom!("settings"))?;
            kv.put(atom!("here"), 1).await?;
            this.rust.push((node, kv));
        }
        this.connect().await?;
        this.all_see(&["a", "b", "h", "r"]).await?;
        Ok(this)
    }

    async fn connect(&self) -> Result<()> {
        for (node, _) in &self.rust {
            for other in ["a@127.0.0.1", "b@127.0.0.1", "r@127.0.0.1"] {
                if node.name().as_str() != other {
                    node.connect(other).await?;
                }
            }
        }
        Ok(())
    }

    /// Waits until all nodes that run see `here` of exactly these.
    async fn all_see(&self, owners: &[&str]) -> Result<()> {
        let owners: Vec<String> = owners.iter().map(|name| format!("{name}@127.0.0.1")).collect();
        for beam in self.beam.iter().filter(|beam| beam.process_id().is_some()) {
            let quoted: Vec<String> = owners.iter().map(|name| format!("'{name}'")).collect();
            let expected = format!("[{}]", quoted.join(","));
            wait_eval(beam, "lists:sort(maps:keys(dp_kv:get(settings, here)))", &expected, SOON)
                .await?;
        }
        for (node, kv) in &self.rust {
            wait_until(&format!("{} sees `here` of {owners:?}", node.name()), SOON, async || {
                let seen = kv.get(atom!("here"));
                let same = seen.keys().map(NodeName::as_str).eq(owners.iter().map(|o| &**o));
                if same { Ok(()) } else { Err(format!("{seen:?}")) }
            })
            .await?;
        }
        Ok(())
    }

    /// What a node has put since it returned is seen, and then what it had before: what all saw of it
    /// before it went doesn't count.
    async fn all_see_anew(&self, owner: &str, mark: u32) -> Result<()> {
        let owner = format!("{owner}@127.0.0.1");
        let there = format!("maps:get('{owner}', dp_kv:get(settings, mark), none)");
        for beam in &self.beam {
            wait_eval(beam, &there, &mark.to_string(), SOON).await?;
        }
        let owner: NodeName = owner.parse()?;
        for (node, kv) in &self.rust {
            wait_until(&format!("{} sees mark {mark}", node.name()), SOON, async || {
                let seen = kv.get(atom!("mark"));
                if seen.get(&owner) == Some(&mark.into()) {
                    Ok(())
                } else {
                    Err(format!("{seen:?}"))
                }
            })
            .await?;
        }
        self.all_see(&["a", "b", "h", "r"]).await
    }

    async fn finish(self) -> Result<()> {
        drop(self.rust);
        for beam in self.beam {
            beam.finish().await?;
        }
        Ok(())
    }
}

async fn start_kv(node: &ErlNode) -> Result<()> {
    node.peek("{ok, _} = dp_kv:start(settings), ok = dp_kv:put(settings, here, 1)").await?;
    Ok(())
}

/// Waits until all have been told of this event: BEAM nodes tell the process, Rust nodes the
/// subscriptions.
async fn all_told(
    watcher: &mut Process,
    subscriptions: &mut [Subscription<KvPublisher>],
    event: &Event,
) -> Result<()> {
    let term = match event {
        Event::Put { node, key, value } => tuple![atom!("put"), node, key, value],
        Event::Delete { node, key } => tuple![atom!("delete"), node, key],
    };
    let mut told = BTreeSet::new();
    while told.len() < 2 {
        let message = next(watcher).await?;
        let [node, seen] = message.tuple::<2>()?;
        ensure!(*seen == term, "{node} was told {seen} instead of {term}");
        ensure!(told.insert(node.clone()), "{node} was told twice");
    }
    for changes in subscriptions {
        let seen = tokio::time::timeout(SOON, changes.next()).await?;
        ensure!(seen == Some(Notice::Event(event.clone())), "{seen:?} instead of {event:?}");
    }
    Ok(())
}

async fn a_put_or_delete_is_seen_on_all_nodes_within_100_ms(otp: Otp) -> Result<()> {
    let cluster = Cluster::start(otp).await?;
    let (rust, kv) = &cluster.rust[0];
    let mut watcher = rust.spawn();
    rust.register(atom!("watcher"), watcher.pid())?;
    for beam in &cluster.beam {
        beam.eval(
            "Self = self(), spawn(fun() -> {Ref, _} = dp_kv:subscribe(settings, {key, k}), \
             Self ! ready, (fun F() -> receive \
                {Ref, put, N, k, V} -> {watcher, 'r@127.0.0.1'} ! {node(), {put, N, k, V}}; \
                {Ref, delete, N, k} -> {watcher, 'r@127.0.0.1'} ! {node(), {delete, N, k}} \
             end, F() end)() end), receive ready -> ok end",
        )
        .await?;
    }
    let mut subscriptions = Vec::new();
    for (_, kv) in &cluster.rust {
        let (before, changes) = kv.subscribe_key(atom!("k")).await?;
        ensure!(before.is_empty());
        subscriptions.push(changes);
    }

    let mut took = [Vec::new(), Vec::new()];
    let key = || Term::from(atom!("k"));
    for round in 0..5_i64 {
        let node = rust.name().clone();
        let start = Instant::now();
        kv.put(atom!("k"), round).await?;
        let put = Event::Put { node: node.clone(), key: key(), value: round.into() };
        all_told(&mut watcher, &mut subscriptions, &put).await?;
        took[0].push(start.elapsed());
        let start = Instant::now();
        kv.delete(atom!("k")).await?;
        let delete = Event::Delete { node, key: key() };
        all_told(&mut watcher, &mut subscriptions, &delete).await?;
        took[0].push(start.elapsed());

        let node = "b@127.0.0.1".parse()?;
        let start = Instant::now();
        cluster.beam[1].peek(&format!("dp_kv:put(settings, k, {round})")).await?;
        let put = Event::Put { node, key: key(), value: round.into() };
        all_told(&mut watcher, &mut subscriptions, &put).await?;
        took[1].push(start.elapsed());
        let node = "b@127.0.0.1".parse()?;
        let start = Instant::now();
        cluster.beam[1].peek("dp_kv:delete(settings, k)").await?;
        all_told(&mut watcher, &mut subscriptions, &Event::Delete { node, key: key() }).await?;
        took[1].push(start.elapsed());
    }
    for (who, mut took) in ["Rust", "the BEAM"].into_iter().zip(took) {
        took.sort();
        // A busy machine may hold up one in ten.
        ensure!(took[took.len() * 9 / 10] <= AT_ONCE, "from {who}: {took:?}");
    }
    cluster.finish().await
}

async fn keys_go_with_their_node_and_come_back_with_its_scope(otp: Otp) -> Result<()> {
    let mut cluster = Cluster::start(otp).await?;

    // A BEAM node dies and returns.
    cluster.beam[1].kill().await?;
    cluster.all_see(&["a", "h", "r"]).await?;
    cluster.beam[1].restart().await?;
    load(&cluster.beam[1]).await?;
    start_kv(&cluster.beam[1]).await?;
    cluster.connect().await?;
    cluster.beam[1].peek("pong = net_adm:ping('a@127.0.0.1')").await?;
    cluster.beam[1].peek("ok = dp_kv:put(settings, mark, 1)").await?;
    cluster.all_see_anew("b", 1).await?;

    // Its scope dies and returns: with its own keys, and those of all others.
    let ends = ["exit(whereis(settings), kill)", "ok = gen_server:stop(settings)"];
    for (mark, end) in (2..).zip(ends) {
        let gone = "(fun F() -> whereis(settings) =:= undefined orelse F() end)()";
        let again = "{ok, _} = dp_kv:start(settings)";
        let put = format!("ok = dp_kv:put(settings, mark, {mark})");
        cluster.beam[0].peek(&format!("{end}, {gone}, {again}, {put}")).await?;
        cluster.all_see_anew("a", mark).await?;
    }

    // A scope here ends, politely or by a signal from there, and returns.
    let mut mark = 10;
    for place in 0..cluster.rust.len() {
        for politely in [true, false] {
            let (node, kv) = cluster.rust.remove(place);
            if politely {
                kv.stop().await;
            } else {
                let pid = node.whereis(&atom!("settings")).context("it runs")?;
                let pid = erlang_pid(&pid);
                cluster.beam[0].peek(&format!("exit({pid}, kill)")).await?;
                wait_until("the scope has ended", SOON, async || match kv.peers().await {
                    Ok(peers) => Err(format!("{peers:?}")),
                    Err(_) => Ok(()),
                })
                .await?;
            }
            let kv = Kv::start(&node, atom!("settings"))?;
            mark += 1;
            kv.put(atom!("mark"), mark).await?;
            let owner = node.name().short().to_owned();
            cluster.rust.insert(place, (node, kv));
            cluster.all_see_anew(&owner, mark).await?;
        }
    }

    // A Rust node goes.
    drop(cluster.rust.pop());
    cluster.all_see(&["a", "b", "r"]).await?;
    cluster.finish().await
}

async fn many_keys_at_once_and_odd_ones_arrive(otp: Otp) -> Result<()> {
    let cluster = Cluster::start(otp).await?;
    let (_, kv) = &cluster.rust[0];
    let odd = "[1, 1.0, \"\", <<>>, {a, [b|c]}, #{1 => 2}, 1 bsl 100, fun lists:map/2, '$$']";
    let view = "lists:sort([{K, V} || {K, Owners} <- maps:to_list(dp_kv:get_all(settings)), \
                {N, V} <- maps:to_list(Owners), N =:= Of, K =/= here])";

    // From there to here.
    cluster.beam[0]
        .eval(&format!("Odd = {odd}, ok = dp_kv:put_all(settings, [{{K, K}} || K <- Odd]), ok"))
        .await?;
    let owner = "a@127.0.0.1".parse()?;
    let of_a = || {
        let all = kv.get_all().into_iter();
        all.filter_map(|(key, owners)| owners.get(&owner).cloned().map(|value| (key, value)))
    };
    wait_until("all odd keys", SOON, async || match of_a().count() {
        10 => Ok(()),
        count => Err(count.to_string()),
    })
    .await?;
    let own: Vec<(Term, Term)> = of_a().filter(|(key, _)| !key.is_atom("here")).collect();
    for (key, value) in &own {
        ensure!(key == value, "{key} => {value}");
    }

    // And back, beside many others.
    kv.put_all(own).await?;
    let many: Vec<(Term, Term)> = (0..10_000_i64).map(|i| (tuple![i], i.into())).collect();
    kv.put_all(many).await?;
    let here = "Of = 'r@127.0.0.1', ";
    for beam in &cluster.beam {
        wait_eval(beam, &format!("{here} length({view})"), "10009", SOON).await?;
        let same = format!(
            "{here} maps:from_list([{{K, K}} || K <- {odd}]) =:= maps:from_list(\
                            [P || {{K, _}} = P <- {view}, not is_tuple(K) orelse size(K) > 1])"
        );
        assert_eq!(beam.peek(&same).await?, "true");
    }
    cluster.finish().await
}
