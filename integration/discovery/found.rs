//! Sources of names.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use anyhow::Result;
use data_publisher::discovery::Dns;
use data_publisher::term::NodeName;
use simple_dns::rdata::{A, RData, SRV};
use simple_dns::{CLASS, Name, Packet, QTYPE, ResourceRecord, TYPE};
use tokio::net::UdpSocket;

use super::{config, talks, wait_nodes};
use crate::cli::Cli;
use crate::otp::on_each_release;
use crate::support::{Epmd, ErlNode, Otp, SOON, cookie, wait_eval};

on_each_release! {
    nodes_of_a_host_are_found_and_found_again
    nodes_at_the_addresses_of_a_name_are_found
    a_source_of_ones_own_is_asked_and_one_that_fails_hinders_nobody
    join_finds_nodes_by_its_options
}

/// A node at another loopback address, so that a name and an address mean one node.
async fn beam(otp: Otp, name: &str, host: &str, epmd: &Epmd) -> Result<ErlNode> {
    // They shall be found by us, not tell each other.
    ErlNode::options(otp, name, epmd.port()).host(host).connect_all_false().start().await
}

async fn nodes_of_a_host_are_found_and_found_again(otp: Otp) -> Result<()> {
    let epmd = Epmd::start_of(otp).await?;
    let mut a = ErlNode::options(otp, "a", epmd.port()).connect_all_false().start().await?;
    // EPMD there is none: it's said once and goes on.
    let config = config("r@127.0.0.1", epmd.port())?.mesh(false);
    let rust = data_publisher::start(config.epmd_host("127.0.0.9").epmd_host("127.0.0.1")).await?;
    wait_nodes(&rust, &["a@127.0.0.1"]).await?;
    let b = ErlNode::options(otp, "b", epmd.port()).connect_all_false().start().await?;
    wait_nodes(&rust, &["a@127.0.0.1", "b@127.0.0.1"]).await?;
    a.restart().await?;
    wait_nodes(&rust, &["a@127.0.0.1", "b@127.0.0.1"]).await?;
    talks(&a, &rust).await?;
    assert_eq!(b.eval("nodes()").await?, "['r@127.0.0.1']");
    a.finish().await?;
    b.finish().await
}

/// What the name server says of `app.test`: the last bytes of addresses in 127.0.0.0/8.
type Addresses = Arc<Mutex<Vec<u8>>>;

fn known(addresses: &Addresses) -> MutexGuard<'_, Vec<u8>> {
    addresses.lock().expect("nothing panics while it holds the lock")
}

/// A name server that knows `app.test`: its addresses, and a service at the first of them.
async fn name_server(addresses: Addresses) -> Result<SocketAddr> {
    let socket = UdpSocket::bind("127.0.0.1:0").await?;
    let at = socket.local_addr()?;
    tokio::spawn(async move {
        let mut bytes = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut bytes).await {
            let Ok(asked) = Packet::parse(&bytes[..length]) else { continue };
            let mut reply = Packet::new_reply(asked.id());
            reply.questions.clone_from(&asked.questions);
            let addresses = known(&addresses).clone();
            let data: Vec<RData<'_>> = match asked.questions[0].qtype {
                QTYPE::TYPE(TYPE::A) => {
                    let address = |last: &u8| A { address: u32::from_be_bytes([127, 0, 0, *last]) };
                    addresses.iter().map(|last| RData::A(address(last))).collect()
                }
                QTYPE::TYPE(TYPE::SRV) => {
                    let target = Name::new_unchecked("localhost.localdomain");
                    vec![RData::SRV(SRV { priority: 0, weight: 0, port: 0, target })]
                }
                _ => Vec::new(),
            };
            let record = |data| {
                let name = asked.questions[0].qname.clone();
                ResourceRecord::new(name, CLASS::IN, 5, data)
            };
            reply.answers = data.into_iter().map(record).collect();
            if let Ok(reply) = reply.build_bytes_vec() {
                let _ = socket.send_to(&reply, from).await;
            }
        }
    });
    Ok(at)
}

async fn nodes_at_the_addresses_of_a_name_are_found(otp: Otp) -> Result<()> {
    let epmd = Epmd::start_of(otp).await?;
    let a = beam(otp, "app", "127.0.0.2", &epmd).await?;
    let b = beam(otp, "bpp", "127.0.0.3", &epmd).await?;
    let addresses = Addresses::new(Mutex::new(vec![2]));
    let server = name_server(addresses.clone()).await?;
    let config = config("r@127.0.0.1", epmd.port())?.mesh(false);
    let config = config
        .discovery(Dns::addresses("app.test", "app").server(server))
        .discovery(Dns::addresses("app.test", "bpp").server(server))
        .discovery(Dns::services("app.test", "nobody").server(server));
    let rust = data_publisher::start(config).await?;
    wait_nodes(&rust, &["app@127.0.0.2"]).await?;
    known(&addresses).push(3);
    wait_nodes(&rust, &["app@127.0.0.2", "bpp@127.0.0.3"]).await?;
    talks(&a, &rust).await?;
    a.finish().await?;
    b.finish().await
}

async fn a_source_of_ones_own_is_asked_and_one_that_fails_hinders_nobody(otp: Otp) -> Result<()> {
    let epmd = Epmd::start_of(otp).await?;
    let a = ErlNode::start(otp, "a", &epmd).await?;
    let good = async || Ok(vec![NodeName::new("a@127.0.0.1").map_err(std::io::Error::other)?]);
    let config = config("r@127.0.0.1", epmd.port())?
        .discovery(|| async { Err(std::io::Error::other("broken")) })
        .discovery(std::future::pending)
        .discovery(move || Box::pin(good()));
    let rust = data_publisher::start(config).await?;
    wait_nodes(&rust, &["a@127.0.0.1"]).await?;
    talks(&a, &rust).await?;
    a.finish().await
}

async fn join_finds_nodes_by_its_options(otp: Otp) -> Result<()> {
    let epmd = Epmd::start_of(otp).await?;
    let a = ErlNode::start(otp, "a", &epmd).await?;
    let join = |name, how: &[&'static str]| {
        let all = ["join", "--cookie", cookie(), "--no-mesh", "--name", name];
        Cli::start(epmd.port(), &[&all[..], how].concat())
    };
    let _by_host = join("h@127.0.0.1", &["--epmd-hosts", "127.0.0.9,127.0.0.1"])?;
    wait_eval(&a, "nodes()", "['h@127.0.0.1']", SOON).await?;
    // The system's own look-up takes an address for a name.
    let _by_name = join("n@127.0.0.1", &["--dns", "a@127.0.0.1"])?;
    wait_eval(&a, "lists:sort(nodes())", "['h@127.0.0.1','n@127.0.0.1']", SOON).await?;
    a.finish().await
}
