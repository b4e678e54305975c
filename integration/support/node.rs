//! One Erlang node.

use std::{
    fmt::Write as _,
    net::Ipv4Addr,
    process::{Child, Command, Stdio},
    sync::Mutex,
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tokio::{net::TcpListener, time::Instant};

use super::{
    Certificates, Epmd, Otp, Security,
    control::{Control, Variables, send_probe},
    output::{ENDED_BY_ITSELF, Output, Waited, crashes},
    secret::cookie,
    watchdog,
};

/// A running node, or one that was killed and can be restarted.
///
/// Its end is part of the test: [`finish`](Self::finish), or dropping it, fails when the node's output has a
/// crash report nobody expected, and also when it lacks one that was expected.
pub(crate) struct ErlNode {
    options: NodeOptions,
    running: Option<Running>,
    output: Output,
    expected_crashes: Mutex<Vec<String>>,
    /// Texts of crashes that may come or not.
    allowed_crashes: Mutex<Vec<String>>,
    /// Set once the verdict is out.
    finished: bool,
}

struct Running {
    child: Child,
    control: Control,
    state: State,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    Runs,
    Suspended,
}

/// How a node is started; see [`ErlNode::options`].
#[derive(Clone, Debug)]
pub(crate) struct NodeOptions {
    otp: Otp,
    name: String,
    epmd_port: u16,
    /// Where it listens, as Erlang has it.
    interface: String,
    cookie: String,
    arguments: Vec<String>,
}

impl ErlNode {
    /// Starts `name@127.0.0.1` with no special options.
    pub(crate) async fn start(otp: Otp, name: &str, epmd: &Epmd) -> Result<Self> {
        Self::options(otp, name, epmd.port()).start().await
    }

    /// Options for `name@127.0.0.1`, whose EPMD listens on that port of 127.0.0.1.
    pub(crate) fn options(otp: Otp, name: &str, epmd_port: u16) -> NodeOptions {
        NodeOptions {
            otp,
            name: format!("{name}@127.0.0.1"),
            epmd_port,
            interface: String::from("{127,0,0,1}"),
            cookie: cookie().to_owned(),
            arguments: Vec::new(),
        }
    }

    /// Evaluates Erlang expressions; the last one's value, as `~0tp` prints it.
    ///
    /// They run in a process that is gone afterwards. Variables stay bound for the next call, so a name
    /// can be bound only once in a node's life.
    pub(crate) async fn eval(&self, expressions: &str) -> Result<String> {
        self.eval_within(expressions, super::SOON).await
    }

    /// The same with another deadline; the error of one that hangs says where.
    pub(crate) async fn eval_within(
        &self,
        expressions: &str,
        deadline: Duration,
    ) -> Result<String> {
        self.evaluate(expressions, Variables::Keep, deadline).await
    }

    /// The same without keeping variables, so that it can be asked again and again.
    pub(crate) async fn peek(&self, expressions: &str) -> Result<String> {
        self.evaluate(expressions, Variables::Forget, super::SOON).await
    }

    /// Compiles a module with the node's own compiler and loads it; `source` is a path in the repository.
    pub(crate) async fn load(&self, source: &str) -> Result<()> {
        let beam = self.options.otp.beam(source).await?;
        let running = self.running.as_ref().context("the node doesn't run")?;
        running.control.load(&beam).await.with_context(|| format!("{self}: {source}"))
    }

    /// Kills the VM (SIGKILL), after its log was read to the end; returns when the process is gone.
    pub(crate) async fn kill(&mut self) -> Result<()> {
        let drained = self.drain_log().await;
        self.end_process();
        drained
    }

    /// Starts it again with the same options, after killing it when it runs.
    pub(crate) async fn restart(&mut self) -> Result<()> {
        if self.running.is_some() {
            self.kill().await?;
        }
        self.running = Some(self.options.launch(&self.output).await?);
        Ok(())
    }

    /// Suspends the VM (SIGSTOP): its sockets stay open, and nobody reads them.
    pub(crate) fn stop_signal(&mut self) -> Result<()> {
        self.signal(Signal::STOP, State::Suspended)
    }

    /// Resumes it (SIGCONT).
    pub(crate) fn cont_signal(&mut self) -> Result<()> {
        self.signal(Signal::CONT, State::Runs)
    }

    /// From now on a crash report that contains the text is fine, and there has to be one in the end.
    ///
    /// That a node ended although it wasn't killed is reported, too: "the node ended by itself".
    pub(crate) fn expect_crash(&self, text: &str) {
        self.expected().push(text.to_owned());
    }

    /// From now on a crash report that contains the text is fine, whether one comes or not. Only for
    /// what depends on who is faster.
    pub(crate) fn allow_crash(&self, text: &str) {
        let mut allowed = self.allowed_crashes.lock().expect("nothing panics while it's held");
        allowed.push(text.to_owned());
    }

    /// The crash reports so far that nobody expected.
    pub(crate) async fn unexpected_crashes(&self) -> Result<Vec<String>> {
        self.drain_log().await?;
        Ok(self.unexpected())
    }

    /// Ends the node and says whether all was well with it: the end of a test that wants an error, not a
    /// panic.
    pub(crate) async fn finish(mut self) -> Result<()> {
        self.finished = true;
        let drained = self.drain_log().await;
        self.end_process();
        drained?;
        self.verdict()
    }

    /// `name@127.0.0.1`
    pub(crate) fn name(&self) -> &str {
        &self.options.name
    }

    pub(crate) fn otp(&self) -> Otp {
        self.options.otp
    }

    /// The id of the VM's process, when it runs.
    pub(crate) fn process_id(&self) -> Option<u32> {
        self.running.as_ref().map(|running| running.child.id())
    }

    /// All that it wrote to standard output and error so far, over all its starts.
    pub(crate) fn output(&self) -> String {
        self.output.text()
    }

    async fn evaluate(
        &self,
        expressions: &str,
        variables: Variables,
        deadline: Duration,
    ) -> Result<String> {
        let value = match &self.running {
            Some(running) => {
                let value = running.control.eval(expressions, variables, deadline);
                match running.state {
                    State::Runs => value.await,
                    // Waits no longer for one that can't say itself that it's late.
                    State::Suspended => tokio::time::timeout(deadline, value)
                        .await
                        .unwrap_or_else(|_| bail!("no value within {deadline:?}, it's suspended")),
                }
            }
            None => Err(anyhow!("the node doesn't run")),
        };
        value.with_context(|| format!("{self}: `{expressions}`"))
    }

    fn signal(&mut self, signal: Signal, state: State) -> Result<()> {
        let running = self.running.as_mut().context("the node doesn't run")?;
        let pid = Pid::from_raw(running.child.id().cast_signed()).context("no process id")?;
        kill_process(pid, signal)?;
        running.state = state;
        Ok(())
    }

    /// Returns when all that the node logged until now is in its output.
    ///
    /// A suspended node can log nothing, one that ended by itself nothing more.
    async fn drain_log(&self) -> Result<()> {
        let Some(line) = self.mark_log() else { return Ok(()) };
        let output = self.output.clone();
        let waited = tokio::task::spawn_blocking(move || wait_for_log(&output, &line)).await?;
        waited.with_context(|| self.to_string())
    }

    /// The line that will follow all that the node has logged by now; see [`drain_log`](Self::drain_log).
    fn mark_log(&self) -> Option<String> {
        match &self.running {
            Some(Running { state: State::Suspended, .. }) | None => None,
            Some(running) => {
                let line = running.control.mark_log();
                // Not to be reached: it's ending, and so is its output.
                Some(line.unwrap_or_else(|_| String::from("(ending)")))
            }
        }
    }

    fn end_process(&mut self) {
        if let Some(mut running) = self.running.take() {
            let ended = running.control.is_closed();
            // Fails only for one that ended.
            let _ = running.child.kill();
            watchdog::forget(running.child.id());
            let status = running.child.wait();
            // The processes that the VM had started for itself have the pipe, too, and end with it.
            self.output.wait_for_end(LOG_TIME);
            if ended {
                self.output.note(&format!("{ENDED_BY_ITSELF}: {status:?}"));
            }
        }
    }

    fn unexpected(&self) -> Vec<String> {
        let mut fine = self.expected().clone();
        fine.extend_from_slice(
            &self.allowed_crashes.lock().expect("nothing panics while it's held"),
        );
        let mut reports = crashes(&self.output());
        reports.retain(|report| !fine.iter().any(|text| report.contains(text)));
        reports
    }

    fn verdict(&self) -> Result<()> {
        let unexpected = self.unexpected();
        ensure!(unexpected.is_empty(), "{self} had a crash:\n{}", unexpected.join("\n"));
        let reports = crashes(&self.output());
        for text in &*self.expected() {
            let came = reports.iter().any(|report| report.contains(text));
            ensure!(came, "{self} had no crash with `{text}`, which was expected");
        }
        Ok(())
    }

    fn expected(&self) -> std::sync::MutexGuard<'_, Vec<String>> {
        self.expected_crashes.lock().expect("nothing panics while it holds the lock")
    }
}

