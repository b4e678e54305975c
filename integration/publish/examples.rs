//! The examples as a user runs them, beside real nodes.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::OnceCell;

use super::beam_node;
use crate::otp::on_each_release;
use crate::support::{Epmd, Otp, SOON, cookie, search, wait_eval};

on_each_release! {
    workers_is_one_of_a_group_and_does_what_it_is_sent
    load_is_one_publisher_in_rust_and_erlang
    config_takes_updates_and_subscribers_from_the_beam
}

#[test]
fn the_readme_shows_the_publisher_of_load_word_for_word() {
    let source = include_str!("../examples/load.rs");
    let (_, publisher) = source.split_once("impl DataPublisher").unwrap();
    let (publisher, _) = publisher.split_once("\n}\n").unwrap();
    assert!(include_str!("../../README.md").contains(publisher), "{publisher}");
}

/// For cargo, which has little left to do: the library is built.
const BUILD_TIME: Duration = Duration::from_secs(300);

/// Where an example's binary is, by cargo's own word. Builds all examples first, once: `cargo test` does so
/// only when it's asked for no test in particular.
async fn path_of(example: &str) -> Result<PathBuf> {
    static BUILT: OnceCell<BTreeMap<String, PathBuf>> = OnceCell::const_new();
    let built = BUILT.get_or_try_init(build).await?;
    built.get(example).cloned().with_context(|| format!("no {example} among {built:?}"))
}

async fn build() -> Result<BTreeMap<String, PathBuf>> {
    let mut build = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    build.current_dir(env!("CARGO_MANIFEST_DIR")).kill_on_drop(true);
    // The profile of the test itself, whose library is there already.
    let profile = if cfg!(debug_assertions) { "test" } else { "release" };
    build.args(["build", "--locked", "--examples", "--profile", profile]);
    build.arg("--message-format=json-render-diagnostics");
    let output = tokio::time::timeout(BUILD_TIME, build.output()).await.context("building")??;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "cargo build --examples: {said}");
    let mut paths = BTreeMap::new();
    for line in output.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let message: Value = serde_json::from_slice(line)?;
        if message["target"]["kind"] == json!(["example"])
            && let (Some(name), Some(path)) =
                (message["target"]["name"].as_str(), message["executable"].as_str())
        {
            paths.insert(name.to_owned(), path.into());
        }
    }
    Ok(paths)
}

