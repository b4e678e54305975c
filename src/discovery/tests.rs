//! The sources against servers of the tests' own.

use std::net::SocketAddr;

use simple_dns::rdata::{A, AAAA, RData, SRV};
use simple_dns::{CLASS, Name, Packet, PacketFlag, RCODE, ResourceRecord};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, UdpSocket};

use super::*;
use crate::epmd::{Epmd, EpmdServer, NodeKind};

/// A name server at 127.0.0.1 that answers every question by what `answer` makes of it, over UDP and TCP.
async fn server(answer: fn(&Packet<'_>, bool) -> Vec<Vec<u8>>) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let at = socket.local_addr().unwrap();
    let listener = TcpListener::bind(at).await.unwrap();
    tokio::spawn(async move {
        let mut bytes = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut bytes).await {
            for packet in answer(&Packet::parse(&bytes[..length]).unwrap(), false) {
                socket.send_to(&packet, from).await.unwrap();
            }
        }
    });
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut question = vec![0; usize::from(stream.read_u16().await.unwrap())];
            stream.read_exact(&mut question).await.unwrap();
            for packet in answer(&Packet::parse(&question).unwrap(), true) {
                stream.write_u16(packet.len() as u16).await.unwrap();
                stream.write_all(&packet).await.unwrap();
            }
        }
    });
    at
}

fn reply<'a>(question: &Packet<'a>, records: Vec<RData<'a>>) -> Packet<'a> {
    let mut packet = Packet::new_reply(question.id());
    packet.questions.clone_from(&question.questions);
    let name = question.questions[0].qname.clone();
    let record = |data| ResourceRecord::new(name.clone(), CLASS::IN, 30, data);
    packet.answers = records.into_iter().map(record).collect();
    packet
}

fn bytes(packet: &Packet<'_>) -> Vec<u8> {
    packet.build_bytes_vec().unwrap()
}

fn address(last: u8) -> RData<'static> {
    RData::A(A { address: u32::from_be_bytes([127, 0, 0, last]) })
}

fn names(nodes: &[NodeName]) -> Vec<&str> {
    nodes.iter().map(NodeName::as_str).collect()
}

#[tokio::test]
async fn addresses_of_both_kinds_and_targets_of_services_are_hosts() {
    fn answer(question: &Packet<'_>, _: bool) -> Vec<Vec<u8>> {
        use simple_dns::{QTYPE, TYPE};
        let target = Name::new_unchecked("app-0.app.default.svc.cluster.local");
        let data = match question.questions[0].qtype {
            QTYPE::TYPE(TYPE::A) => vec![address(3), address(2), address(2)],
            QTYPE::TYPE(TYPE::AAAA) => vec![RData::AAAA(AAAA { address: 1 })],
            _ => vec![RData::SRV(SRV { priority: 10, weight: 50, port: 0, target })],
        };
        vec![bytes(&reply(question, data))]
    }
    let at = server(answer).await;
    let found = Dns::addresses("app.test", "app").server(at).nodes().await.unwrap();
    assert_eq!(names(&found), ["app@127.0.0.2", "app@127.0.0.3", "app@::1"]);
    let found = Dns::services("app.test.", "app").server(at).nodes().await.unwrap();
    assert_eq!(names(&found), ["app@app-0.app.default.svc.cluster.local"]);
}

#[tokio::test]
async fn a_long_answer_comes_by_tcp() {
    fn answer(question: &Packet<'_>, by_tcp: bool) -> Vec<Vec<u8>> {
        let mut packet = reply(question, Vec::new());
        if by_tcp {
            packet = reply(question, (1..=200).map(address).collect());
        } else {
            packet.set_flags(PacketFlag::TRUNCATION);
        }
        vec![bytes(&packet)]
    }
    let at = server(answer).await;
    let found = Dns::addresses("app.test", "app").server(at).nodes().await.unwrap();
    assert_eq!(found.len(), 200);
}

#[tokio::test]
async fn what_answers_no_question_of_ours_is_passed_over() {
    fn answer(question: &Packet<'_>, _: bool) -> Vec<Vec<u8>> {
        let good = reply(question, vec![address(2)]);
        let mut other_id = bytes(&reply(question, vec![address(9)]));
        other_id[0] ^= 1;
        let mut other_name = reply(question, vec![address(9)]);
        other_name.questions[0].qname = Name::new_unchecked("other.test");
        // A name that points to itself, for ever.
        let mut endless = bytes(&good);
        endless[12..14].copy_from_slice(&[0xc0, 12]);
        vec![
            b"no packet".to_vec(),
            Vec::new(),
            other_id,
            bytes(&other_name),
            endless,
            bytes(&good)[..20].to_vec(),
            bytes(question),
            bytes(&good),
        ]
    }
    let at = server(answer).await;
    let found = Dns::addresses("app.test", "app").server(at).nodes().await.unwrap();
    assert_eq!(names(&found), ["app@127.0.0.2"]);
}

#[tokio::test]
async fn a_name_that_is_not_there_and_a_server_that_refuses_are_errors() {
    fn no_such_name(question: &Packet<'_>, _: bool) -> Vec<Vec<u8>> {
        let mut packet = reply(question, Vec::new());
        *packet.rcode_mut() = RCODE::NameError;
        vec![bytes(&packet)]
    }
    fn refused(question: &Packet<'_>, _: bool) -> Vec<Vec<u8>> {
        let mut packet = reply(question, Vec::new());
        *packet.rcode_mut() = RCODE::Refused;
        vec![bytes(&packet)]
    }
    let dns = Dns::services("app.test", "app");
    let error = dns.clone().server(server(no_such_name).await).nodes().await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotFound, "{error}");
    let error = dns.server(server(refused).await).nodes().await.unwrap_err();
    assert!(error.to_string().contains("refused"), "{error}");
}

#[tokio::test]
async fn the_systems_own_look_up_knows_localhost() {
    let found = Dns::addresses("localhost", "app").nodes().await.unwrap();
    assert!(names(&found).contains(&"app@127.0.0.1"), "{found:?}");
}

#[tokio::test]
async fn all_nodes_of_a_host_are_found() {
    let server = EpmdServer::bind_loopback(0).await.unwrap();
    let epmd = Epmd::new(server.port());
    let _a = epmd.register("a", 1, NodeKind::Visible).await.unwrap();
    let _b = epmd.register("b", 2, NodeKind::Hidden).await.unwrap();
    let found = EpmdHost::new("127.0.0.1", epmd).nodes().await.unwrap();
    assert_eq!(names(&found), ["a@127.0.0.1", "b@127.0.0.1"]);
    drop(server);
    assert!(EpmdHost::new("127.0.0.1", epmd).nodes().await.is_err());
}
