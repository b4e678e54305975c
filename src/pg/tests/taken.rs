//! What a peer says means the same whether it's read from bytes in one go or as a term.
//!
//! The messages are written by hand here, in every form the external term format has for them.

use proptest::collection::vec;
use proptest::prelude::*;

use crate::atom;
use crate::engine::{Engine, EngineOptions, Input};
use crate::pg::{Members, PgPublisher};
use crate::term::testing::term;
use crate::term::{Creation, NodeName, Pid};
use crate::wire::{Flags, FragmentLimits, Inbound, Incoming, Payload, encode};

type Bytes = Vec<u8>;

/// Has the payload read of a message with these bytes.
fn with_payload<T>(message: &[u8], read: impl FnOnce(&Payload<'_>) -> T) -> T {
    // {2, '', Pid}
    let control = b"\x83h\x03a\x02w\x00Xw\x03a@h\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x01";
    let frame = [b"p", control.as_slice(), b"\x83", message].concat();
    let limits = FragmentLimits { sequences: 1, bytes: 1, message: 1 };
    let mut inbound = Inbound::new(Flags::REQUIRED, limits);
    let incoming = inbound.incoming(&frame).unwrap();
    let Some(Incoming::Message(message)) = incoming else { panic!("{incoming:?}") };
    read(&message.payload)
}

/// The bytes of a tuple.
fn tuple(elements: &[&[u8]]) -> Bytes {
    [&[b'h', elements.len() as u8], elements.concat().as_slice()].concat()
}

/// The bytes of an atom, as they are written today.
fn word(text: &str) -> Bytes {
    [&[b'w', text.len() as u8], text.as_bytes()].concat()
}

fn any_word(text: &'static str) -> impl Strategy<Value = Bytes> {
    let len = text.len() as u8;
    let old = |tag: u8, len: &[u8]| [&[tag], len, text.as_bytes()].concat();
    prop_oneof![
        8 => Just(word(text)),
        1 => Just(old(b'v', &[0, len])),
        1 => Just(old(b'd', &[0, len])),
        1 => Just(word("other")),
    ]
}

/// `a@h` mostly, and sometimes another node's.
fn any_pid() -> impl Strategy<Value = Bytes> {
    let node = prop_oneof![6 => any_word("a@h"), 1 => Just(word("nowhere"))];
    (node, 1_u8..5, prop::bool::weighted(0.1)).prop_map(|(node, id, is_old)| {
        let numbers = [0, 0, 0, id, 0, 0, 0, 0];
        let creation: &[u8] = if is_old { &[1] } else { &[0, 0, 0, 4] };
        [&[if is_old { b'g' } else { b'X' }], node.as_slice(), &numbers, creation].concat()
    })
}

/// A list, whole or in parts, proper or not.
fn any_list(element: impl Strategy<Value = Bytes>) -> impl Strategy<Value = Bytes> {
    #[derive(Clone, Copy, Debug)]
    enum Form {
        Whole,
        InParts,
        Improper,
        Short,
    }
    let form = prop_oneof![
        10 => Just(Form::Whole),
        1 => Just(Form::InParts),
        1 => Just(Form::Improper),
        1 => Just(Form::Short),
    ];
    (vec(element, 0..4), form).prop_map(|(elements, form)| {
        let list = |elements: &[Bytes], tail: &[u8]| match elements {
            [] => tail.to_vec(),
            _ => [&[b'l', 0, 0, 0, elements.len() as u8], &*elements.concat(), tail].concat(),
        };
        match form {
            Form::Whole => list(&elements, b"j"),
            Form::InParts => list(&elements[..elements.len() / 2], &{
                list(&elements[elements.len() / 2..], b"j")
            }),
            Form::Improper => list(&elements, b"a\x01"),
            // Without its end.
            Form::Short => list(&elements, b""),
        }
    })
}

fn any_group() -> impl Strategy<Value = Bytes> {
    let any = term().prop_map(|term| {
        let mut bytes = Vec::new();
        encode(&term, &mut bytes).unwrap();
        bytes.split_off(1)
    });
    prop_oneof![4 => (0_u8..3).prop_map(|name| vec![b'a', name]), 1 => any]
}

fn any_pids() -> impl Strategy<Value = Bytes> {
    any_list(prop_oneof![20 => any_pid(), 1 => any_group()])
}

fn any_update() -> impl Strategy<Value = Bytes> {
    let change = (any_group(), any_pids(), any_pids())
        .prop_map(|(group, add, remove)| tuple(&[&group, &add, &remove]));
    let change = prop_oneof![20 => change, 1 => any_group()];
    (any_word("update"), any_pid(), any_list(change))
        .prop_map(|(word, pid, changes)| tuple(&[&word, &pid, &changes]))
}

fn any_local_data() -> impl Strategy<Value = Bytes> {
    let data = vec((any_group(), any_pids()), 0..4).prop_map(|groups| {
        let pairs: Vec<_> = groups.iter().map(|(group, pids)| [&**group, pids].concat()).collect();
        [&[b't', 0, 0, 0, groups.len() as u8], &*pairs.concat()].concat()
    });
    let cast = prop_oneof![8 => Just(true), 1 => Just(false)];
    (any_word("local_data"), any_pid(), any_group(), data, cast).prop_map(
        |(name, pid, label, data, cast)| {
            let message = tuple(&[&name, &pid, &label, &data]);
            if cast { tuple(&[&word("$gen_cast"), &message]) } else { message }
        },
    )
}

/// An engine with a peer `<a@h.1.0>`, which has a member.
fn engine() -> (Engine<PgPublisher>, Members) {
    let pid = |name: &str| Pid {
        node: NodeName::new(name).unwrap(),
        id: 1,
        serial: 0,
        creation: Creation(4),
    };
    let publisher = PgPublisher::new();
    let members = publisher.members().clone();
    let mut engine = Engine::new(atom!("pg"), pid("me@h"), publisher, EngineOptions::default());
    let peer = pid("a@h");
    let mut hear = |message| {
        engine.handle(Input::Message { from: peer.node.clone(), message }, &mut Vec::new());
    };
    hear(crate::tuple![atom!("discover"), &peer, 1]);
    let data = crate::map! { 0 => crate::list![&peer] };
    hear(crate::tuple![atom!("local_data"), &peer, 1, data]);
    (engine, members)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_message_means_the_same_as_bytes_and_as_a_term(
        message in prop_oneof![any_update(), any_local_data()]
    ) {
        with_payload(&message, |payload| {
            let from = NodeName::new("a@h").unwrap();
            let ((mut one, seen), (mut other, expected)) = (engine(), engine());
            let (mut actions, mut expected_actions) = (Vec::new(), Vec::new());
            let mut pieces = payload.pieces().unwrap();
            let taken = one.handle_pieces(&from, &mut pieces, &mut actions);
            match payload.decode() {
                Ok(message) if taken => {
                    other.handle(Input::Message { from, message }, &mut expected_actions);
                }
                Ok(_) => {}
                Err(error) => prop_assert!(!taken, "read in spite of {error}"),
            }
            one.check();
            prop_assert_eq!(format!("{actions:?}"), format!("{expected_actions:?}"));
            prop_assert_eq!(seen.all(), expected.all());
            prop_assert_eq!(one.counters(), other.counters());
            Ok(())
        })?;
    }

    #[test]
    fn messages_read_ahead_and_looked_at_mean_what_they_mean_one_by_one(
        messages in vec(prop_oneof![8 => any_update(), 1 => any_local_data()], 0..40)
    ) {
        let from = NodeName::new("a@h").unwrap();
        let ((mut one, seen), (mut other, expected)) = (engine(), engine());
        let (mut actions, mut expected_actions, mut ahead) = (Vec::new(), Vec::new(), Vec::new());
        for message in &messages {
            with_payload(message, |payload| {
                ahead.extend(one.take(&mut payload.pieces().unwrap()));
                other.handle_pieces(&from, &mut payload.pieces().unwrap(), &mut expected_actions);
            });
        }
        while !ahead.is_empty() {
            one.look_ahead(&ahead);
            one.handle_taken(&from, ahead.remove(0), &mut actions);
        }
        one.check();
        prop_assert_eq!(format!("{actions:?}"), format!("{expected_actions:?}"));
        prop_assert_eq!(seen.all(), expected.all());
        prop_assert_eq!(one.counters(), other.counters());
    }
}

#[test]
fn what_a_node_of_otp_29_sends_is_taken_from_its_bytes() {
    let pid = b"Xw\x03a@h\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x04";
    let one = [b"l\x00\x00\x00\x01", pid.as_slice(), b"j"].concat();
    let change = tuple(&[b"a\x07", &one, b"j"]);
    let update = tuple(&[&word("update"), pid, &[b"l\x00\x00\x00\x01", &*change, b"j"].concat()]);
    let data = [b"t\x00\x00\x00\x01a\x07", &*one].concat();
    let data = tuple(&[&word("local_data"), pid, b"a\x01", &data]);
    for message in [update, tuple(&[&word("$gen_cast"), &data])] {
        let (mut engine, members) = engine();
        let from = NodeName::new("a@h").unwrap();
        with_payload(&message, |payload| {
            let mut pieces = payload.pieces().unwrap();
            assert!(engine.handle_pieces(&from, &mut pieces, &mut Vec::new()));
        });
        assert_eq!(members.get_members(&7.into()).len(), 1);
    }
}
