//! Calls, functions and signals between Rust nodes and real nodes, both ways, on OTP 25, 27 and 29.

mod functions;
mod servers;
mod services;
mod shell;
mod signals;
mod sys;
mod volume;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use data_publisher::gen_server::{Caller, GenServer, Next, Reply};
use data_publisher::node::{NodeConfig, Process, Received};
use data_publisher::term::{NodeName, Term};
use data_publisher::{Cookie, Node, gen_server};

use crate::support::{Epmd, ErlNode, Otp, SOON, cookie};

/// So long may take what a user types.
const AT_ONCE: Duration = Duration::from_secs(1);

/// A real node `a@127.0.0.1` and ours, `r@127.0.0.1`, connected.
struct Pair {
    epmd: Epmd,
    erl: ErlNode,
    rust: Node,
}

impl Pair {
    async fn start(otp: Otp) -> Result<Self> {
        let epmd = Epmd::start_of(otp).await?;
        let erl = ErlNode::start(otp, "a", &epmd).await?;
        let config = NodeConfig::new("r@127.0.0.1")?.cookie(Cookie::new(cookie())?);
        let rust = data_publisher::start(config.epmd_port(epmd.port())).await?;
        rust.connect(erl.name()).await?;
        Ok(Self { epmd, erl, rust })
    }

    fn there(&self) -> Result<NodeName> {
        Ok(self.erl.name().parse()?)
    }

    /// Evaluates each expression, in [`AT_ONCE`], and compares.
    async fn assert_each(&self, expected: &[(&str, &str)]) -> Result<()> {
        for (expression, value) in expected {
            let seen = self.erl.eval_within(expression, AT_ONCE * 3).await?;
            ensure!(seen == *value, "`{expression}`: {seen}, not {value}");
        }
        Ok(())
    }
}

/// The next message of a process.
async fn next(process: &mut Process) -> Result<Term> {
    let received = tokio::time::timeout(SOON, process.receive()).await?;
    received.map(Received::into_term).context("the process has ended")
}

/// A term from text.
fn term(text: &str) -> Result<Term> {
    Ok(text.parse()?)
}

/// A server that shows all a server can do: it counts.
#[derive(Default)]
struct Counter {
    count: i64,
    kept: Vec<Caller>,
}

impl GenServer for Counter {
    async fn handle_call(
        &mut self,
        request: Term,
        caller: Caller,
        _: &gen_server::Context,
    ) -> Reply {
        let Term::Atom(word) = &request else { return Reply::Now(request) };
        match word.as_str() {
            "get" => Reply::Now(self.count.into()),
            "keep" => {
                self.kept.push(caller);
                Reply::Later
            }
            "later" => {
                tokio::spawn(async move { caller.reply(data_publisher::atom!("later")) });
                Reply::Later
            }
            "stop" => Reply::Stop {
                reason: data_publisher::atom!("stopped").into(),
                reply: Some(data_publisher::atom!("bye").into()),
            },
            "panic" => panic!("told to"),
            _ => Reply::Now(request),
        }
    }

    async fn handle_cast(&mut self, request: Term, _: &gen_server::Context) -> Next {
        if let Some([Term::Integer(n)]) = request.tagged("add") {
            self.count += n;
        } else if request.is_atom("release") {
            for caller in self.kept.drain(..) {
                caller.reply(data_publisher::atom!("released"));
            }
        }
        Next::Continue
    }

    async fn handle_info(&mut self, info: Received, _: &gen_server::Context) -> Next {
        if matches!(info, Received::Message { .. }) {
            self.count += 100;
        }
        Next::Continue
    }

    fn state_term(&self) -> Term {
        data_publisher::map! { data_publisher::atom!("count") => self.count }
    }
}
