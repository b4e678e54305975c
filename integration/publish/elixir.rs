//! The Elixir project in `erlang/examples/elixir`, built by `mix` and used in `iex` as its page says, beside
//! the example `counter` in Rust.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, bail, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::{Duration, timeout};

use super::examples::Example;
use crate::otp::on_each_release;
use crate::support::{Epmd, Otp, SOON, VM_FLAGS, cookie};

on_each_release! {
    elixir_shares_settings_and_a_counter_with_rust
}

/// For `mix`, which starts a VM and compiles a few modules.
const BUILD_TIME: Duration = Duration::from_secs(300);

/// A copy of `erlang/` that the release's `mix` can read and write; removed when dropped.
struct Project {
    otp: Otp,
    folder: PathBuf,
}

impl Project {
    async fn copied(otp: Otp) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let (folder, _) = otp.folder(&format!("elixir-{}-{count}", std::process::id())).await?;
        copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("erlang"), &folder)?;
        Ok(Self { otp, folder })
    }

    /// A command of Elixir's, in the project's folder.
    async fn command(&self, name: &str) -> Result<Command> {
        let path = self.otp.erl().await?.with_file_name(name);
        ensure!(path.exists(), "OTP {}: no {name} next to its erl", self.otp);
        let mut command = Command::new(path);
        command.current_dir(self.folder.join("examples/elixir")).kill_on_drop(true);
        command.env("ELIXIR_ERL_OPTIONS", VM_FLAGS);
        Ok(command)
    }

    /// What `mix` says, which must end well.
    async fn mix(&self, arguments: &[&str]) -> Result<String> {
        let mut mix = self.command("mix").await?;
        let output = mix.args(arguments).stdin(Stdio::null()).output();
        let output =
            timeout(BUILD_TIME, output).await.with_context(|| format!("mix {arguments:?}"))??;
        let said = [&*output.stdout, &*output.stderr].map(String::from_utf8_lossy).concat();
        ensure!(output.status.success(), "mix {arguments:?}: {said}");
        Ok(said)
    }
}

impl Drop for Project {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// All but what was built there.
fn copy(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from).with_context(|| from.display().to_string())? {
        let entry = entry?;
        let (path, to) = (entry.path(), to.join(entry.file_name()));
        if path.ends_with("_build") {
            continue;
        }
        if path.is_dir() {
            copy(&path, &to)?;
        } else {
            std::fs::copy(&path, &to)?;
        }
    }
    Ok(())
}

/// `iex` with the project in it; killed when dropped.
struct Iex {
    _child: Child,
    stdin: ChildStdin,
    stdout: ChildStdout,
    /// What it has written since the last expression.
    said: String,
}

