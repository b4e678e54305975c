//! A stub resolver, for what the system's look-up doesn't give: SRV records, and name servers of one's
//! own.
//!
//! Questions go over UDP, and over TCP if the answer is too long for that. Nothing is kept: a source
//! is asked every few seconds, and name servers keep it for as long as they should.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use simple_dns::rdata::RData;
use simple_dns::{CLASS, Name, Packet, PacketFlag, QCLASS, QTYPE, Question, RCODE, TYPE};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

/// For one question to one server.
const PATIENCE: Duration = Duration::from_secs(2);

/// How often all servers are asked.
const ROUNDS: usize = 2;

/// The servers to ask and how a name is completed.
#[derive(Debug)]
pub(super) struct Stub {
    servers: Vec<SocketAddr>,
    search: Vec<String>,
    /// A name with so many dots is tried as it is first.
    dots: usize,
}

/// An answer that counts.
enum Answer<T> {
    Records(Vec<T>),
    /// There is no such name, or it has no such record.
    Nothing,
}

impl Stub {
    /// Asks this server; names are taken as they are.
    pub(super) fn of(server: SocketAddr) -> Self {
        Self { servers: vec![server], search: Vec::new(), dots: 0 }
    }

    /// Asks the servers of `/etc/resolv.conf`, read anew each time: it may change while we run.
    pub(super) async fn of_the_system() -> io::Result<Self> {
        let read = tokio::task::spawn_blocking(|| std::fs::read("/etc/resolv.conf"));
        let config = resolv_conf::Config::parse(read.await??).map_err(io::Error::other)?;
        let servers = config.nameservers.iter().map(|ip| {
            let ip = match ip {
                resolv_conf::ScopedIp::V4(ip) => IpAddr::V4(*ip),
                resolv_conf::ScopedIp::V6(ip, _) => IpAddr::V6(*ip),
            };
            SocketAddr::new(ip, 53)
        });
        let mut servers: Vec<_> = servers.collect();
        if servers.is_empty() {
            servers.push(SocketAddr::from((Ipv4Addr::LOCALHOST, 53)));
        }
        let search = config.get_last_search_or_domain().cloned().collect();
        Ok(Self { servers, search, dots: config.ndots as usize })
    }

    /// The records of a kind that a name has, each as `read` takes it. [`io::ErrorKind::NotFound`] when
    /// there's none.
    pub(super) async fn ask<T>(
        &self,
        name: &str,
        kind: TYPE,
        read: impl Fn(&RData<'_>) -> Option<T>,
    ) -> io::Result<Vec<T>> {
        for full in self.full_names(name) {
            if let Answer::Records(records) = self.ask_servers(&full, kind, &read).await? {
                return Ok(records);
            }
        }
        let what = format!("{name} has no record of kind {kind:?}");
        Err(io::Error::new(io::ErrorKind::NotFound, what))
    }

    /// As `resolv.conf(5)` has it.
    fn full_names(&self, name: &str) -> Vec<String> {
        if name.ends_with('.') {
            return vec![name.to_owned()];
        }
        let completed = self.search.iter().map(|domain| format!("{name}.{domain}"));
        let as_it_is = std::iter::once(name.to_owned());
        if name.matches('.').count() >= self.dots {
            as_it_is.chain(completed).collect()
        } else {
            completed.chain(as_it_is).collect()
        }
    }

    async fn ask_servers<T>(
        &self,
        name: &str,
        kind: TYPE,
        read: &impl Fn(&RData<'_>) -> Option<T>,
    ) -> io::Result<Answer<T>> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "there's no name server");
        for _ in 0..ROUNDS {
            for &server in &self.servers {
                let asked = timeout(PATIENCE, ask_server(server, name, kind, read)).await;
                match asked.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
                    Ok(answer) => return Ok(answer),
                    Err(error) => {
                        last =
                            io::Error::new(error.kind(), format!("name server {server}: {error}"));
                    }
                }
            }
        }
        Err(last)
    }
}

async fn ask_server<T>(
    server: SocketAddr,
    name: &str,
    kind: TYPE,
    read: &impl Fn(&RData<'_>) -> Option<T>,
) -> io::Result<Answer<T>> {
    let id = rand::random();
    let question = question(id, name, kind)?;
    let own: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    // Connected: only that server's packets arrive.
    let socket = UdpSocket::bind((own, 0)).await?;
    socket.connect(server).await?;
    socket.send(&question).await?;
    let mut packet = vec![0; 4096];
    loop {
        let length = socket.recv(&mut packet).await?;
        let packet = packet.get(..length).unwrap_or_default();
        match read_answer(packet, id, name, kind, read) {
            Ok(Some(answer)) => return Ok(answer),
            Ok(None) => break,
            // Not the answer to this question: who can't see it may have guessed.
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {}
            Err(error) => return Err(error),
        }
    }
    let packet = ask_by_tcp(server, &question).await?;
    let answer = read_answer(&packet, id, name, kind, read)?;
    answer.ok_or_else(|| io::Error::other("an answer cut off, over TCP"))
}

async fn ask_by_tcp(server: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(question.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), question].concat()).await?;
    let length = stream.read_u16().await?;
    let mut packet = vec![0; usize::from(length)];
    stream.read_exact(&mut packet).await?;
    Ok(packet)
}

fn question(id: u16, name: &str, kind: TYPE) -> io::Result<Vec<u8>> {
    let mut packet = Packet::new_query(id);
    packet.set_flags(PacketFlag::RECURSION_DESIRED);
    let name = Name::new(name).map_err(io::Error::other)?;
    packet.questions.push(Question::new(name, QTYPE::TYPE(kind), QCLASS::CLASS(CLASS::IN), false));
    packet.build_bytes_vec().map_err(io::Error::other)
}

/// Reads an answer; `None` for one that was cut off. [`io::ErrorKind::InvalidData`] when it isn't the
/// answer to this question.
fn read_answer<T>(
    packet: &[u8],
    id: u16,
    name: &str,
    kind: TYPE,
    read: &impl Fn(&RData<'_>) -> Option<T>,
) -> io::Result<Option<Answer<T>>> {
    let other = |what| io::Error::new(io::ErrorKind::InvalidData, what);
    let packet = Packet::parse(packet).map_err(|_| other("no DNS packet"))?;
    let is_ours = |question: &Question<'_>| {
        let asked = question.qname.to_string();
        asked.trim_end_matches('.').eq_ignore_ascii_case(name.trim_end_matches('.'))
            && question.qtype == QTYPE::TYPE(kind)
    };
    if packet.id() != id
        || !packet.has_flags(PacketFlag::RESPONSE)
        || !packet.questions.first().is_some_and(is_ours)
    {
        return Err(other("an answer to something else"));
    }
    if packet.has_flags(PacketFlag::TRUNCATION) {
        return Ok(None);
    }
    match packet.rcode() {
        RCODE::NoError => {
            // Of aliases, too: the server has followed them.
            let records: Vec<T> =
                packet.answers.iter().filter_map(|record| read(&record.rdata)).collect();
            Ok(Some(if records.is_empty() { Answer::Nothing } else { Answer::Records(records) }))
        }
        RCODE::NameError => Ok(Some(Answer::Nothing)),
        refused => Err(io::Error::other(format!("it refused, {refused:?}"))),
    }
}
