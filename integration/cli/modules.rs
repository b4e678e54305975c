//! `join --module kv` and `--module raw`, the other publishers at the keyboard.

use anyhow::Result;
use serde_json::json;

use super::Cli;
use crate::publish::versions::beam_with_names;
use crate::support::{Epmd, ErlNode, Otp, SOON, cookie, free_port, wait_eval};

fn join<'a>(name: &'a str, peer: Option<&'a str>, module: &'a str, scope: &'a str) -> Vec<&'a str> {
    let mut all = vec!["join"];
    all.extend(peer);
    all.extend([
        "--name",
        name,
        "--module",
        module,
        "--scope",
        scope,
        "--json",
        "--cookie",
        cookie(),
    ]);
    all
}

#[tokio::test]
async fn keys_put_at_one_end_are_seen_at_the_other() -> Result<()> {
    let port = free_port()?;
    let mut a = Cli::start(port, &join("a@127.0.0.1", None, "kv", "settings"))?;
    a.event("it's up", |event| event["event"] == "up").await?;
    assert_eq!(a.ask("put {limit,1} \"x\"").await?, true);
    let mut b = Cli::start(port, &join("b@127.0.0.1", Some("a@127.0.0.1"), "kv", "settings"))?;
    let put = json!({"event": "put", "node": "a@127.0.0.1", "key": "{limit,1}", "value": "\"x\""});
    b.event("a's key", |event| *event == put).await?;
    assert_eq!(b.ask("put {limit,1} 2").await?, true);
    assert_eq!(b.ask("put {limit,1} 2").await?, false);
    let put = json!({"event": "put", "node": "b@127.0.0.1", "key": "{limit,1}", "value": "2"});
    a.event("b's value", |event| *event == put).await?;
    let (of_a, of_b) = (
        json!({"node": "a@127.0.0.1", "value": "\"x\""}),
        json!({"node": "b@127.0.0.1", "value": "2"}),
    );
    assert_eq!(a.ask("get {limit,1}").await?, json!([of_a, of_b]));
    assert_eq!(b.ask("all").await?.as_array().map(Vec::len), Some(2));

    assert_eq!(b.ask("delete {limit,1}").await?, true);
    let delete = json!({"event": "delete", "node": "b@127.0.0.1", "key": "{limit,1}"});
    a.event("b's is gone", |event| *event == delete).await?;
    for bad in ["put", "put a", "get", "all x", "join g", "put a b c"] {
        assert!(a.reply(bad).await?["error"].is_string(), "{bad}");
    }
    a.write("quit\n").await?;
    let delete = json!({"event": "delete", "node": "a@127.0.0.1", "key": "{limit,1}"});
    b.event("a's is gone with it", |event| *event == delete).await?;
    assert_eq!(a.end().await?.code, Some(0));
    b.write("quit\n").await?;
    assert_eq!(b.end().await?.code, Some(0));
    Ok(())
}

#[tokio::test]
async fn kv_and_raw_want_a_scope() -> Result<()> {
    for module in ["kv", "raw"] {
        let told = ["join", "--name", "a@127.0.0.1", "--cookie", "c", "--module", module];
        Cli::run(free_port()?, &told).await?.assert_failed(&["--scope"]);
    }
    Ok(())
}

/// A watcher of a `pg` scope of any release sees its words, and harms nobody.
async fn raw_watches_pg(otp: Otp) -> Result<()> {
    let epmd = Epmd::start().await?;
    let erl = ErlNode::start(otp, "a", &epmd).await?;
    erl.eval("{ok, _} = pg:start(s), ok = pg:join(s, g, self()), ok").await?;
    erl.eval("P = spawn(fun() -> receive stop -> ok end end), ok = pg:join(s, early, P)").await?;
    let told = join("w@127.0.0.1", Some("a@127.0.0.1"), "raw", "s");
    let mut watch = Cli::start(epmd.port(), &told)?;
    let data = watch.event("its data", |event| event["event"] == "local_data").await?;
    assert!(data["data"].to_string().contains("early"), "{data}");
    erl.eval("ok = pg:join(s, late, P)").await?;
    let update = watch
        .event("its update", |event| {
            event["event"] == "update" && event["update"].to_string().contains("late")
        })
        .await?;
    assert_eq!(update["node"], "a@127.0.0.1");
    let known = watch.ask("data").await?;
    assert_eq!(known[0]["node"], "a@127.0.0.1");
    // It's known to the others, and has no members.
    let groups = "lists:sort(pg:which_groups(s)), [pg:get_local_members(s, late)] =:= [[P]]";
    assert_eq!(erl.eval(groups).await?, "true");
    erl.eval("P ! stop, ok").await?;
    watch
        .event("its leave", |event| {
            event["event"] == "update" && event["update"] != update["update"]
        })
        .await?;
    watch.write("quit\n").await?;
    assert_eq!(watch.end().await?.code, Some(0));
    erl.finish().await
}

