use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::time::{Instant, timeout};

use super::message::{read_ack, read_challenge, read_name, read_reply, reply_message};
use super::*;

/// The flags every OTP of today has, and a test's idea of what's mandatory.
const FLAGS: u64 = 0x0004_0307_0f94;

/// Stands for the deadline a caller puts a handshake under.
const SETUP_TIME: Duration = Duration::from_secs(7);

fn missing(offered: u64) -> u64 {
    FLAGS & !offered
}

fn name(text: &str) -> NodeName {
    NodeName::new(text).unwrap()
}

fn us(text: &str) -> Us {
    Us::new(name(text), FLAGS, Creation(7), missing)
}

fn cookie() -> Cookie {
    Cookie::new("secret").unwrap()
}

fn peer(text: &str) -> Peer {
    Peer { name: name(text), flags: FLAGS, creation: Creation(7) }
}

/// A peer of which a test writes every byte.
impl Carrier for DuplexStream {
    fn lengths(&self) -> Lengths {
        Lengths::Two
    }
}

struct Script(DuplexStream);

impl Script {
    fn new() -> (DuplexStream, Self) {
        let (ours, theirs) = duplex(64 * 1024);
        (ours, Self(theirs))
    }

    async fn says(&mut self, message: &[u8]) {
        let length = u16::try_from(message.len()).unwrap();
        self.0.write_all(&length.to_be_bytes()).await.unwrap();
        self.0.write_all(message).await.unwrap();
    }

    async fn hears(&mut self) -> Vec<u8> {
        let length = self.0.read_u16().await.unwrap();
        let mut message = vec![0; length.into()];
        self.0.read_exact(&mut message).await.unwrap();
        message
    }

    async fn hears_the_end(mut self) {
        assert_eq!(self.0.read(&mut [0]).await.unwrap(), 0);
    }

    /// Our challenge, after the peer heard it.
    async fn hears_challenge(&mut self) -> u32 {
        let message = self.hears().await;
        u32::from_be_bytes(message[9..13].try_into().unwrap())
    }
}

/// The challenge of `a@h`, 5.
fn challenge_5() -> Vec<u8> {
    let fields: [&[u8]; 6] = [
        b"N",
        &FLAGS.to_be_bytes(),
        &5_u32.to_be_bytes(), // challenge
        &7_u32.to_be_bytes(), // creation
        &[0, 3],
        b"a@h",
    ];
    fields.concat()
}

/// The name `text` with these flags and creation 7.
fn send_name(text: &[u8], flags: u64) -> Vec<u8> {
    let length = u16::try_from(text.len()).unwrap();
    [b"N", &flags.to_be_bytes()[..], &[0, 0, 0, 7], &length.to_be_bytes(), text].concat()
}

/// Both sides against each other; the accepting one gives this admission.
async fn meet(
    cookies: [&str; 2],
    admission: Admission,
) -> (Result<Peer, HandshakeError>, Result<Peer, HandshakeError>) {
    let [dialling, accepting] = cookies.map(|text| Cookie::new(text).unwrap());
    let (near, far) = duplex(64 * 1024);
    tokio::join!(async move { dial(near, &us("b@h"), &dialling, &name("a@h")).await }, async move {
        let us = us("a@h");
        let offer = receive_name(far, &us).await?;
        assert_eq!(offer.peer(), &peer("b@h"));
        let authenticated = offer.admit(admission).await?.challenge(&accepting).await?;
        assert_eq!(authenticated.peer(), &peer("b@h"));
        authenticated.ack().await
    })
}

#[tokio::test]
async fn two_nodes_with_the_same_cookie_learn_who_the_other_is() {
    for admission in [Admission::Ok, Admission::OkSimultaneous, Admission::Alive] {
        let (dialled, accepted) = meet(["c", "c"], admission).await;
        assert_eq!(dialled.unwrap(), peer("a@h"), "{admission:?}");
        assert_eq!(accepted.unwrap(), peer("b@h"), "{admission:?}");
    }
}

#[tokio::test]
async fn a_connection_that_is_up_stays_if_the_dialling_side_says_so() {
    let (mut near, far) = duplex(64 * 1024);
    let accept = async move {
        let us = us("a@h");
        let offer = receive_name(far, &us).await?;
        let cookie = Cookie::new("c").unwrap();
        offer.admit(Admission::Alive).await?.challenge(&cookie).await.map(drop)
    };
    let dial = async move {
        write_frame(&mut near, Step::Name, &name_message(&us("b@h"))).await.unwrap();
        assert!(matches!(read_status(&mut near).await, Ok(Status::Alive)));
        write_frame(&mut near, Step::AliveAnswer, b"sfalse").await.unwrap();
        near
    };
    let (_near, accepted) = tokio::join!(dial, accept);
    assert!(
        matches!(accepted, Err(HandshakeError::AlreadyConnected { peer }) if peer == name("b@h"))
    );
}

