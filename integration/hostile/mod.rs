//! A peer that means harm, or is broken: bytes of our choice at a Rust node's port.
//!
//! What is malformed closes the connection it came over, with the reason in `NodeEvent::Down`; the other
//! connections and the scope don't notice.

mod answers;
mod beyond;
mod crowds;
mod frames;
mod handshake;
mod lists;
mod races;
mod raw;
mod shapes;

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use data_publisher::node::{DownReason, Limits, Node, NodeEvent, Process};
use data_publisher::term::{Atom, NodeName, Term};
use data_publisher::{Cookie, NodeConfig, Pg};

use self::raw::Raw;
use crate::support::{SOON, cookie, free_port, wait_until};

const VICTIM: &str = "victim@127.0.0.1";
const FRIEND: &str = "friend@127.0.0.1";

/// A Rust node with a scope, `pg`, and a friend whose connection must never suffer.
struct Victim {
    node: Node,
    pg: Pg,
    events: Arc<Mutex<Vec<NodeEvent>>>,
    friend_pg: Pg,
    friends_worker: Process,
    epmd_port: u16,
}

fn config(name: &str, epmd_port: u16, limits: Limits) -> Result<NodeConfig> {
    let config = NodeConfig::new(name)?.cookie(Cookie::new(cookie())?).epmd_port(epmd_port);
    Ok(config.mesh(false).limits(limits))
}

impl Victim {
    async fn start() -> Result<Self> {
        Self::with_limits(|_| {}).await
    }

    async fn with_limits(set: impl FnOnce(&mut Limits)) -> Result<Self> {
        let epmd_port = free_port()?;
        let mut limits = Limits::default();
        set(&mut limits);
        let node = data_publisher::start(config(VICTIM, epmd_port, limits)?).await?;
        let pg = Pg::start(&node, Atom::new("pg")?)?;
        let events = Arc::<Mutex<Vec<_>>>::default();
        let (mut source, seen) = (node.events(), events.clone());
        // Ends with the node.
        tokio::spawn(async move {
            while let Some(event) = source.next().await {
                seen.lock().unwrap_or_else(PoisonError::into_inner).push(event);
            }
        });
        let friend = config(FRIEND, epmd_port, Limits::default())?.seed(VICTIM.parse()?);
        let friend = data_publisher::start(friend).await?;
        let friend_pg = Pg::start(&friend, Atom::new("pg")?)?;
        let friends_worker = friend.spawn();
        let victim = Self { node, pg, events, friend_pg, friends_worker, epmd_port };
        victim.assert_unharmed().await?;
        Ok(victim)
    }

    /// A raw peer whose connection is up on both ends.
    async fn attacker(&self, name: &str) -> Result<Raw> {
        let raw = Raw::dial(self.node.port(), name).await?;
        wait_until("the attacker is up", SOON, async || {
            let nodes = self.node.nodes();
            nodes.contains(raw.name()).then_some(()).ok_or(format!("{nodes:?}"))
        })
        .await?;
        Ok(raw)
    }

    /// A process of the victim, registered under a name.
    fn target(&self, name: &str) -> Result<Process> {
        let process = self.node.spawn();
        self.node.register(Atom::new(name)?, process.pid())?;
        Ok(process)
    }

    fn events(&self) -> Vec<NodeEvent> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn downs(&self, name: &NodeName) -> Vec<DownReason> {
        let downs = self.events().into_iter().filter_map(|event| match event {
            NodeEvent::Down { node, reason } if node == *name => Some(reason),
            _ => None,
        });
        downs.collect()
    }

    /// Why the connection to the node went down, once it did.
    async fn down_reason(&self, name: &NodeName) -> Result<DownReason> {
        wait_until(&format!("{name} is down"), SOON, async || {
            self.downs(name).pop().ok_or_else(|| format!("{:?}", self.events()))
        })
        .await
    }

    /// The friend is connected, has been all the time, and its scope and ours agree.
    async fn assert_unharmed(&self) -> Result<()> {
        let group = Term::from(self.node.make_ref());
        self.friend_pg.join(group.clone(), self.friends_worker.pid()).await?;
        wait_until("the friend's member is seen", SOON, async || {
            let members = self.pg.get_members(&group);
            (*members == [self.friends_worker.pid().clone()])
                .then_some(())
                .ok_or_else(|| format!("{members:?}, {:?}", self.events()))
        })
        .await
        .context("harm was done")?;
        assert_eq!(self.downs(&FRIEND.parse()?), [], "the friend was disconnected");
        Ok(())
    }
}