/// A running example; killed when dropped.
pub(super) struct Example {
    _child: Child,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Example {
    pub(super) async fn start(example: &str, arguments: &[&str], epmd: &Epmd) -> Result<Self> {
        let mut child = Command::new(path_of(example).await?)
            .args(arguments)
            .env("ERL_EPMD_PORT", epmd.port().to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        crate::cli::Lines::collect(child.stderr.take().context("stderr is a pipe")?);
        let stdin = child.stdin.take().context("stdin is a pipe")?;
        let stdout = child.stdout.take().context("stdout is a pipe")?;
        Ok(Self { _child: child, stdin, lines: BufReader::new(stdout).lines() })
    }

    pub(super) async fn write(&mut self, line: &str) -> Result<()> {
        self.stdin.write_all(format!("{line}\n").as_bytes()).await?;
        Ok(())
    }

    /// Reads on until this line.
    pub(super) async fn until(&mut self, expected: &str) -> Result<()> {
        let mut seen = Vec::new();
        let found = async {
            while let Some(line) = self.lines.next_line().await? {
                search("an example", line.as_bytes(), line.len());
                if line == expected {
                    return anyhow::Ok(());
                }
                seen.push(line);
            }
            anyhow::bail!("it has ended")
        };
        let found = tokio::time::timeout(SOON, found).await;
        let found = found.map_err(anyhow::Error::from).and_then(|found| found);
        found.with_context(|| format!("`{expected}` after {seen:?}"))
    }
}

async fn load_is_one_publisher_in_rust_and_erlang(otp: Otp) -> Result<()> {
    let epmd = Epmd::start_of(otp).await?;
    let mut a = beam_node(otp, "a", &epmd).await?;
    a.load("erlang/examples/load.erl").await?;
    a.eval("{ok, _} = load:start(), ok = load:set(7)").await?;
    let arguments = ["r@127.0.0.1", cookie(), "a@127.0.0.1"];
    let mut example = Example::start("load", &arguments, &epmd).await?;
    example.until("a@127.0.0.1 7").await?;
    wait_eval(&a, "load:all()", "#{'a@127.0.0.1' => 7,'r@127.0.0.1' => 0}", SOON).await?;

    a.eval(
        "Self = self(), Told = spawn(fun() -> {Ref, _} = load:subscribe(), Self ! subscribed, \
         receive {Ref, Node, Load} -> receive {what, P} -> P ! {Node, Load} end end end), \
         receive subscribed -> ok end",
    )
    .await?;
    example.write("42").await?;
    assert_eq!(
        a.eval("Told ! {what, self()}, receive {N, L} -> {N, L} end").await?,
        "{'r@127.0.0.1',42}"
    );
    wait_eval(&a, "load:all()", "#{'a@127.0.0.1' => 7,'r@127.0.0.1' => 42}", SOON).await?;
    a.eval("ok = load:set(8)").await?;
    example.until("a@127.0.0.1 8").await?;

    drop(example);
    wait_eval(&a, "maps:get('r@127.0.0.1', load:all())", "0", SOON).await?;
    let mut example = Example::start("load", &arguments, &epmd).await?;
    example.until("a@127.0.0.1 8").await?;
    a.kill().await?;
    example.until("a@127.0.0.1 0").await?;
    a.finish().await
}

async fn workers_is_one_of_a_group_and_does_what_it_is_sent(otp: Otp) -> Result<()> {
    let epmd = Epmd::start_of(otp).await?;
    let a = beam_node(otp, "a", &epmd).await?;
    a.eval("{ok, _} = pg:start(pg), ok = pg:join(crew, self())").await?;
    let arguments = ["r@127.0.0.1", cookie(), "crew", "a@127.0.0.1"];
    let mut example = Example::start("workers", &arguments, &epmd).await?;
    let there = "[P || P <- pg:get_members(crew), node(P) =:= 'r@127.0.0.1']";
    wait_eval(&a, &format!("length({there})"), "1", SOON).await?;
    let work =
        format!("[P] = {there}, P ! {{self(), {{count, 3}}}}, receive {{P, done, W}} -> W end");
    assert_eq!(a.eval(&work).await?, "{count,3}");

    let pid = a.eval("E = spawn(fun() -> receive stop -> ok end end), pg:join(crew, E), E").await?;
    let pid = pid.replace("<0.", "<a@127.0.0.1.");
    example.until(&format!("join {pid}")).await?;
    a.eval("E ! stop").await?;
    example.until(&format!("leave {pid}")).await?;

    // The end of its input: it leaves by itself.
    let Example { _child: mut child, stdin, lines: _lines } = example;
    drop(stdin);
    assert!(tokio::time::timeout(SOON, child.wait()).await??.success());
    wait_eval(&a, &format!("length({there})"), "0", SOON).await?;
    a.finish().await
}

async fn config_takes_updates_and_subscribers_from_the_beam(otp: Otp) -> Result<()> {
    let epmd = Epmd::start_of(otp).await?;
    let a = beam_node(otp, "a", &epmd).await?;
    let mut one = Example::start("config", &["one@127.0.0.1", cookie()], &epmd).await?;
    one.until("ready, flags: 0").await?;
    one.write("set dark {\"enabled\": true, \"percent\": 10}").await?;
    one.until("true").await?;
    let arguments = ["two@127.0.0.1", cookie(), "one@127.0.0.1"];
    let mut two = Example::start("config", &arguments, &epmd).await?;
    // Ready means that the other one's flags are here.
    two.until("ready, flags: 1").await?;
    two.write("get dark").await?;
    let dark = "{\"enabled\":true,\"percent\":10,\"only_for\":[]}";
    two.until(&format!("{{\"one@127.0.0.1\":{dark}}}")).await?;

    // A process on the BEAM sees, hears and sets flags of a Rust node.
    a.eval(
        "Two = {flags, 'two@127.0.0.1'}, \
         {Ref, Table} = data_publisher:subscribe(Two, {flag, <<\"dark\">>})",
    )
    .await
    .context("subscribing")?;
    let table = "Table =:= #{<<\"dark\">> => #{'one@127.0.0.1' => \
                 #{enabled => true, percent => 10, only_for => []}}}";
    assert_eq!(a.eval(table).await?, "true");
    a.eval(
        "ok = data_publisher:update(Two, [{set, <<\"beta\">>, #{enabled => false, \
         only_for => [<<\"alice\">>, \"bob\"]}}])",
    )
    .await?;
    let beta = "{\"enabled\":false,\"percent\":100,\"only_for\":[\"alice\",\"bob\"]}";
    let flag = "Flag { enabled: false, percent: 100, only_for: [\"alice\", \"bob\"] }";
    one.until(&format!("two@127.0.0.1 Set(\"beta\", {flag})")).await?;
    one.write("get beta").await?;
    one.until(&format!("{{\"two@127.0.0.1\":{beta}}}")).await?;
    for bad in ["[{set, dark}]", "[{set, <<\"x\">>, #{}}]", "[{set, <<\"x\">>, #{enabled => 1}}]"] {
        let call = format!("catch gen_server:call(Two, {{update, {bad}}})");
        assert_eq!(a.eval(&call).await?, "{error,badarg}");
    }

    drop(one);
    two.until("one@127.0.0.1 Remove(\"dark\")").await?;
    a.finish().await
}
