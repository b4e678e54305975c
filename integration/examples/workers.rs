//! A worker in a group of `pg`, among those of a BEAM cluster: it tells who joins or leaves the group, on whatever
//! node, and does the work it's sent. The end of input ends it.
//!
//! `cargo run --example workers -- NAME@HOST COOKIE GROUP [PEER]`
//!
//! Its colleague on a BEAM node, after `pg:start(pg)`: `pg:join(GROUP, self())`. Who has work for it:
//! `[Pid | _] = pg:get_members(GROUP), Pid ! {self(), Work}`, and gets `{Pid, done, Work}`.

#![expect(clippy::print_stdout, reason = "it's what it's for")]

use data_publisher::pg::{Event, Pg};
use data_publisher::term::{Atom, Term};
use data_publisher::{Cookie, NodeConfig, atom, tuple};
use tokio::io::{AsyncBufReadExt, BufReader};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (Some(name), Some(cookie), Some(group)) =
        (arguments.next(), arguments.next(), arguments.next())
    else {
        anyhow::bail!("usage: workers NAME@HOST COOKIE GROUP [PEER]")
    };
    let group = Term::from(Atom::new(&group)?);
    let config = NodeConfig::new(&name)?.cookie(Cookie::new(&cookie)?);
    let node = data_publisher::start(config).await?;
    for peer in arguments {
        node.connect(&*peer).await?;
    }

    let pg = Pg::start(&node, atom!("pg"))?;
    // A pid and a mailbox. When it's dropped, the process has ended, and left all its groups.
    let mut worker = node.spawn();
    let (members, mut events) = pg.monitor(group.clone()).await?;
    for pid in members.iter() {
        println!("here {pid}");
    }
    pg.join(group, worker.pid()).await?;

    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    loop {
        tokio::select! {
            event = events.next() => match event {
                Some(Event::Join { pids, .. }) => pids.iter().for_each(|pid| println!("join {pid}")),
                Some(Event::Leave { pids, .. }) => pids.iter().for_each(|pid| println!("leave {pid}")),
                None => anyhow::bail!("the scope has ended"),
            },
            received = worker.receive() => {
                let Some(received) = received else { anyhow::bail!("somebody has ended the worker") };
                let message = received.into_term();
                println!("got {message}");
                // `{From, Work}` is answered, as a worker of Erlang's would.
                if let Ok([Term::Pid(from), work]) = message.tuple::<2>() {
                    node.send(from, tuple![worker.pid(), atom!("done"), work]).await?;
                }
            },
            line = lines.next_line() => if line?.is_none() {
                break;
            },
        }
    }
    node.stop().await;
    Ok(())
}
