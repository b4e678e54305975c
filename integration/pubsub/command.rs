//! The command `pubsub`, against an Elixir cluster.

use anyhow::Result;
use rustix::process::Signal;

use super::{NAME, elixir, members, wait_told};
use crate::cli::Cli;
use crate::otp::on_each_release;
use crate::support::{Epmd, ErlNode, Otp, SOON, cookie, wait_eval, wait_until};

on_each_release! {
    what_is_broadcast_is_printed_as_terms_line_by_line
    a_message_is_published_to_all_nodes_once
    a_node_without_the_pubsub_is_an_error
}

fn access() -> [&'static str; 2] {
    ["--cookie", cookie()]
}

async fn what_is_broadcast_is_printed_as_terms_line_by_line(otp: Otp) -> Result<()> {
    let epmd = Epmd::start_of(otp).await?;
    let a = elixir(otp, "a", &epmd, 2).await?;
    let arguments =
        [&["pubsub", a.name(), NAME, "t", "--name", "r@127.0.0.1"][..], &access()].concat();
    let cli = Cli::start(epmd.port(), &arguments)?;
    for number in [1, 2] {
        wait_eval(&a, &format!("length({})", members(number)), "2", SOON).await?;
    }
    a.elixir(&format!(
        "Phoenix.PubSub.broadcast({NAME}, \"u\", :other); \
         Phoenix.PubSub.broadcast({NAME}, \"t\", {{:user_left, %{{name: \"ann\\nb\"}}}}); \
         Phoenix.Channel.Server.broadcast({NAME}, \"t\", \"e\", %{{n: 1}})"
    ))
    .await?;
    let expected = [
        "{user_left,#{name => <<\"ann\\nb\">>}}",
        "#{event => <<\"e\">>,topic => <<\"t\">>,payload => #{n => 1},\
         '__struct__' => 'Elixir.Phoenix.Socket.Broadcast'}",
    ]
    .map(str::parse::<data_publisher::term::Term>);
    let expected = expected.into_iter().collect::<Result<Vec<_>, _>>()?;
    wait_until("both lines are there", SOON, async || {
        let lines = cli.out.all();
        let terms: Result<Vec<data_publisher::term::Term>, _> =
            lines.iter().map(|line| line.parse()).collect();
        if terms.is_ok_and(|terms| terms == expected) { Ok(()) } else { Err(lines.join("\n")) }
    })
    .await?;
    cli.signal(Signal::TERM)?;
    let ended = cli.end().await?;
    assert_eq!((ended.code, &ended.err[..]), (Some(0), &[][..]), "{ended:?}");
    a.finish().await
}

async fn a_message_is_published_to_all_nodes_once(otp: Otp) -> Result<()> {
    let epmd = Epmd::start_of(otp).await?;
    let a = elixir(otp, "a", &epmd, 1).await?;
    let b = elixir(otp, "b", &epmd, 1).await?;
    a.eval("net_adm:ping('b@127.0.0.1')").await?;
    for (n, options) in [&[][..], &["--hidden"]].into_iter().enumerate() {
        let message = format!("{{n, {n}, <<\"x\">>}}");
        let publish = ["pubsub", a.name(), NAME, "t", "--publish", &message];
        let ended = Cli::run(epmd.port(), &[&publish[..], &access(), options].concat()).await?;
        assert_eq!((ended.code, &ended.err[..], &ended.out[..]), (Some(0), &[][..], &[][..]));
    }
    for node in [&a, &b] {
        wait_told(node, "{[],[{n,0,<<\"x\">>},{n,1,<<\"x\">>}]}", SOON).await?;
    }
    a.finish().await?;
    b.finish().await
}

async fn a_node_without_the_pubsub_is_an_error(otp: Otp) -> Result<()> {
    let epmd = Epmd::start_of(otp).await?;
    let a = ErlNode::start(otp, "a", &epmd).await?;
    let publish = ["pubsub", a.name(), NAME, "t", "--publish", "x"];
    let ended = Cli::run(epmd.port(), &[&publish[..], &access()].concat()).await?;
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.err.join("").contains("has no pubsub MyApp.PubSub"), "{ended:?}");
    let bad = ["pubsub", a.name(), "no name", "t"];
    let ended = Cli::run(epmd.port(), &[&bad[..], &access()].concat()).await?;
    ended.assert_failed(&["written as in Elixir"]);
    let absent = ["pubsub", "x@127.0.0.1", NAME, "t"];
    Cli::run(epmd.port(), &[&absent[..], &access()].concat()).await?.assert_failed(&["no node x"]);
    a.finish().await
}