#[tokio::test]
async fn different_cookies_are_told_on_both_sides() {
    let (dialled, accepted) = meet(["c", "d"], Admission::Ok).await;
    assert!(matches!(dialled, Err(HandshakeError::BadCookie { peer }) if peer == name("a@h")));
    assert!(matches!(accepted, Err(HandshakeError::BadCookie { peer }) if peer == name("b@h")));
}

#[tokio::test]
async fn a_refusal_says_why() {
    for refusal in [Refusal::Nok, Refusal::NotAllowed] {
        let (near, far) = duplex(64 * 1024);
        let (dialled, refused) = tokio::join!(
            async { dial(near, &us("b@h"), &cookie(), &name("a@h")).await.unwrap_err() },
            async { receive_name(far, &us("a@h")).await?.refuse(refusal).await }
        );
        refused.unwrap();
        match refusal {
            Refusal::Nok => assert!(matches!(dialled, HandshakeError::PeerDials { .. })),
            Refusal::NotAllowed => {
                assert!(matches!(dialled, HandshakeError::NotAllowed { .. }));
            }
        }
    }
}

#[tokio::test]
async fn the_dialling_side_sends_these_bytes() {
    let (near, mut script) = Script::new();
    let dialled =
        tokio::spawn(async move { dial(near, &us("bc@h"), &cookie(), &name("a@h")).await });
    let name = [
        b'N', //
        0, 0, 0, 4, 3, 7, 0x0f, 0x94, // flags
        0, 0, 0, 7, // creation
        0, 4, b'b', b'c', b'@', b'h', // name
    ];
    assert_eq!(script.hears().await, name);
    script.says(b"salive").await; // `00 06 73 61 6c 69 76 65`, on which erl_dist hangs
    assert_eq!(script.hears().await, b"strue");
    // What a later protocol may add after the name is ignored.
    script.says(&[&challenge_5()[..], b"more"].concat()).await;

    let reply = script.hears().await;
    let (challenge, digest) = read_reply(&reply).unwrap();
    assert_eq!(reply.len(), 1 + 4 + 16);
    assert_eq!(digest, cookie().digest(5));
    script.says(&[b"a", &cookie().digest(challenge)[..]].concat()).await;
    assert_eq!(dialled.await.unwrap().unwrap(), peer("a@h"));
}

#[tokio::test]
async fn the_accepting_side_sends_these_bytes() {
    let (near, mut script) = Script::new();
    let accepted = tokio::spawn(async move {
        let us = us("a@h");
        let offer = receive_name(near, &us).await?;
        offer.admit(Admission::Alive).await?.challenge(&cookie()).await?.ack().await
    });
    script.says(&[&send_name(b"b@h", FLAGS)[..], b"more"].concat()).await;
    assert_eq!(script.hears().await, b"salive");
    script.says(b"strue").await; // `00 05 73 74 72 75 65`, which erl_dist takes for the reply
    let challenge = script.hears().await;
    assert_eq!(challenge[..9], [b'N', 0, 0, 0, 4, 3, 7, 0x0f, 0x94]);
    assert_eq!(challenge[13..], [0, 0, 0, 7, 0, 3, b'a', b'@', b'h']);
    let challenge = u32::from_be_bytes(challenge[9..13].try_into().unwrap());
    script.says(&reply_message(5, cookie().digest(challenge))).await;
    assert_eq!(script.hears().await, [b"a", &cookie().digest(5)[..]].concat());
    assert_eq!(accepted.await.unwrap().unwrap(), peer("b@h"));
}

