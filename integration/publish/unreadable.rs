//! What can't be read harms nobody: its sender's data goes, is asked for again, and no oftener than
//! every 30 s.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use data_publisher::atom;
use data_publisher::kv::Kv;

use super::{beam_node, rust_node};
use crate::otp::on_each_release;
use crate::support::{Epmd, Otp, SOON, wait_until};

on_each_release! {
    a_peer_that_says_what_cannot_be_read_is_asked_again_after_30_s
}

/// Between two questions to a peer whose data can't be read.
const RETRY: Duration = Duration::from_secs(30);

async fn a_peer_that_says_what_cannot_be_read_is_asked_again_after_30_s(otp: Otp) -> Result<()> {
    let epmd = Epmd::start_of(otp).await?;
    let a = beam_node(otp, "a", &epmd).await?;
    a.eval("{ok, P} = dp_kv:start(settings), ok = dp_kv:put(settings, k, 1)").await?;
    let rust = rust_node("r", &epmd, false).await?;
    let kv = Kv::start(&rust, atom!("settings"))?;
    kv.put(atom!("own"), 1).await?;
    rust.connect("a@127.0.0.1").await?;
    let (owner, key) = ("a@127.0.0.1".parse()?, || atom!("k"));
    let is_there = async |there: bool, deadline| {
        wait_until(&format!("its key is there: {there}"), deadline, async || {
            let seen = kv.get_of(&owner, key());
            if seen.is_some() == there { Ok(()) } else { Err(format!("{seen:?}")) }
        })
        .await
    };
    is_there(true, SOON).await?;

    // Half of it could be read, and isn't applied. All of it is asked for and there at once.
    let garbage = "{settings, 'r@127.0.0.1'} ! {update, P, [{put, k, half}, garbage]}, ok";
    let (_, mut changes) = kv.subscribe_key(key()).await?;
    a.eval(garbage).await?;
    let first = Instant::now();
    for expected in ["Delete", "Put"] {
        let change = tokio::time::timeout(SOON, changes.next()).await?;
        let change = format!("{change:?}");
        ensure!(change.contains(expected) && !change.contains("half"), "{change}");
    }

    // Again and again: now it has to wait, and so does every other question.
    for _ in 0..20 {
        a.eval(garbage).await?;
    }
    is_there(false, SOON).await?;
    ensure!(!kv.get(atom!("own")).is_empty(), "our own is untouched");
    // It hears of ours all the same.
    kv.put(atom!("own"), 2).await?;
    crate::support::wait_eval(&a, "dp_kv:get(settings, own, 'r@127.0.0.1', none)", "2", SOON)
        .await?;
    // What it says meanwhile isn't lost.
    a.eval("ok = dp_kv:put(settings, k, 2)").await?;
    is_there(true, RETRY + SOON).await?;
    let took = first.elapsed();
    ensure!(took + Duration::from_secs(1) > RETRY, "asked again after {took:?}");
    assert_eq!(kv.get_of(&owner, key()), Some(2.into()));
    a.finish().await
}
