//! `call`, `cast` and `rpc`: replies on stdout, what went wrong on stderr.

use anyhow::Result;

use super::{Cli, Ended};
use crate::support::{Epmd, ErlNode, Otp, SOON, cookie, free_port, wait_eval};

async fn questions(otp: Otp) -> Result<()> {
    let epmd = Epmd::start_of(otp).await?;
    let erl = ErlNode::start(otp, "a", &epmd).await?;
    erl.eval(
        "register(counter, spawn(fun F() -> receive \
         {'$gen_cast', {add, N}} -> put(n, N), F(); \
         {'$gen_call', From, get} -> gen_server:reply(From, {count, get(n)}), F(); \
         {'$gen_call', _, mute} -> F(); \
         {'$gen_call', _, Why} -> exit(Why) end end)), ok",
    )
    .await?;
    let run = async |arguments: &[&str]| -> Result<Ended> {
        let (command, rest) = arguments.split_first().expect("a command");
        let all = [&[*command, "a@127.0.0.1"][..], rest, &["--cookie", cookie()]].concat();
        Cli::run(epmd.port(), &all).await
    };
    let said = |ended: &Ended, line: &str| {
        assert_eq!((ended.code, &ended.err[..]), (Some(0), &[][..]), "{ended:?}");
        assert_eq!(ended.out, [line], "{ended:?}");
    };

    let cast = run(&["cast", "counter", "{add, 42}"]).await?;
    assert_eq!((cast.code, cast.out.len(), cast.err.len()), (Some(0), 0, 0), "{cast:?}");
    // It goes another way than what follows.
    wait_eval(&erl, "process_info(whereis(counter), dictionary)", "{dictionary,[{n,42}]}", SOON)
        .await?;
    said(&run(&["call", "counter", "get"]).await?, "{count,42}");
    said(
        &run(&["call", "counter", "get", "--hidden", "--name", "x@127.0.0.1"]).await?,
        "{count,42}",
    );
    said(&run(&["rpc", "lists", "reverse", "[[1, two, \"3\"]]"]).await?, "[\"3\",two,1]");
    said(&run(&["rpc", "erlang", "node"]).await?, "'a@127.0.0.1'");
    said(&run(&["rpc", "'erlang'", "'+'", "[1, 2]"]).await?, "3");

    for (arguments, code, words) in [
        (&["call", "nobody", "get"][..], 1, &["no process", "registered()"][..]),
        (&["call", "counter", "mute", "--timeout", "0.1"], 2, &["no reply", "--timeout"]),
        (&["call", "counter", "{no, way}"], 1, &["{no,way}", "log"]),
        (&["rpc", "nothing", "here", "[1]"], 1, &["exception error: undef", "ARGS"]),
        (&["rpc", "erlang", "exit", "[because]"], 1, &["exception exit: because"]),
        (&["rpc", "timer", "sleep", "[9000]", "--timeout", "0.1"], 2, &["no result", "--timeout"]),
        (&["rpc", "erlang", "abs", "1"], 2, &["no list", "[1]"]),
        (&["call", "counter", "{no"], 2, &["TERM"]),
    ] {
        let ended = run(arguments).await?;
        assert_eq!((ended.code, ended.out.len()), (Some(code), 0), "{arguments:?}: {ended:?}");
        ended.assert_complaint(words);
    }
    erl.finish().await
}

#[tokio::test]
async fn questions_otp_25() -> Result<()> {
    questions(Otp::R25).await
}

#[tokio::test]
async fn questions_otp_27() -> Result<()> {
    questions(Otp::R27).await
}

#[tokio::test]
async fn questions_otp_29() -> Result<()> {
    questions(Otp::R29).await
}

#[tokio::test]
async fn questions_to_nobody_fail_with_the_cure() -> Result<()> {
    let port = free_port()?;
    for command in [
        &["call", "b@127.0.0.1", "name", "x"][..],
        &["cast", "b@127.0.0.1", "name", "x"],
        &["rpc", "b@127.0.0.1", "m", "f"],
    ] {
        let ended = Cli::run(port, &[command, &["--cookie", "x"]].concat()).await?;
        ended.assert_failed(&["no EPMD at 127.0.0.1"]);
    }
    Ok(())
}