#[tokio::test]
async fn a_node_without_a_name_gets_one_at_its_host() {
    let (near, mut script) = Script::new();
    let accepted = tokio::spawn(async move {
        let us = us("a@h");
        let offer = receive_name(near, &us).await?;
        offer.admit(Admission::Ok).await?.challenge(&cookie()).await?.ack().await
    });
    let flags = FLAGS | Flags::NAME_ME.0;
    script.says(&send_name(b"their.host", flags)).await;
    let status = script.hears().await;
    let rest = status.strip_prefix(b"snamed:").unwrap();
    let (length, rest) = rest.split_first_chunk().unwrap();
    let (given, creation) = rest.split_at(usize::from(u16::from_be_bytes(*length)));
    let creation = Creation(u32::from_be_bytes(creation.try_into().unwrap()));
    assert!(given.ends_with(b"@their.host") && creation.0 >= 4, "{status:?}");
    let challenge = script.hears().await;
    assert_eq!(challenge[1..9], flags.to_be_bytes());
    let challenge = u32::from_be_bytes(challenge[9..13].try_into().unwrap());
    script.says(&reply_message(5, cookie().digest(challenge))).await;
    script.hears().await;
    let given = name(std::str::from_utf8(given).unwrap());
    assert_eq!(accepted.await.unwrap().unwrap(), Peer { name: given, flags, creation });

    for bad in [&b"a@h"[..], b"", b"\xff"] {
        let (near, mut script) = Script::new();
        script.says(&send_name(bad, flags)).await;
        let error = receive_name(near, &us("a@h")).await.unwrap_err();
        assert!(matches!(error, HandshakeError::BadName { .. }), "{error}");
        script.hears_the_end().await;
    }
}

#[tokio::test]
async fn each_message_is_one_write() {
    let (near, mut far) = duplex(64 * 1024);
    tokio::spawn(async move { dial(near, &us("b@h"), &cookie(), &name("a@h")).await });
    let mut bytes = [0; 1024];
    let count = far.read(&mut bytes).await.unwrap();
    assert_eq!(bytes[..2], [0, 18]);
    assert_eq!(count, 2 + 18);
}

/// What `dial` makes of these messages of the peer, sent without waiting for ours.
async fn dial_answered_by(messages: &[&[u8]]) -> HandshakeError {
    let (near, mut script) = Script::new();
    for message in messages {
        script.says(message).await;
    }
    script.0.shutdown().await.unwrap();
    dial(near, &us("b@h"), &cookie(), &name("a@h")).await.unwrap_err()
}

#[tokio::test]
async fn a_status_we_cannot_answer_is_shown() {
    for status in ["named:\0\x03b@h\0\0\0\x07", "what", "", "OK"] {
        let error = dial_answered_by(&[format!("s{status}").as_bytes()]).await;
        assert!(matches!(error, HandshakeError::BadStatus { status: s } if s == status));
    }
    let long = [b"s", &[b'x'; 4000][..]].concat();
    assert!(dial_answered_by(&[&long]).await.to_string().len() < 200);
}

#[tokio::test]
async fn another_node_than_the_dialled_one_gets_no_proof() {
    let (near, mut script) = Script::new();
    script.says(b"sok").await;
    script.says(&challenge_5()).await;
    let error = dial(near, &us("b@h"), &cookie(), &name("c@h")).await.unwrap_err();
    assert_eq!(error.to_string(), "a@h answered where c@h was dialled; look its port up again");
    script.hears().await;
    script.hears_the_end().await;
}

#[tokio::test]
async fn a_peer_without_a_mandatory_flag_gets_no_proof() {
    let (near, mut script) = Script::new();
    let mut challenge = challenge_5();
    challenge[8] = 0x90;
    script.says(b"sok").await;
    script.says(&challenge).await;
    let error = dial(near, &us("b@h"), &cookie(), &name("a@h")).await.unwrap_err();
    assert!(matches!(error, HandshakeError::MissingFlags { missing: 4, .. }), "{error}");
    script.hears().await;
    script.hears_the_end().await;

    let (near, mut script) = Script::new();
    script.says(&send_name(b"b@h", FLAGS & !4)).await;
    let error = receive_name(near, &us("a@h")).await.unwrap_err();
    assert!(matches!(error, HandshakeError::MissingFlags { missing: 4, .. }), "{error}");
    assert_eq!(script.hears().await, b"snot_allowed");
}

#[tokio::test]
async fn the_end_after_our_proof_means_another_cookie() {
    let error = dial_answered_by(&[b"sok", &challenge_5()]).await;
    assert_eq!(error.to_string(), "a@h has another cookie; give both nodes the same one");
    let error = dial_answered_by(&[b"sok"]).await;
    assert!(matches!(error, HandshakeError::Closed { step: Step::Challenge }), "{error}");
    let error = dial_answered_by(&[]).await;
    assert!(matches!(error, HandshakeError::Closed { step: Step::Status }), "{error}");
}

#[tokio::test]
async fn a_peer_that_proves_nothing_is_not_believed() {
    for digest in [[0; 16], cookie().digest(5), cookie().digest(7)] {
        let ack = [b"a", &digest[..]].concat();
        let error = dial_answered_by(&[b"sok", &challenge_5(), &ack]).await;
        assert!(matches!(error, HandshakeError::BadCookie { .. }), "{error}");
    }
}

