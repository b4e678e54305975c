//! Frames with lists of atoms, and fragments: right ones, wrong ones, and those that never end.

use anyhow::Result;
use data_publisher::node::{DownReason, Received};
use data_publisher::term::{Reference, Term};
use data_publisher::wire::signal::Signal;
use data_publisher::wire::{self, Flags};
use data_publisher::{atom, tuple};

use super::Victim;
use super::raw::Raw;
use crate::support::SOON;

async fn attacker(victim: &Victim, name: &str) -> Result<Raw> {
    Raw::dial_offering(Flags::OFFERED, victim.node.port(), name).await
}

/// `REG_SEND` to `target` of this payload, without the bytes 131, as it stands behind a list of atoms.
fn body(peer: &Raw, payload: &[u8]) -> Vec<u8> {
    let from = encoded(&peer.pid(1).into());
    [&[104, 4, 97, 6], &from[..], &[119, 0, 119, 6], b"target", payload].concat()
}

fn encoded(term: &Term) -> Vec<u8> {
    let mut bytes = Vec::new();
    wire::encode(term, &mut bytes).expect("it's small");
    bytes.split_off(1)
}

fn fragment(kind: u8, sequence: u64, fragment: u64, rest: &[u8]) -> Vec<u8> {
    [&[131, kind], &sequence.to_be_bytes()[..], &fragment.to_be_bytes(), rest].concat()
}

#[tokio::test]
async fn messages_of_every_kind_of_frame_arrive() -> Result<()> {
    let victim = Victim::start().await?;
    let mut target = victim.target("target")?;
    let mut peer = attacker(&victim, "x@127.0.0.1").await?;

    // The whole in one frame; then with an atom that is new, and with that atom from its slot.
    peer.frame(&[&[131, 68, 0], &body(&peer, &[119, 1, b'a'])[..]].concat()).await?;
    let listed = body(&peer, &[104, 2, 82, 0, 82, 0]);
    peer.frame(&[&[131, 68, 1, 8, 9, 2, b'h', b'i'], &listed[..]].concat()).await?;
    peer.frame(&[&[131, 68, 1, 0, 9], &listed[..]].concat()).await?;
    // In fragments that cross, with an empty one, and one that holds all.
    let (first, second) = (body(&peer, &[107, 0, 3, 1]), body(&peer, &[104, 1, 82, 0]));
    peer.frame(&fragment(69, 5, 3, &[&[0], &first[..]].concat())).await?;
    peer.frame(&fragment(69, u64::MAX, 1, &[&[1, 0, 9], &second[..]].concat())).await?;
    peer.frame(&fragment(70, 5, 2, &[])).await?;
    peer.frame(&[]).await?;
    peer.frame(&fragment(70, 5, 1, &[2, 3])).await?;

    let hi = atom!("hi");
    let one_two_three = Term::list_of([1, 2, 3].map(Term::from));
    for expected in
        [atom!("a").into(), tuple![&hi, &hi], tuple![&hi, &hi], tuple![&hi], one_two_three]
    {
        let received = tokio::time::timeout(SOON, target.receive()).await?;
        assert_eq!(received.map(Received::into_term), Some(expected));
    }
    victim.assert_unharmed().await
}

