//! The binary as its user meets it: options, lines of input, lines of output, exit codes.

mod browser;
mod calls;
mod config;
mod demo;
mod doctor;
mod failures;
mod join;
mod live;
mod modules;
mod page;
mod pages;
mod service;
mod small;
mod top;
mod web;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};

use crate::support::{SOON, search, wait_until};

/// No test of the command line waits longer for an end: so long may a failure take to be told.
const NO_HANG: Duration = Duration::from_secs(8);

/// A running `data-publisher`; killed when dropped.
pub(crate) struct Cli {
    child: Child,
    stdin: Option<ChildStdin>,
    pub(crate) out: Lines,
    err: Lines,
    started: Instant,
}

/// What came out of a pipe so far.
#[derive(Clone, Default)]
pub(crate) struct Lines(Arc<Mutex<Seen>>);

#[derive(Default)]
struct Seen {
    lines: Vec<String>,
    ended: bool,
}

/// How a run ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) out: Vec<String>,
    pub(crate) err: Vec<String>,
    /// Since the start.
    took: Duration,
}

impl Cli {
    /// Starts it with a bare environment: no cookie, no home, no log settings, this EPMD.
    pub(crate) fn start(epmd_port: u16, arguments: &[&str]) -> Result<Self> {
        Self::command(epmd_port, arguments, &[])
    }

    fn command(epmd_port: u16, arguments: &[&str], variables: &[(&str, &str)]) -> Result<Self> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_data-publisher"));
        command
            .args(arguments)
            .env_clear()
            .env("ERL_EPMD_PORT", epmd_port.to_string())
            .envs(variables.iter().copied());
        Self::of(command)
    }

    /// Starts whatever the command says that is one in the end.
    pub(crate) fn of(mut command: Command) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let out = Lines::collect(child.stdout.take().context("stdout is a pipe")?);
        let err = Lines::collect(child.stderr.take().context("stderr is a pipe")?);
        let stdin = child.stdin.take();
        Ok(Self { child, stdin, out, err, started: Instant::now() })
    }

    /// Runs it to its end, with nothing on its input.
    pub(crate) async fn run(epmd_port: u16, arguments: &[&str]) -> Result<Ended> {
        Self::start(epmd_port, arguments)?.end().await
    }

    /// Writes to its input, line ends included.
    async fn write(&mut self, text: &str) -> Result<()> {
        let stdin = self.stdin.as_mut().context("the input has ended")?;
        stdin.write_all(text.as_bytes()).await?;
        Ok(stdin.flush().await?)
    }

    /// Waits for a line of its log, or complaint, that has all these words.
    pub(crate) async fn says(&self, words: &[&str]) -> Result<()> {
        self.says_within(words, SOON).await
    }

    async fn says_within(&self, words: &[&str], deadline: Duration) -> Result<()> {
        wait_until(&format!("{words:?} on stderr"), deadline, async || {
            let lines = self.err.all();
            let has_all = |line: &String| words.iter().all(|word| line.contains(word));
            lines.iter().any(has_all).then_some(()).ok_or_else(|| lines.join("\n"))
        })
        .await
    }

    /// The same for a line that has one of these texts.
    pub(crate) async fn says_one_of(&self, texts: &[String]) -> Result<()> {
        wait_until(&format!("one of {texts:?} on stderr"), SOON, async || {
            let lines = self.err.all();
            let has_one = |line: &String| texts.iter().any(|text| line.contains(text));
            lines.iter().any(has_one).then_some(()).ok_or_else(|| lines.join("\n"))
        })
        .await
    }

    fn end_input(&mut self) {
        self.stdin = None;
    }

    /// Writes a line and waits for its `reply`; `ok` of it.
    pub(crate) async fn ask(&mut self, line: &str) -> Result<Value> {
        let reply = self.reply(line).await?;
        ensure!(reply.get("error").is_none(), "`{line}`: {reply}");
        Ok(reply["ok"].clone())
    }

    async fn reply(&mut self, line: &str) -> Result<Value> {
        let before = self.out.count();
        self.write(&format!("{line}\n")).await?;
        self.event_after(before, &format!("the reply to `{line}`"), |event| {
            event["event"] == "reply" && event["command"] == line
        })
        .await
    }

    /// The first event that is meant, since the start.
    pub(crate) async fn event(
        &self,
        what: &str,
        is_meant: impl Fn(&Value) -> bool,
    ) -> Result<Value> {
        self.event_after(0, what, is_meant).await
    }

    async fn event_after(
        &self,
        line: usize,
        what: &str,
        is_meant: impl Fn(&Value) -> bool,
    ) -> Result<Value> {
        wait_until(what, SOON, async || {
            let lines = self.out.all();
            let mut events =
                lines.iter().skip(line).filter_map(|line| serde_json::from_str(line).ok());
            events.find(|event| is_meant(event)).ok_or_else(|| {
                format!("{}\nstderr: {}", lines.join("\n"), self.err.all().join("\n"))
            })
        })
        .await
    }

    pub(crate) fn process_id(&self) -> Result<u32> {
        self.child.id().context("it has ended")
    }

    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        let pid = self.process_id()?;
        Ok(kill_process(Pid::from_raw(pid.cast_signed()).context("no process id")?, signal)?)
    }

    /// Waits for the end and all that was written.
    pub(crate) async fn end(mut self) -> Result<Ended> {
        let waited = tokio::time::timeout(Duration::from_secs(20), self.child.wait()).await;
        let took = self.started.elapsed();
        let code =
            waited.with_context(|| format!("no end; it wrote {:?}", self.out.all()))??.code();
        wait_until("the pipes end", SOON, async || {
            (self.out.has_ended() && self.err.has_ended()).then_some(()).ok_or_else(String::new)
        })
        .await
        .context("a process that it started still has its output")?;
        Ok(Ended { code, out: self.out.all(), err: self.err.all(), took })
    }
}

