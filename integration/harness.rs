//! Tests of the harness itself: whoever relies on it must be able to trust what it says of a node.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result};

use crate::cli::Cli;
use crate::support::{Epmd, ErlNode, Otp, SOON, cookie, wait_eval, wait_until};

#[tokio::test]
async fn each_release_is_what_it_says() -> Result<()> {
    for otp in Otp::ALL {
        let epmd = Epmd::start_of(otp).await?;
        let node = ErlNode::start(otp, "a", &epmd).await?;

        let release = node.eval("erlang:system_info(otp_release)").await?;
        assert_eq!(release, format!("\"{otp}\""));
        assert_eq!(node.eval("node()").await?, "'a@127.0.0.1'");
        assert_eq!(node.eval("os:getpid()").await?, format!("\"{}\"", process_id(&node)?));
        assert_eq!(node.name(), "a@127.0.0.1");

        node.finish().await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_value_is_text_in_unicode_and_variables_stay() -> Result<()> {
    for otp in Otp::ALL {
        let epmd = Epmd::start().await?;
        let node = ErlNode::start(otp, "a", &epmd).await?;

        assert_eq!(
            node.eval("X = {1, <<\"b\">>, 'c d'}, Y = \"h\u{e9} \u{20ac}\"").await?,
            "\"hé €\""
        );
        assert_eq!(node.eval("{X, Y}").await?, "{{1,<<\"b\">>,'c d'},\"hé €\"}");

        node.finish().await?;
    }
    Ok(())
}

#[tokio::test]
async fn what_goes_wrong_in_an_expression_is_its_error() -> Result<()> {
    for otp in Otp::ALL {
        let epmd = Epmd::start().await?;
        let node = ErlNode::start(otp, "a", &epmd).await?;

        for (expression, said) in [
            ("foo:bar()", "error:undef"),
            ("exit(enough)", "exit:enough"),
            ("exit(self(), kill)", "its process died: killed"),
            ("1 +", "syntax error"),
        ] {
            let error = error_of(node.eval(expression).await)?;
            assert!(error.contains(said), "`{expression}`: {error}");
        }
        assert_eq!(node.eval("ok").await?, "ok");

        node.finish().await?;
    }
    Ok(())
}

#[tokio::test]
async fn an_expression_that_hangs_is_given_up_and_the_next_one_runs() -> Result<()> {
    for otp in Otp::ALL {
        let epmd = Epmd::start().await?;
        let node = ErlNode::start(otp, "a", &epmd).await?;

        let hangs = node.eval_within("gen:start(x), receive never -> ok end", SHORT).await;
        let error = error_of(hangs)?;
        assert!(error.contains("error:undef"), "{error}");
        let error = error_of(node.eval_within("timer:sleep(infinity)", SHORT).await)?;
        assert!(
            error.contains("a@127.0.0.1") && error.contains("`timer:sleep(infinity)`"),
            "{error}"
        );
        assert!(error.contains("no value within 100ms, hangs in"), "{error}");
        assert!(error.contains("timer,sleep,1"), "{error}");
        assert_eq!(node.eval("1 + 1").await?, "2");

        // And while one hangs, another one runs.
        let (hangs, runs) =
            tokio::join!(node.eval_within("receive never -> ok end", SHORT), node.eval("2 + 2"));
        assert!(hangs.is_err());
        assert_eq!(runs?, "4");

        node.finish().await?;
    }
    Ok(())
}

#[tokio::test]
async fn nodes_of_different_releases_meet_in_one_epmd_and_in_no_other() -> Result<()> {
    let epmd = Epmd::start().await?;
    let elsewhere = Epmd::start().await?;
    let stranger = ErlNode::start(Otp::R27, "stranger", &elsewhere).await?;
    let mut nodes = Vec::new();
    for otp in Otp::ALL {
        nodes.push(ErlNode::start(otp, &format!("n{otp}"), &epmd).await?);
    }

    for node in &nodes {
        for other in &nodes {
            assert_eq!(node.eval(&format!("net_adm:ping('{}')", other.name())).await?, "pong");
        }
        assert_eq!(node.eval(&format!("net_adm:ping('{}')", stranger.name())).await?, "pang");
    }

    for node in nodes {
        node.finish().await?;
    }
    stranger.finish().await
}

#[tokio::test]
async fn options_are_those_the_node_runs_with() -> Result<()> {
    for otp in Otp::ALL {
        let epmd = Epmd::start().await?;
        let node = ErlNode::options(otp, "a", epmd.port())
            .cookie("secret")
            .hidden()
            .net_ticktime(8)
            .connect_all_false()
            .prevent_overlapping_partitions()
            .arguments(&["-kernel", "dist_auto_connect", "never"])
            .start()
            .await?;
        let visible =
            ErlNode::options(otp, "b", epmd.port()).allow_overlapping_partitions().start().await?;

        assert_eq!(node.eval("erlang:get_cookie()").await?, "secret");
        assert_eq!(node.eval("net_kernel:get_net_ticktime()").await?, "8");
        assert_eq!(node.eval("init:get_argument(connect_all)").await?, "{ok,[[\"false\"]]}");
        let get_env = |name| format!("application:get_env(kernel, {name})");
        assert_eq!(node.eval(&get_env("prevent_overlapping_partitions")).await?, "{ok,true}");
        assert_eq!(visible.eval(&get_env("prevent_overlapping_partitions")).await?, "{ok,false}");
        assert_eq!(node.eval(&get_env("dist_auto_connect")).await?, "{ok,never}");
        let connect = format!(
            "erlang:set_cookie('{0}', {1}), net_kernel:connect_node('{0}')",
            "b@127.0.0.1",
            cookie()
        );
        assert_eq!(node.eval(&connect).await?, "true");
        assert_eq!(visible.eval("{nodes(), nodes(hidden)}").await?, "{[],['a@127.0.0.1']}");

        node.finish().await?;
        visible.finish().await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_crash_is_seen_and_fails_unless_expected() -> Result<()> {
    for otp in Otp::ALL {
        let epmd = Epmd::start().await?;
        let node = ErlNode::start(otp, "a", &epmd).await?;
        assert_eq!(node.unexpected_crashes().await?, Vec::<String>::new());

        node.eval(BANG).await?;
        node.eval("monitor(process, probe:start_scope(s)), s ! boom, receive {'DOWN', _, _, _, _} -> ok end")
            .await?;

        // The emulator's own report has been seen to come late on a busy machine.
        wait_until("all reports", SOON, async || {
            let crashes = node.unexpected_crashes().await.map_err(|error| error.to_string())?;
            let crashes = crashes.concat();
            let all = ["** Generic server s terminating", "CRASH REPORT", "Error in process"];
            if all.iter().all(|one| crashes.contains(one)) { Ok(()) } else { Err(crashes) }
        })
        .await?;

        node.expect_crash("boom");
        node.expect_crash("bang");
        assert_eq!(node.unexpected_crashes().await?, Vec::<String>::new());
        node.finish().await?;
    }
    Ok(())
}

#[tokio::test]
async fn the_end_of_a_node_is_an_error_after_an_unexpected_crash() -> Result<()> {
    for otp in Otp::ALL {
        let epmd = Epmd::start().await?;

        // No waiting for the report, which may still be on its way when the process is gone.
        let node = ErlNode::start(otp, "a", &epmd).await?;
        node.eval(BANG).await?;
        let error = error_of(node.finish().await)?;
        assert!(error.contains("bang"), "{error}");

        let node = ErlNode::start(otp, "b", &epmd).await?;
        node.eval(BANG).await?;
        let dropped = tokio::spawn(async move { drop(node) }).await;
        let panic = dropped.err().context("dropping the node didn't fail")?.into_panic();
        let said = panic.downcast_ref::<String>().context("a panic without text")?;
        assert!(said.contains("bang"), "{said}");

        let mut node = ErlNode::start(otp, "c", &epmd).await?;
        node.eval(BANG).await?;
        node.kill().await?;
        let error = error_of(node.finish().await)?;
        assert!(error.contains("bang"), "{error}");

        let node = ErlNode::start(otp, "d", &epmd).await?;
        // The node may end before it can answer.
        let _ = node.eval("exit(whereis(application_controller), kill)").await;
        wait_until("the node ends", SOON, async || {
            node.eval("ok").await.map_or_else(|_| Ok(()), Err)
        })
        .await?;
        let error = error_of(node.finish().await)?;
        assert!(error.contains("Kernel pid terminated"), "{error}");
        assert!(error.contains("the node ended by itself: "), "{error}");
    }
    Ok(())
}

#[tokio::test]
async fn a_node_that_ends_without_a_word_has_crashed() -> Result<()> {
    for otp in Otp::ALL {
        let epmd = Epmd::start().await?;
        let node = ErlNode::start(otp, "a", &epmd).await?;

        assert!(node.eval("halt(0)").await.is_err());

        let error = error_of(node.finish().await)?;
        assert!(error.contains("the node ended by itself: "), "{error}");
    }
    Ok(())
}

#[tokio::test]
async fn a_crash_that_was_expected_has_to_come() -> Result<()> {
    let epmd = Epmd::start().await?;
    let node = ErlNode::start(Otp::R29, "a", &epmd).await?;

    node.expect_crash("bang");

    let error = error_of(node.finish().await)?;
    assert!(error.contains("no crash with `bang`"), "{error}");
    Ok(())
}

#[tokio::test]
async fn a_killed_node_is_gone_and_starts_again() -> Result<()> {
    for otp in Otp::ALL {
        let epmd = Epmd::start().await?;
        let mut node = ErlNode::start(otp, "a", &epmd).await?;
        let witness = ErlNode::start(otp, "w", &epmd).await?;
        let ping = "net_adm:ping('a@127.0.0.1')";
        assert_eq!(witness.eval(ping).await?, "pong");
        node.eval("X = 1, io:format(\"first life~n\")").await?;
        let first = process_id(&node)?;

        node.kill().await?;
        assert!(!exists(first));
        assert!(error_of(node.eval("ok").await)?.contains("doesn't run"));
        wait_eval(&witness, "nodes()", "[]", SOON).await?;
        assert_eq!(witness.eval(ping).await?, "pang");

        node.restart().await?;
        assert_ne!(process_id(&node)?, first);
        assert_eq!(node.eval("X = 2").await?, "2");
        assert_eq!(witness.eval(ping).await?, "pong");
        node.restart().await?;
        assert_eq!(node.eval("io:format(\"third life~n\")").await?, "ok");
        wait_until("all lives in the output", SOON, async || {
            let output = node.output();
            let both = output.contains("first life\n") && output.contains("third life\n");
            both.then_some(()).ok_or(output)
        })
        .await?;

        node.finish().await?;
        witness.finish().await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_suspended_node_is_silent_until_resumed() -> Result<()> {
    for otp in Otp::ALL {
        let epmd = Epmd::start().await?;
        let mut node = ErlNode::start(otp, "a", &epmd).await?;

        node.stop_signal()?;
        let error = error_of(node.eval_within("ok", SHORT).await)?;
        assert!(error.contains("no value within 100ms, it's suspended"), "{error}");
        node.cont_signal()?;
        assert_eq!(node.eval("ok").await?, "ok");

        // It ends also while suspended.
        node.stop_signal()?;
        node.finish().await?;
    }
    Ok(())
}

#[tokio::test]
async fn after_drop_no_process_remains() -> Result<()> {
    for otp in Otp::ALL {
        let epmd = Epmd::start_of(otp).await?;
        let node = ErlNode::start(otp, "a", &epmd).await?;
        let mut pids = vec![epmd.process_id().context("epmd runs")?];
        pids.extend(with_descendants(process_id(&node)?));
        assert!(pids.len() > 2, "the VM has processes of its own: {pids:?}");

        drop(node);
        drop(epmd);

        assert!(!exists(pids[0]) && !exists(pids[1]));
        // Those of the VM end with it.
        wait_until_gone(&pids).await?;
    }
    Ok(())
}

/// The harness is in another process, which is killed: a copy of this test binary that runs the next test.
#[tokio::test]
async fn when_the_test_process_is_killed_no_process_remains() -> Result<()> {
    let list = std::env::temp_dir().join(format!("data-publisher-pids-{}", std::process::id()));
    let mut tests = Command::new(std::env::current_exe()?)
        .args(["--exact", "harness::nodes_for_a_process_to_be_killed"])
        .env(PIDS_FILE, &list)
        .stdout(Stdio::null())
        .spawn()?;
    let started = wait_until("nodes run", Duration::from_secs(120), async || {
        fs::read_to_string(&list).map_err(|error| error.to_string())
    })
    .await;
    tests.kill()?;
    tests.wait()?;
    let started = started?;
    fs::remove_file(&list)?;

    let pids: Vec<u32> = started.split_whitespace().filter_map(|pid| pid.parse().ok()).collect();
    assert!(pids.len() > 2 * Otp::ALL.len(), "{pids:?}");
    wait_until_gone(&pids).await
}

/// Runs for ever when the test above wants it, for it to be killed; else does nothing.
#[tokio::test]
async fn nodes_for_a_process_to_be_killed() -> Result<()> {
    let Some(list) = std::env::var_os(PIDS_FILE) else { return Ok(()) };
    let epmd = Epmd::start().await?;
    let mut nodes = Vec::new();
    let mut pids = vec![epmd.process_id().context("epmd runs")?];
    for otp in Otp::ALL {
        let node = ErlNode::start(otp, &format!("n{otp}"), &epmd).await?;
        pids.extend(with_descendants(process_id(&node)?));
        nodes.push(node);
    }
    nodes[0].stop_signal()?;
    let text = pids.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    let unfinished = Path::new(&list).with_extension("new");
    fs::write(&unfinished, text)?;
    fs::rename(unfinished, list)?;
    std::future::pending().await
}

const PIDS_FILE: &str = "HARNESS_PIDS_FILE";

/// Said in a copy of this test binary that runs the next test, by each who could say it.
#[tokio::test]
async fn a_run_in_which_the_cookie_is_said_ends_at_once() -> Result<()> {
    for (who, said) in [("log", "the log"), ("node", "a@127.0.0.1"), ("program", "a program")] {
        let run = tokio::process::Command::new(std::env::current_exe()?)
            .args(["--exact", "harness::somebody_says_the_cookie"])
            .env(WHO_SAYS_IT, who)
            .env("DATA_PUBLISHER_TEST_COOKIE", "s3cr3t")
            .kill_on_drop(true)
            .output();
        let ended = tokio::time::timeout(Duration::from_secs(60), run).await??;
        let told = String::from_utf8([ended.stdout, ended.stderr].concat())?;
        assert_eq!(ended.status.code(), Some(1), "{told}");
        assert!(told.contains(&format!("the cookie was said by {said}")), "{told}");
        assert!(!told.contains("s3cr3t"), "{told}");
    }
    Ok(())
}

/// When the test above wants it; else nobody does.
#[tokio::test]
async fn somebody_says_the_cookie() -> Result<()> {
    match std::env::var(WHO_SAYS_IT).as_deref() {
        Ok("log") => {
            cookie();
            log::debug!("it's {}", cookie());
        }
        Ok("node") => {
            let epmd = Epmd::start().await?;
            let node = ErlNode::start(Otp::R29, "a", &epmd).await?;
            node.eval("io:format(\"~s~n\", [erlang:get_cookie()])").await?;
            std::future::pending::<()>().await;
        }
        Ok("program") => {
            let mut echo = tokio::process::Command::new("echo");
            echo.arg(cookie());
            let _echo = Cli::of(echo)?;
            std::future::pending::<()>().await;
        }
        _ => {}
    }
    Ok(())
}

const WHO_SAYS_IT: &str = "HARNESS_WHO_SAYS_IT";

#[tokio::test]
async fn a_node_that_cannot_start_says_why() -> Result<()> {
    for otp in Otp::ALL {
        let mut epmd = Epmd::start().await?;
        epmd.kill();

        let started = ErlNode::start(otp, "a", &epmd).await;

        let error = error_of(started.map(|node| node.name().to_owned()))?;
        assert!(error.contains("didn't start") && error.contains("it ended"), "{error}");
        assert!(
            error.contains("register/listen error") || error.contains("econnrefused"),
            "{error}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn an_epmd_that_restarts_is_found_again() -> Result<()> {
    let mut epmd = Epmd::start().await?;
    let port = epmd.port();
    let node = ErlNode::start(Otp::R29, "a", &epmd).await?;

    epmd.kill();
    assert!(epmd.process_id().is_none());
    assert_eq!(node.eval("net_adm:names()").await?, "{error,address}");
    epmd.restart().await?;

    assert_eq!(epmd.port(), port);
    wait_eval(&node, "{ok, Ns} = net_adm:names(), [N || {N, _} <- Ns]", "[\"a\"]", SOON).await?;
    node.finish().await
}

#[tokio::test]
async fn what_the_probe_notes_of_a_scope_is_what_happens_there() -> Result<()> {
    for otp in Otp::ALL {
        let epmd = Epmd::start().await?;
        let a = ErlNode::start(otp, "a", &epmd).await?;
        let b = ErlNode::start(otp, "b", &epmd).await?;
        for node in [&a, &b] {
            node.eval("probe:start_scope(s)").await?;
        }
        a.eval("P = probe:member(s, g), pg:join(s, g, P), pg:join(s, h, P), pg:leave(s, h, P)")
            .await?;
        assert_eq!(b.eval("net_adm:ping('a@127.0.0.1')").await?, "pong");
        wait_eval(&b, "length(pg:get_members(s, g))", "2", SOON).await?;

        // The same on both nodes, and the same as what a subscriber is told.
        assert_eq!(a.eval("probe:view(s) =:= [{g, [P, P]}]").await?, "true");
        let plain = a.eval("probe:plain(probe:view(s))").await?;
        assert_eq!(b.eval("probe:plain(probe:view(s))").await?, plain);
        b.eval("S = probe:subscriber(s), G = probe:subscriber(s, h)").await?;
        assert_eq!(b.eval("probe:plain(probe:initial(S))").await?, plain);
        a.eval("Ms = probe:members(s, h, 2), probe:stop(hd(Ms)), hd(pg:get_members(s, h)) ! hello")
            .await?;
        wait_eval(&b, "[E || {E, h, _} <- probe:events(S)]", "[join,leave]", SOON).await?;
        assert_eq!(b.eval("probe:followed(S) =:= probe:view(s)").await?, "true");
        assert_eq!(b.eval("length(probe:events(G))").await?, "2");
        assert_eq!(a.eval("probe:messages(lists:last(Ms))").await?, "[hello]");

        // A scope that dies takes its members along, elsewhere.
        a.eval("probe:kill_scope(s)").await?;
        wait_eval(&b, "probe:view(s)", "[]", SOON).await?;
        a.eval("probe:start_scope(s), Q = probe:member(s, g)").await?;
        wait_eval(&b, "[{G2, length(Ps)} || {G2, Ps} <- probe:view(s)]", "[{g,1}]", SOON).await?;

        a.finish().await?;
        b.finish().await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_module_is_compiled_by_the_node_s_own_release() -> Result<()> {
    let epmd = Epmd::start().await?;
    for otp in Otp::ALL {
        let node = ErlNode::start(otp, &format!("n{otp}"), &epmd).await?;

        node.load("erlang/test/probe.erl").await?;

        let own = "proplists:get_value(version, probe:module_info(compile))";
        let release = "element(2, application:get_key(compiler, vsn))";
        node.eval("application:load(compiler)").await?;
        assert_eq!(node.eval(own).await?, node.eval(release).await?);
        assert_eq!(node.otp(), otp);
        node.finish().await?;
    }
    Ok(())
}

#[tokio::test]
async fn waiting_in_vain_says_what_was_seen_last() -> Result<()> {
    let epmd = Epmd::start().await?;
    let node = ErlNode::start(Otp::R27, "a", &epmd).await?;

    let error = error_of(wait_eval(&node, "1 + 1", "3", SHORT).await)?;
    assert!(error.contains("`1 + 1` is `3`") && error.contains("last seen: 2"), "{error}");
    let never = wait_until("the end of days", SHORT, async || std::future::pending().await);
    let error = error_of::<()>(never.await)?;
    assert!(error.contains("the end of days; still asking"), "{error}");

    node.finish().await
}

/// Returns when a process has crashed.
const BANG: &str =
    "spawn_monitor(fun() -> error(bang) end), receive {'DOWN', _, _, _, _} -> ok end";

const SHORT: Duration = Duration::from_millis(100);

fn error_of<T>(result: Result<T>) -> Result<String> {
    result.err().map(|error| format!("{error:#}")).context("that should have failed")
}

fn process_id(node: &ErlNode) -> Result<u32> {
    node.process_id().context("the node runs")
}

async fn wait_until_gone(pids: &[u32]) -> Result<()> {
    wait_until("no process runs any more", SOON, async || {
        let left: Vec<_> = pids.iter().filter(|pid| runs(**pid)).collect();
        left.is_empty().then_some(()).ok_or_else(|| format!("{left:?}"))
    })
    .await
}

/// False for one that ended, even if nobody waited for it: it's up to the system to do so for orphans.
fn runs(pid: u32) -> bool {
    // `42 (name) S ...`
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

/// Also true for one that ended but wasn't waited for.
fn exists(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

fn with_descendants(pid: u32) -> Vec<u32> {
    let mut all = vec![pid];
    let mut next = 0;
    while let Some(parent) = all.get(next) {
        let threads = fs::read_dir(format!("/proc/{parent}/task")).into_iter().flatten().flatten();
        let children = threads
            .filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok())
            .collect::<Vec<_>>()
            .join(" ");
        all.extend(children.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
        next += 1;
    }
    all
}