#[tokio::test]
async fn frames_that_do_not_fit_what_was_agreed_on_close() -> Result<()> {
    let victim = Victim::start().await?;
    let mut target = victim.target("target")?;
    let peer = attacker(&victim, "x@127.0.0.1").await?;
    let hi = body(&peer, &[119, 2, b'h', b'i']);
    drop(peer);
    let wrong = [
        ("the simplest kind", [&[112, 131], &hi[..]].concat()),
        ("no kind", vec![131, 71, 0]),
        ("one byte", vec![131]),
        ("no list", vec![131, 68]),
        ("a list that ends early", vec![131, 68, 255, 8]),
        ("an empty slot", [&[131, 68, 1, 0, 9], &hi[..]].concat()),
        ("an atom not in UTF-8", [&[131, 68, 1, 8, 9, 1, 0xff], &hi[..]].concat()),
        (
            "an atom beyond the list",
            [&[131, 68, 1, 8, 9, 1, b'a'], &hi[..hi.len() - 4], &[82, 1]].concat(),
        ),
        ("an atom of no list", [&[131, 68, 0], &hi[..hi.len() - 4], &[82, 0]].concat()),
        ("a 131 in a term", [&[131, 68, 0, 131], &hi[..]].concat()),
        ("a fragment without a number", vec![131, 69, 0, 0]),
        ("fragment 0", fragment(69, 1, 0, &[&[0], &hi[..]].concat())),
        ("a fragment of nothing", fragment(70, 1, 1, &hi)),
        ("a whole message that is none", fragment(69, 1, 1, &[0, 1, 2, 3])),
    ];
    for (number, (what, frame)) in wrong.iter().enumerate() {
        let mut peer = attacker(&victim, &format!("x{number}@127.0.0.1")).await?;
        peer.frame(frame).await?;
        peer.wait_closed().await?;
        let reason = victim.down_reason(peer.name()).await?;
        assert!(matches!(reason, DownReason::BadFrame(_)), "{what}: {reason}");
    }
    assert!(target.try_receive().is_none());
    victim.assert_unharmed().await
}

#[tokio::test]
async fn fragments_out_of_order_close() -> Result<()> {
    let victim = Victim::start().await?;
    for (number, second) in [(70, 3), (70, 1), (70, 0), (69, 3), (70, u64::MAX)].iter().enumerate()
    {
        let mut peer = attacker(&victim, &format!("x{number}@127.0.0.1")).await?;
        let start = body(&peer, &[]);
        peer.frame(&fragment(69, 1, 3, &[&[0], &start[..]].concat())).await?;
        peer.frame(&fragment(second.0, 1, second.1, &[0])).await?;
        peer.wait_closed().await?;
        let reason = victim.down_reason(peer.name()).await?;
        assert!(matches!(reason, DownReason::BadFrame(_)), "{second:?}: {reason}");
    }
    victim.assert_unharmed().await
}

#[tokio::test]
async fn messages_that_never_end_close() -> Result<()> {
    let victim = Victim::with_limits(|limits| {
        limits.fragmented = 3;
        limits.fragment_bytes = 1 << 20;
    })
    .await?;
    let mut many = attacker(&victim, "many@127.0.0.1").await?;
    let start = [&[0], &body(&many, &[])[..]].concat();
    for sequence in 0..3 {
        many.frame(&fragment(69, sequence, u64::MAX, &start)).await?;
    }
    // Three may be, and the connection serves others meanwhile.
    let reference = many.reference(1);
    let is_auth = tuple![atom!("is_auth"), many.name()];
    let from = tuple![many.pid(1), &reference];
    let call = encoded(&tuple![atom!("$gen_call"), from, is_auth]);
    let mut frame = vec![131, 68, 0, 104, 4, 97, 6];
    frame.extend(encoded(&many.pid(1).into()));
    frame.extend(encoded(&atom!("").into()));
    frame.extend(encoded(&atom!("net_kernel").into()));
    frame.extend(call);
    many.frame(&frame).await?;
    answered(&mut many, &reference).await?;
    many.frame(&fragment(69, 3, u64::MAX, &start)).await?;
    many.wait_closed().await?;
    let reason = victim.down_reason(many.name()).await?;
    assert_eq!(reason.to_string(), "bad_frame: more than 3 sequences of fragments at once");

    let mut large = attacker(&victim, "large@127.0.0.1").await?;
    large.frame(&fragment(69, 1, 1000, &start)).await?;
    for number in (900..1000).rev() {
        if large.frame(&fragment(70, 1, number, &vec![7; 60_000])).await.is_err() {
            break;
        }
    }
    large.wait_closed().await?;
    let reason = victim.down_reason(large.name()).await?;
    assert_eq!(reason.to_string(), "bad_frame: more than 1048576 bytes in fragments");
    victim.assert_unharmed().await
}

/// Waits for `{Reference, yes}`, to whomever.
async fn answered(peer: &mut Raw, reference: &Reference) -> Result<()> {
    let expected = tuple![reference, atom!("yes")];
    peer.expect("an answer", |signal| match signal {
        Signal::Send { message, .. } if *message == expected => Some(()),
        _ => None,
    })
    .await
}