impl Drop for ErlNode {
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        let drained = match self.mark_log() {
            Some(line) if !std::thread::panicking() => wait_for_log(&self.output, &line),
            _ => Ok(()),
        };
        self.end_process();
        if std::thread::panicking() {
            let mut text = format!("--- {self} wrote:\n");
            for line in self.output().lines() {
                let _ = writeln!(text, "    {line}");
            }
            #[expect(clippy::print_stderr, reason = "libtest shows it with the test that failed")]
            {
                eprint!("{text}");
            }
        } else if let Err(error) = drained.and_then(|()| self.verdict()) {
            panic!("{error:#}");
        }
    }
}

impl std::fmt::Display for ErlNode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} (OTP {})", self.name(), self.otp())
    }
}

impl NodeOptions {
    pub(crate) fn otp(&self) -> Otp {
        self.otp
    }

    /// Another host part of its name, a loopback address, at which it listens; EPMD is that of the
    /// host.
    pub(crate) fn host(mut self, host: &str) -> Self {
        let short = self.name.split('@').next().unwrap_or_default();
        self.name = format!("{short}@{host}");
        self.interface = match host {
            "::1" => String::from("{0,0,0,0,0,0,0,1}"),
            _ => format!("{{{}}}", host.replace('.', ",")),
        };
        self
    }