impl Lines {
    pub(crate) fn collect(pipe: impl AsyncRead + Send + Unpin + 'static) -> Self {
        let lines = Self::default();
        let seen = lines.clone();
        tokio::spawn(async move {
            let mut pipe = BufReader::new(pipe).lines();
            while let Ok(Some(line)) = pipe.next_line().await {
                search("a program", line.as_bytes(), line.len());
                seen.lock().lines.push(line);
            }
            seen.lock().ended = true;
        });
        lines
    }

    pub(crate) fn all(&self) -> Vec<String> {
        self.lock().lines.clone()
    }

    fn count(&self) -> usize {
        self.lock().lines.len()
    }

    fn has_ended(&self) -> bool {
        self.lock().ended
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ended {
    /// Checks a failure: code 2, soon, one line on stderr that has all these words, nothing like a
    /// stack trace.
    pub(crate) fn assert_failed(&self, words: &[&str]) {
        assert_eq!(self.code, Some(2), "{self:?}");
        assert!(self.took <= NO_HANG, "{self:?}");
        self.assert_complaint(words);
    }

    pub(crate) fn assert_complaint(&self, words: &[&str]) {
        let [line] = &self.err[..] else { panic!("not one line on stderr: {self:?}") };
        assert!(line.starts_with("data-publisher: "), "{line}");
        for word in words {
            assert!(line.contains(word), "no `{word}` in: {line}");
        }
    }

    /// Checks that a secret is in none of what it wrote.
    fn assert_never_says(&self, secret: &str) {
        let all = [&self.out[..], &self.err[..]].concat().join("\n");
        assert!(!all.contains(secret), "{all}");
    }
}

/// A folder of this test, empty; removed when dropped.
struct Folder(PathBuf);

impl Folder {
    /// One of its own each time: tests that share a function run side by side.
    fn new(name: &str) -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("data-publisher-{}-{next}-{name}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path)?;
        Ok(Self(path))
    }

    fn file(&self, name: &str, content: &str, mode: u32) -> Result<String> {
        use std::os::unix::fs::PermissionsExt;
        let path = self.0.join(name);
        std::fs::write(&path, content)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode))?;
        Ok(path.to_str().context("a path in UTF-8")?.to_owned())
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