#[tokio::test]
async fn messages_of_the_wrong_kind_or_length_are_told_by_their_step() {
    let challenge = challenge_5();
    for (messages, step) in [
        (&[&b""[..]][..], Step::Status),
        (&[b"x"], Step::Status),
        (&[b"sok", b""], Step::Challenge),
        (&[b"sok", b"n\0\0"], Step::Challenge),
        (&[b"sok", &challenge[..8]], Step::Challenge),
        (&[b"sok", &challenge[..12]], Step::Challenge),
        (&[b"sok", &challenge[..challenge.len() - 1]], Step::Challenge),
        (&[b"sok", &challenge, b""], Step::Ack),
        (&[b"sok", &challenge, b"r"], Step::Ack),
        (&[b"sok", &challenge, &[b'a'; 16]], Step::Ack),
        (&[b"sok", &challenge, &[b'a'; 18]], Step::Ack),
    ] {
        match dial_answered_by(messages).await {
            HandshakeError::Malformed { step: at, .. } => assert_eq!(at, step, "{messages:?}"),
            other => panic!("{messages:?}: {other}"),
        }
    }
}

#[tokio::test]
async fn our_own_name_is_answered_with_nok() {
    let (near, mut script) = Script::new();
    script.says(&send_name(b"a@h", FLAGS)).await;
    let error = receive_name(near, &us("a@h")).await.unwrap_err();
    assert!(matches!(error, HandshakeError::OwnName { .. }), "{error}");
    assert_eq!(script.hears().await, b"snok");
}

#[tokio::test]
async fn a_name_that_is_none_is_closed_without_a_status() {
    for bad in [&b"b"[..], b"b@", b"@h", b"b@c@h", b"", b"b\xff@h", &[b'b'; 4000]] {
        let (near, mut script) = Script::new();
        script.says(&send_name(bad, FLAGS)).await;
        let error = receive_name(near, &us("a@h")).await.unwrap_err();
        assert!(matches!(error, HandshakeError::BadName { .. }), "{error}");
        assert!(error.to_string().len() < 200, "{error}");
        script.hears_the_end().await;
    }
}

#[tokio::test]
async fn a_bad_name_cannot_forge_a_line_of_the_log() {
    let (near, mut script) = Script::new();
    script.says(&send_name(b"b\n@h", FLAGS)).await;
    let error = receive_name(near, &us("a@h")).await.unwrap_err();
    assert!(!error.to_string().contains('\n'), "{error}");
}

#[tokio::test]
async fn a_length_over_the_limit_is_refused_before_its_bytes_came() {
    let (near, mut script) = Script::new();
    script.0.write_all(&[0xff, 0xff]).await.unwrap();
    let error = receive_name(near, &us("a@h")).await.unwrap_err();
    assert!(matches!(error, HandshakeError::TooLong { length: 65_535, .. }), "{error}");
}

#[tokio::test]
async fn a_message_has_4096_bytes_at_most() {
    // A name that long is refused as a name, not for its length.
    for (length, is_too_long) in [(MAX_FRAME, false), (MAX_FRAME + 1, true)] {
        let (near, mut script) = Script::new();
        let message = vec![b'N'; length];
        script.0.write_all(&(length as u16).to_be_bytes()).await.unwrap();
        script.0.write_all(&message).await.unwrap();
        let error = receive_name(near, &us("a@h")).await.unwrap_err();
        assert_eq!(matches!(error, HandshakeError::TooLong { .. }), is_too_long, "{error}");
    }
}

#[tokio::test]
async fn a_node_older_than_otp_23_is_told_so() {
    let (near, mut script) = Script::new();
    script.says(b"n\0\x05\0\0\0\0b@h").await;
    let error = receive_name(near, &us("a@h")).await.unwrap_err();
    assert_eq!(error.to_string(), "the peer's name is that of a node older than OTP 23");
}

#[tokio::test]
async fn alive_is_answered_with_true_or_false() {
    let (near, mut script) = Script::new();
    script.says(&send_name(b"b@h", FLAGS)).await;
    script.says(b"smaybe").await;
    let us = us("a@h");
    let offer = receive_name(near, &us).await.unwrap();
    let error = offer.admit(Admission::Alive).await.unwrap_err();
    assert!(matches!(error, HandshakeError::Malformed { step: Step::AliveAnswer, .. }));
}