#[tokio::test]
async fn raw_watches_pg_otp_25() -> Result<()> {
    raw_watches_pg(Otp::R25).await
}

#[tokio::test]
async fn raw_watches_pg_otp_27() -> Result<()> {
    raw_watches_pg(Otp::R27).await
}

#[tokio::test]
async fn raw_watches_pg_otp_29() -> Result<()> {
    raw_watches_pg(Otp::R29).await
}

/// What kv nodes say, word for word.
#[tokio::test]
async fn raw_watches_kv() -> Result<()> {
    let port = free_port()?;
    let mut watch = Cli::start(port, &join("w@127.0.0.1", None, "raw", "settings"))?;
    watch.event("it's up", |event| event["event"] == "up").await?;
    let mut kv = Cli::start(port, &join("a@127.0.0.1", Some("w@127.0.0.1"), "kv", "settings"))?;
    kv.ask("put k 1").await?;
    let is_of_a = |event: &serde_json::Value| event["node"] == "a@127.0.0.1";
    watch.event("a peer", |event| event["event"] == "peer_up" && is_of_a(event)).await?;
    kv.ask("put l 2").await?;
    let update = watch
        .event("an update", |event| event["event"] == "update" && event["update"] == "[{put,l,2}]")
        .await?;
    assert!(is_of_a(&update));
    let all = watch.event("the data", |event| event["event"] == "local_data").await?;
    assert!(["#{}", "#{k => 1}"].iter().any(|data| all["data"] == *data), "{all}");
    assert_eq!(watch.ask("data").await?[0]["node"], "a@127.0.0.1");
    // Whoever says nothing isn't listed.
    assert_eq!(kv.ask("peers").await?, json!([]));
    Ok(())
}

/// A publisher of the user's own, of which the watcher knows nothing: not its formats, nor that its
/// version is a tuple. Nobody has to translate for it, and nobody is told anything.
async fn raw_watches_any_publisher(otp: Otp) -> Result<()> {
    let epmd = Epmd::start_of(otp).await?;
    let a = beam_with_names(otp, "a", &epmd).await?;
    a.eval("{ok, _} = dp_names:start(names, #{format => 2, version => {2, 0}}), ok").await?;
    a.eval("dp_names:add(names, early, 7)").await?;
    let told = join("w@127.0.0.1", Some("a@127.0.0.1"), "raw", "names");
    let mut watch = Cli::start(epmd.port(), &told)?;
    let peer = watch.event("a peer", |event| event["event"] == "peer_up").await?;
    assert_eq!((&peer["node"], &peer["version"]), (&json!("a@127.0.0.1"), &json!("{2,0}")));
    let data = json!({"event": "local_data", "node": "a@127.0.0.1", "data": "#{early => 7}"});
    watch.event("its data as it is", |event| *event == data).await?;
    a.eval("dp_names:add(names, late, 8)").await?;
    let update = json!({"event": "update", "node": "a@127.0.0.1", "update": "[{set,late,8}]"});
    watch.event("its update as it is", |event| *event == update).await?;
    assert_eq!(watch.ask("peers").await?[0]["version"], "{2,0}");
    assert_eq!(watch.ask("data").await?[0]["updates"], 1);
    assert_eq!(a.eval("maps:keys(dp_names:all(names))").await?, "['a@127.0.0.1']");
    watch.write("quit\n").await?;
    assert_eq!(watch.end().await?.code, Some(0));
    wait_eval(&a, "dp_names:untranslated()", "[]", SOON).await?;
    a.finish().await
}

#[tokio::test]
async fn raw_watches_any_publisher_otp_25() -> Result<()> {
    raw_watches_any_publisher(Otp::R25).await
}

#[tokio::test]
async fn raw_watches_any_publisher_otp_27() -> Result<()> {
    raw_watches_any_publisher(Otp::R27).await
}

#[tokio::test]
async fn raw_watches_any_publisher_otp_29() -> Result<()> {
    raw_watches_any_publisher(Otp::R29).await
}