    /// The cookie; without it all nodes have the same.
    pub(crate) fn cookie(mut self, cookie: &str) -> Self {
        cookie.clone_into(&mut self.cookie);
        self
    }

    /// A hidden node.
    pub(crate) fn hidden(self) -> Self {
        self.arguments(&["-hidden"])
    }

    /// Silence until a peer counts as gone, in seconds.
    pub(crate) fn net_ticktime(self, seconds: u32) -> Self {
        self.arguments(&["-kernel", "net_ticktime", &seconds.to_string()])
    }

    /// Only the connections that the test makes: `global` doesn't connect all with all.
    pub(crate) fn connect_all_false(self) -> Self {
        self.arguments(&["-connect_all", "false"])
    }

    /// When a connection is lost, `global` cuts more, so that no two nodes see each other and a third one
    /// doesn't see both. The default since OTP 25.
    pub(crate) fn prevent_overlapping_partitions(self) -> Self {
        self.arguments(&["-kernel", "prevent_overlapping_partitions", "true"])
    }

    /// A lost connection is lost, and that's all.
    pub(crate) fn allow_overlapping_partitions(self) -> Self {
        self.arguments(&["-kernel", "prevent_overlapping_partitions", "false"])
    }

    /// All connections by TLS.
    pub(crate) fn tls(self, certificates: &Certificates, security: &Security) -> Result<Self> {
        let file = certificates.optfile(security)?;
        Ok(self.arguments(&["-proto_dist", "inet_tls", "-ssl_dist_optfile", &file]))
    }

    /// Further arguments for `erl`.
    pub(crate) fn arguments(mut self, arguments: &[&str]) -> Self {
        self.arguments.extend(arguments.iter().map(ToString::to_string));
        self
    }

    /// Starts the node; returns when it's registered in EPMD and answers.
    pub(crate) async fn start(self) -> Result<ErlNode> {
        let output = Output::default();
        let running = self.launch(&output).await?;
        Ok(ErlNode {
            options: self,
            running: Some(running),
            output,
            expected_crashes: Mutex::default(),
            allowed_crashes: Mutex::default(),
            finished: false,
        })
    }

