//! A `GenServer` in Rust for the Elixir project in `erlang/examples/elixir`, and settings that both share.
//!
//! ```text
//! cargo run --example counter -- r@127.0.0.1 COOKIE [a@127.0.0.1]
//! ```
//!
//! | to `{counter, Node}` | answer |
//! | --- | --- |
//! | call `{add, N}` | `{ok, Count}`; `{error, {limit, Limit}}` above the lowest `limit` any node has put into the settings |
//! | call `get` | `Count` |
//! | cast `reset` | |
//!
//! Each line on stdin, `KEY TERM`, is a setting of ours from then on, `limit 10` for example; each line on stdout
//! says what some node has put or deleted. On the BEAM the settings are `dp_kv`'s.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it talks to its user")]

use data_publisher::gen_server::{self, Caller, Context, GenServer, Next, Reply};
use data_publisher::kv::Event;
use data_publisher::scope::Notice;
use data_publisher::term::Term;
use data_publisher::{Cookie, Kv, NodeConfig, atom, tuple};
use tokio::io::{AsyncBufReadExt, BufReader};

struct Counter {
    count: i64,
    settings: Kv,
}

impl Counter {
    /// The lowest limit any node has put.
    fn limit(&self) -> Option<i64> {
        let limits = self.settings.get(atom!("limit"));
        limits.values().filter_map(|limit| limit.integer().ok()).min()
    }

    fn add(&mut self, number: i64) -> Term {
        let sum = self.count.saturating_add(number);
        match self.limit() {
            Some(limit) if sum > limit => tuple![atom!("error"), tuple![atom!("limit"), limit]],
            _ => {
                self.count = sum;
                tuple![atom!("ok"), sum]
            }
        }
    }
}

impl GenServer for Counter {
    async fn handle_call(&mut self, request: Term, _: Caller, _: &Context) -> Reply {
        Reply::Now(match request.tagged("add") {
            Some([Term::Integer(number)]) => self.add(*number),
            _ if request.is_atom("get") => self.count.into(),
            _ => tuple![atom!("error"), atom!("badarg")],
        })
    }

    async fn handle_cast(&mut self, request: Term, _: &Context) -> Next {
        if request.is_atom("reset") {
            self.count = 0;
        }
        Next::Continue
    }

    fn state_term(&self) -> Term {
        self.count.into() // for sys:get_state
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (Some(name), Some(cookie)) = (arguments.next(), arguments.next()) else {
        anyhow::bail!("usage: counter NAME@HOST COOKIE [PEER]")
    };
    let config = NodeConfig::new(&name)?.cookie(Cookie::new(&cookie)?);
    let node = data_publisher::start(config).await?;
    let settings = Kv::start(&node, atom!("settings"))?;
    let counter = Counter { count: 0, settings: settings.clone() };
    gen_server::start_registered(&node, atom!("counter"), counter)?;
    for peer in arguments {
        node.connect(&*peer).await?;
    }
    settings.ready().await?;
    let (all, mut changes) = settings.subscribe().await?;
    println!("ready, settings: {}", all.len());

    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    loop {
        tokio::select! {
            change = changes.next() => match change {
                Some(Notice::Event(Event::Put { node, key, value })) => println!("{node} put {key} {value}"),
                Some(Notice::Event(Event::Delete { node, key })) => println!("{node} delete {key}"),
                Some(Notice::Lagged(_)) => println!("settings: {}", settings.get_all().len()),
                None => anyhow::bail!("the scope has ended"),
            },
            line = lines.next_line() => match line? {
                Some(line) => match setting(&line) {
                    Ok((key, value)) => _ = settings.put(key, value).await?,
                    Err(error) => eprintln!("{error}"),
                },
                None => break,
            },
        }
    }
    node.stop().await;
    Ok(())
}

/// `KEY TERM`, both in Erlang's syntax.
fn setting(line: &str) -> anyhow::Result<(Term, Term)> {
    let (key, value) = line.split_once(' ').unwrap_or((line, ""));
    Ok((key.parse()?, value.parse()?))
}
