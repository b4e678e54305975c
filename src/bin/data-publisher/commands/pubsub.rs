//! `pubsub`: what is broadcast on a topic of a Phoenix.PubSub, or one broadcast of ours.

use std::time::Duration;

use anyhow::bail;
use data_publisher::node::{ConnectError, Node};
use data_publisher::phoenix_pubsub::{Notice, PubSub};
use data_publisher::term::{NodeName, Term};
use data_publisher::{atom, gen_server, tuple};

use super::{asked_to_end, guest, ping};
use crate::args::PubsubArgs;
use crate::{Answer, cure, output};

/// How long connecting may take, and how long the node may take to be a member.
const LIMIT: Duration = Duration::from_millis(7500);

pub(super) async fn run(args: PubsubArgs) -> anyhow::Result<Answer> {
    let name = match &args.guest.name {
        Some(name) => name.clone(),
        None => guest::own_name("pubsub", &args.node)?,
    };
    // At any port of ours: nobody needs to find us.
    let config = args.guest.access.config(&name)?.port(0).seed(args.node.clone());
    let node = data_publisher::start(config).await?;
    let result = tokio::select! {
        result = serve(&node, &args) => result,
        () = asked_to_end() => Ok(()),
    };
    node.stop().await;
    result.map(|()| Answer::Yes)
}

async fn serve(node: &Node, args: &PubsubArgs) -> anyhow::Result<()> {
    let pubsub = PubSub::start(node, &args.pubsub).await?;
    // Before anybody can send.
    let mut subscription = pubsub.subscribe(&args.topic);
    connect(node, &args.node).await?;
    if tokio::time::timeout(LIMIT, pubsub.wait_for(&args.node)).await.is_err() {
        bail!("{} has no pubsub {}", args.node, pubsub.name());
    }
    if let Some(message) = &args.publish {
        return publish(node, &pubsub, args, message).await;
    }
    while let Some(notice) = subscription.next().await {
        match notice {
            Notice::Message(message) => output::say(&message.to_string())?,
            Notice::Broadcast(broadcast) => output::say(&Term::from(broadcast).to_string())?,
            Notice::Lagged(missed) => {
                output::complain(&format!(
                    "the output is read too slowly, messages missed: {missed}"
                ));
            }
        }
    }
    bail!("the pubsub {} was ended from outside", pubsub.name())
}

/// Broadcasts to all nodes of the cluster that have the pubsub, not only to those that the search has
/// found by now.
async fn publish(
    node: &Node,
    pubsub: &PubSub,
    args: &PubsubArgs,
    message: &Term,
) -> anyhow::Result<()> {
    let request = tuple![atom!("call"), atom!("erlang"), atom!("nodes"), Term::NIL, atom!("user")];
    let known = gen_server::call(node, (atom!("rex"), args.node.clone()), request).await?;
    let others = known.list()?.iter().filter_map(|other| other.node_name().ok());
    let others: Vec<NodeName> = others.filter(|other| other != node.name()).collect();
    let connected =
        futures::future::join_all(others.iter().map(|other| connect(node, other))).await;
    for error in connected.into_iter().filter_map(Result::err) {
        output::complain(&format!("left out: {}", cure::sentence(&error.into())));
    }
    pubsub.ready().await?;
    pubsub.broadcast(&args.topic, message).await?;
    // Who answers this has got that.
    let members = pubsub.nodes();
    for answered in
        futures::future::join_all(members.iter().map(|member| ping::ask(node, member))).await
    {
        answered?;
    }
    Ok(())
}

async fn connect(node: &Node, peer: &NodeName) -> Result<(), ConnectError> {
    let late = |_| ConnectError::Timeout { node: peer.clone() };
    tokio::time::timeout(LIMIT, node.connect(peer)).await.map_err(late)?
}