    async fn launch(&self, output: &Output) -> Result<Running> {
        let beam = self.otp.beam("erlang/test/probe.erl").await?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        let mut child = Starting(Some(self.spawn(port, output).await?));
        watchdog::watch(child.get().id());

        let stream = child.accept(&listener).await;
        let mut stream = stream.with_context(|| {
            format!("{} (OTP {}) didn't start:\n{}", self.name, self.otp, output.text())
        })?;
        send_probe(&mut stream, &beam)?;
        let control = Control::new(stream, &format!("{} {}", self.otp, self.name))?;
        Ok(Running { child: child.started(), control, state: State::Runs })
    }

    async fn spawn(&self, control_port: u16, output: &Output) -> Result<Child> {
        // The probe comes by the socket: a release may have a file system of its own.
        let program = format!(
            r#"{{ok, S}} = gen_tcp:connect({{127,0,0,1}}, {control_port}, [binary, {{packet, 4}}, {{active, false}}]),
               {{ok, Beam}} = gen_tcp:recv(S, 0),
               {{module, probe}} = code:load_binary(probe, "probe.erl", Beam),
               probe:serve(S)."#
        );
        let (reader, writer) = std::io::pipe()?;
        let child = Command::new(self.otp.erl().await?)
            .args(VM_FLAGS.split(' '))
            .args(["-noinput", "-start_epmd", "false"])
            .args(["-name", &self.name, "-setcookie", &self.cookie])
            .args(["-kernel", "inet_dist_use_interface", &self.interface])
            .args(&self.arguments)
            .args(["-eval", &program])
            .env("ERL_EPMD_PORT", self.epmd_port.to_string())
            .env("ERL_CRASH_DUMP_BYTES", "0")
            .env_remove("ERL_FLAGS")
            .env_remove("ERL_AFLAGS")
            .env_remove("ERL_ZFLAGS")
            .env_remove("ERL_LIBS")
            .stdin(Stdio::null())
            .stdout(writer.try_clone()?)
            .stderr(writer)
            .spawn()
            .context("can't start erl")?;
        output.collect(&self.name, reader);
        Ok(child)
    }
}

/// Two schedulers that don't spin while they wait: a test has several nodes, a machine few cores.
pub(crate) const VM_FLAGS: &str =
    "+S 2:2 +SDcpu 2:2 +SDio 2 +sbwt none +sbwtdcpu none +sbwtdio none +pc unicode";

/// A VM that doesn't answer yet, and ends unless it does so in time.
struct Starting(Option<Child>);

impl Starting {
    async fn accept(&mut self, listener: &TcpListener) -> Result<std::net::TcpStream> {
        let end = Instant::now() + START_TIME;
        loop {
            // A VM that ended connects no more; `Child` has no way to await its end.
            let look = (Instant::now() + Duration::from_millis(50)).min(end);
            if let Ok(accepted) = tokio::time::timeout_at(look, listener.accept()).await {
                let stream = accepted?.0.into_std()?;
                stream.set_nonblocking(false)?;
                return Ok(stream);
            }
            if let Some(status) = self.get().try_wait()? {
                bail!("it ended: {status}");
            }
            ensure!(Instant::now() < end, "no sign of it within {START_TIME:?}");
        }
    }

    fn get(&mut self) -> &mut Child {
        self.0.as_mut().expect("only `started` takes it")
    }

    fn started(mut self) -> Child {
        self.0.take().expect("only this takes it")
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            // Fails only for one that ended by itself.
            let _ = child.kill();
            watchdog::forget(child.id());
            let _ = child.wait();
        }
    }
}

/// A node takes half a second on an idle machine.
const START_TIME: Duration = Duration::from_secs(60);

/// From an event on the node to its line in our memory, on a busy machine.
const LOG_TIME: Duration = Duration::from_secs(10);

fn wait_for_log(output: &Output, line: &str) -> Result<()> {
    match output.wait_for_line(line, LOG_TIME) {
        Waited::Seen | Waited::Ended => Ok(()),
        Waited::Late => bail!("its log didn't come to an end within {LOG_TIME:?}"),
    }
}