#[tokio::test]
async fn a_replayed_reply_is_refused() {
    let us = us("a@h");
    let (near, mut script) = Script::new();
    script.says(&send_name(b"b@h", FLAGS)).await;
    let first = async {
        let offer = receive_name(near, &us).await?;
        offer.admit(Admission::Ok).await?.challenge(&cookie()).await?.ack().await
    };
    let sniffed = async {
        script.hears().await;
        let reply = reply_message(5, cookie().digest(script.hears_challenge().await));
        script.says(&reply).await;
        reply
    };
    let (first, sniffed) = tokio::join!(first, sniffed);
    first.unwrap();

    let (near, mut script) = Script::new();
    script.says(&send_name(b"b@h", FLAGS)).await;
    script.says(&sniffed).await;
    let offer = receive_name(near, &us).await.unwrap();
    let error = offer.admit(Admission::Ok).await.unwrap().challenge(&cookie()).await.unwrap_err();
    assert!(matches!(error, HandshakeError::BadCookie { .. }), "{error}");
}

#[tokio::test]
async fn nobody_gets_us_to_answer_our_own_challenge() {
    let us = us("b@h");
    let (near, mut asks) = Script::new();
    let accepting = async {
        let offer = receive_name(near, &us).await?;
        offer.admit(Admission::Ok).await?.challenge(&cookie()).await
    };
    let relay = async {
        asks.says(&send_name(b"a@h", FLAGS)).await;
        asks.hears().await;
        let ours = asks.hears_challenge().await;
        let (near, mut answers) = Script::new();
        let mut challenge = challenge_5();
        challenge[9..13].copy_from_slice(&ours.to_be_bytes());
        answers.says(b"sok").await;
        answers.says(&challenge).await;
        let error = dial(near, &us, &cookie(), &name("a@h")).await.unwrap_err();
        assert!(matches!(error, HandshakeError::OwnChallenge { .. }), "{error}");
        answers.hears().await;
        answers.hears_the_end().await;
        drop(asks);
    };
    let (accepted, ()) = tokio::join!(accepting, relay);
    assert!(matches!(accepted, Err(HandshakeError::Closed { step: Step::Reply })));
    assert!(us.challenges.0.lock().unwrap().is_empty());
}

#[tokio::test]
async fn what_follows_the_handshake_stays_in_the_stream() {
    let (mut near, mut script) = Script::new();
    script.says(b"sok").await;
    script.says(&challenge_5()).await;
    let us = us("b@h");
    let (cookie, a) = (cookie(), name("a@h"));
    let dialled = dial(&mut near, &us, &cookie, &a);
    let answered = async {
        script.hears().await;
        let (challenge, _) = read_reply(&script.hears().await).unwrap();
        let ack = [&[0, 17, b'a'], &cookie.digest(challenge)[..], &[0, 0, 0, 0]].concat();
        script.0.write_all(&ack).await.unwrap();
    };
    let (dialled, ()) = tokio::join!(dialled, answered);
    dialled.unwrap();
    assert_eq!(near.read_u32().await.unwrap(), 0, "a tick");
}

#[tokio::test(start_paused = true)]
async fn a_trickling_peer_does_not_stretch_the_deadline() {
    let (near, mut script) = Script::new();
    let start = Instant::now();
    let trickle = tokio::spawn(async move {
        script.0.write_all(&100_u16.to_be_bytes()).await.unwrap();
        while script.0.write_all(b"N").await.is_ok() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    });
    let us = us("a@h");
    let received = timeout(SETUP_TIME, receive_name(near, &us)).await;
    assert!(received.is_err());
    assert_eq!(start.elapsed(), SETUP_TIME);
    trickle.await.unwrap();
}

#[tokio::test]
async fn no_error_shows_a_cookie_or_a_digest() {
    let (near, mut script) = Script::new();
    script.says(&send_name(b"b@h", FLAGS)).await;
    let us = us("a@h");
    let accepting = async {
        let offer = receive_name(near, &us).await?;
        offer.admit(Admission::Ok).await?.challenge(&cookie()).await
    };
    let answering = async {
        script.hears().await;
        let challenge = script.hears_challenge().await;
        script.says(&reply_message(5, cookie().digest(challenge))).await;
    };
    let (authenticated, ()) = tokio::join!(accepting, answering);
    let shown = format!("{:?}", authenticated.unwrap());
    assert!(!shown.contains("proof") && !shown.contains("secret"), "{shown}");
}

proptest::proptest! {
    #[test]
    fn no_message_makes_reading_panic(bytes: Vec<u8>, tag in 0..4_usize) {
        let frame = [&b"Nnra"[tag..=tag], &bytes].concat();
        let _ = (read_name(&frame), read_challenge(&frame), read_reply(&frame), read_ack(&frame));
    }
}
