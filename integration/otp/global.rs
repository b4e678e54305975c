//! `global` and the mesh of BEAM nodes: as if we weren't there.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::{Seen, on_each_release, rust_node};
use crate::support::{Epmd, ErlNode, Otp, SOON, wait_eval};

on_each_release! {
    global_is_as_fast_with_us_as_without
    our_death_disconnects_nobody_else
}

/// What waits for nobody; where `global` waits for us it waits for ever.
const AT_ONCE: Duration = Duration::from_millis(500);

async fn mesh(otp: Otp) -> Result<(Epmd, [ErlNode; 2])> {
    let epmd = Epmd::start_of(otp).await?;
    let a = ErlNode::start(otp, "a", &epmd).await?;
    let b = ErlNode::start(otp, "b", &epmd).await?;
    assert_eq!(a.eval("net_adm:ping('b@127.0.0.1')").await?, "pong");
    a.eval("global:sync()").await?;
    Ok((epmd, [a, b]))
}

/// How long each thing one may ask of `global` took.
async fn use_global(a: &ErlNode, name: &str) -> Result<Vec<(&'static str, Duration)>> {
    let mut took = Vec::new();
    for (what, expression, expected) in [
        ("sync", "global:sync()".to_owned(), "ok"),
        ("register_name", format!("global:register_name({name}, whereis(init))"), "yes"),
        ("set_lock", format!("global:set_lock({{{name}, self()}})"), "true"),
        ("del_lock", format!("global:del_lock({{{name}, self()}})"), "true"),
        ("trans", format!("global:trans({{{name}, self()}}, fun() -> done end)"), "done"),
        ("unregister_name", format!("global:unregister_name({name})"), "ok"),
    ] {
        let start = Instant::now();
        assert_eq!(a.eval(&expression).await?, expected, "{what}");
        took.push((what, start.elapsed()));
    }
    Ok(took)
}

async fn global_is_as_fast_with_us_as_without(otp: Otp) -> Result<()> {
    let (epmd, [a, b]) = mesh(otp).await?;
    let without = use_global(&a, "x").await?;
    for seen in super::BOTH {
        let rust = rust_node("r", &epmd, seen).await?;
        rust.connect("a@127.0.0.1").await?;
        rust.connect("b@127.0.0.1").await?;
        let with = use_global(&a, "y").await?;
        let slow = with.iter().find(|(_, took)| *took > AT_ONCE);
        ensure!(slow.is_none(), "{seen:?}: {with:?}; without us {without:?}");
        println!("OTP {otp}, {seen:?}: with us {with:?}, without {without:?}");

        // A node that comes while we are there joins the mesh as well.
        let c = ErlNode::start(otp, "c", &epmd).await?;
        let start = Instant::now();
        assert_eq!(c.eval("net_adm:ping('a@127.0.0.1')").await?, "pong");
        wait_eval(&c, "lists:member('b@127.0.0.1', nodes())", "true", SOON).await?;
        c.eval("global:sync()").await?;
        ensure!(start.elapsed() < Duration::from_secs(5), "{seen:?}: {:?}", start.elapsed());
        rust.stop().await;
        c.finish().await?;
        wait_eval(&a, "nodes(connected)", "['b@127.0.0.1']", SOON).await?;
    }
    b.finish().await?;
    a.finish().await
}

/// `prevent_overlapping_partitions` is on, as by default.
async fn our_death_disconnects_nobody_else(otp: Otp) -> Result<()> {
    let (epmd, [a, b]) = mesh(otp).await?;
    a.eval("net_kernel:monitor_nodes(true, #{node_type => all}), ok").await?;
    a.eval("Watch = probe:collector(), ok").await?;
    for _ in 0..3 {
        let rust = rust_node("r", &epmd, Seen::Visible).await?;
        rust.connect("a@127.0.0.1").await?;
        rust.connect("b@127.0.0.1").await?;
        wait_eval(&b, "lists:sort(nodes())", "['a@127.0.0.1','r@127.0.0.1']", SOON).await?;
        // Dropped, not stopped: nobody says goodbye.
        drop(rust);
        wait_eval(&a, "nodes()", "['b@127.0.0.1']", SOON).await?;
        wait_eval(&b, "nodes()", "['a@127.0.0.1']", SOON).await?;
    }
    // One loses us while the other doesn't.
    let rust = rust_node("r", &epmd, Seen::Visible).await?;
    rust.connect("a@127.0.0.1").await?;
    rust.connect("b@127.0.0.1").await?;
    a.eval("erlang:disconnect_node('r@127.0.0.1')").await?;
    a.eval("global:sync()").await?;
    assert_eq!(b.eval("lists:member('a@127.0.0.1', nodes())").await?, "true");
    b.finish().await?;
    a.finish().await
}