impl Iex {
    async fn start(project: &Project, name: &str, epmd: &Epmd) -> Result<Self> {
        let mut child = project
            .command("iex")
            .await?
            .args(["--name", name, "--cookie", cookie()])
            // What the page doesn't say: other tests run at the same time.
            .args(["--erl", "-start_epmd false -kernel inet_dist_use_interface {127,0,0,1}"])
            .args(["-S", "mix"])
            .env("ERL_EPMD_PORT", epmd.port().to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdin = child.stdin.take().context("stdin is a pipe")?;
        let stdout = child.stdout.take().context("stdout is a pipe")?;
        let mut iex = Self { _child: child, stdin, stdout, said: String::new() };
        iex.until(BUILD_TIME, |said| said.contains("iex(").then(String::new)).await?;
        Ok(iex)
    }

    /// The value of an expression, as `iex` shows it in one line.
    async fn eval(&mut self, code: &str) -> Result<String> {
        self.said.clear();
        // The value ends where the next prompt begins.
        self.stdin.write_all(format!("{code}\n").as_bytes()).await?;
        let value =
            |said: &str| said.split_once("\niex(").map(|(value, _)| value.trim().to_owned());
        self.until(SOON, value).await.with_context(|| code.to_owned())
    }

    /// Evaluates until the value is this.
    async fn wait(&mut self, code: &str, expected: &str) -> Result<()> {
        let end = tokio::time::Instant::now() + SOON;
        loop {
            let value = self.eval(code).await?;
            if value == expected {
                return Ok(());
            }
            ensure!(tokio::time::Instant::now() < end, "{code}: {value}, not {expected}");
        }
    }

    async fn until<T>(&mut self, limit: Duration, found: impl Fn(&str) -> Option<T>) -> Result<T> {
        let read = async {
            let mut bytes = [0; 4096];
            loop {
                if let Some(found) = found(&self.said) {
                    return Ok(found);
                }
                match self.stdout.read(&mut bytes).await? {
                    0 => bail!("it has ended"),
                    count => self.said += &String::from_utf8_lossy(&bytes[..count]),
                }
            }
        };
        let found = timeout(limit, read).await.map_err(anyhow::Error::from).and_then(|found| found);
        found.with_context(|| format!("after {}", self.said))
    }
}

async fn elixir_shares_settings_and_a_counter_with_rust(otp: Otp) -> Result<()> {
    let epmd = Epmd::start_of(otp).await?;
    let project = Project::copied(otp).await?;
    let built = project.mix(&["compile", "--warnings-as-errors"]).await?;
    ensure!(!built.contains("warning"), "{built}");
    for app in ["data_publisher", "example"] {
        ensure!(built.contains(&format!("Generated {app} app")), "{built}");
    }
    project.mix(&["format", "--check-formatted"]).await?;

    let mut rust = Example::start("counter", &["r@127.0.0.1", cookie()], &epmd).await?;
    rust.until("ready, settings: 0").await?;
    let mut a = Iex::start(&project, "a@127.0.0.1", &epmd).await?;
    assert_eq!(a.eval("Node.connect(:\"r@127.0.0.1\")").await?, "true");
    let add = "Example.Counter.add(:\"r@127.0.0.1\", 3)";
    assert_eq!(a.eval(add).await?, "{:ok, 3}");
    assert_eq!(a.eval("Example.Settings.put(:limit, 5)").await?, ":ok");
    rust.until("a@127.0.0.1 put limit 5").await?;
    assert_eq!(a.eval(add).await?, "{:error, {:limit, 5}}");
    assert_eq!(a.eval("Example.Settings.get(:limit)").await?, "%{\"a@127.0.0.1\": 5}");

    let subscribe = "{ref, _} = Example.Settings.subscribe(); is_reference(ref)";
    assert_eq!(a.eval(subscribe).await?, "true");
    rust.write("limit 9").await?;
    let hear = "receive do {^ref, :put, node, :limit, 9} -> node after 5_000 -> :nothing end";
    assert_eq!(a.eval(hear).await?, ":\"r@127.0.0.1\"");
    assert_eq!(a.eval("Example.Settings.delete(:limit)").await?, ":ok");
    rust.until("a@127.0.0.1 delete limit").await?;
    assert_eq!(a.eval(add).await?, "{:ok, 6}");
    assert_eq!(a.eval("Example.Counter.reset(:\"r@127.0.0.1\")").await?, ":ok");
    a.wait("Example.Counter.get(:\"r@127.0.0.1\")", "0").await?;
    assert_eq!(a.eval(":sys.get_state({:counter, :\"r@127.0.0.1\"})").await?, "0");

    // Who goes takes its settings along, on either side.
    drop(rust);
    a.wait("Example.Settings.get(:limit)", "%{}").await?;
    assert_eq!(a.eval("Example.Settings.put(:color, \"red\")").await?, ":ok");
    let arguments = ["r@127.0.0.1", cookie(), "a@127.0.0.1"];
    let mut rust = Example::start("counter", &arguments, &epmd).await?;
    rust.until("ready, settings: 1").await?;
    drop(a);
    rust.until("a@127.0.0.1 delete color").await
}
