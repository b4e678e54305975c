//! Greetings to nobody, and a name that somebody else has taken meanwhile.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use data_publisher::atom;
use data_publisher::epmd::{Epmd as EpmdClient, NodeKind};
use data_publisher::node::NodeEvent;
use data_publisher::pg::Pg;

use super::{BOTH, config, erl, on_each_release, rust_node, wait_members, wait_nodes};
use crate::support::{Epmd, Otp, SOON, wait_eval, wait_until};

on_each_release! {
    a_scope_that_starts_late_greets_all_who_are_connected
    a_name_taken_while_epmd_was_away_is_asked_for_again
}

/// Race 15: the BEAM greeted when we came, and nobody was there to hear it.
async fn a_scope_that_starts_late_greets_all_who_are_connected(otp: Otp) -> Result<()> {
    for seen in BOTH {
        let (epmd, a) = erl(otp).await?;
        a.eval("probe:start_scope(pg), probe:members(pg, g, 2), ok").await?;
        let rust = rust_node("r", &epmd, seen).await?;
        rust.connect("a@127.0.0.1").await?;
        // Whatever the BEAM's scope said to us on `nodeup` has come and gone.
        let ping = "sys:get_state(pg), net_adm:ping('r@127.0.0.1')";
        ensure!(a.eval(ping).await? == "pong");
        let pg = Pg::start(&rust, atom!("pg"))?;
        let worker = rust.spawn();
        pg.join(atom!("g"), worker.pid()).await?;
        wait_members(&pg, &atom!("g").into(), 3, SOON).await?;
        wait_eval(&a, "length(pg:get_members(pg, g))", "3", SOON).await?;
        rust.stop().await;
        a.finish().await?;
    }
    Ok(())
}

/// Race 34: connections stay, and the name is ours again within 3 s of being free.
async fn a_name_taken_while_epmd_was_away_is_asked_for_again(otp: Otp) -> Result<()> {
    let mut epmd = Epmd::start_of(otp).await?;
    let a = crate::support::ErlNode::start(otp, "a", &epmd).await?;
    let rust = data_publisher::start(config("r", &epmd)?).await?;
    rust.connect("a@127.0.0.1").await?;
    let mut events = rust.events();
    let up = tokio::time::timeout(SOON, events.next()).await?.context("ended")?;
    ensure!(matches!(up, NodeEvent::Up { .. }), "{up:?}");

    let client = EpmdClient::new(epmd.port());
    let squatter = wait_until("a stranger is faster than we are", SOON, async || {
        epmd.kill();
        let fast = wait_until("registered", Duration::from_millis(300), async || {
            client.register("r", 4711, NodeKind::Visible).await.map_err(|error| error.to_string())
        });
        let (restarted, registered) = tokio::join!(epmd.restart(), fast);
        restarted.and(registered).map_err(|error| format!("{error:#}"))
    })
    .await?;
    let port = async || {
        let found = client.lookup("127.0.0.1", "r").await.map_err(|error| error.to_string())?;
        found.map(|node| node.port).ok_or_else(|| "nobody".to_owned())
    };
    ensure!(port().await == Ok(4711), "{:?}", port().await);
    wait_nodes(&rust, &["a@127.0.0.1"]).await?;
    ensure!(a.eval("net_adm:ping('r@127.0.0.1')").await? == "pong");

    drop(squatter);
    wait_until("our name is ours again", Duration::from_secs(3), async || match port().await? {
        found if found == rust.port() => Ok(()),
        other => Err(format!("port {other}")),
    })
    .await?;
    let event = tokio::time::timeout(Duration::ZERO, events.next()).await;
    ensure!(event.is_err(), "{:?}", event.context("none")?);
    a.finish().await
}
