use proptest::prelude::*;

use super::{PidOrName, Signal, SignalError, Target, decode, encode, encode_send_head};
use crate::term::{Creation, NodeName, Pid, Reference, Term};
use crate::wire::testing::{any_atom, any_pid, any_reference, any_term};
use crate::wire::{DecodeError, EncodeError, Flags, codec};
use crate::{atom, tuple};

/// `<a@b.id.0>`, creation 1.
fn pid(id: u32) -> Pid {
    Pid { node: NodeName::new("a@b").unwrap(), id, serial: 0, creation: Creation(1) }
}

fn pid_bytes(id: u8) -> Vec<u8> {
    vec![88, 119, 3, b'a', b'@', b'b', 0, 0, 0, id, 0, 0, 0, 0, 0, 0, 0, 1]
}

fn reference() -> Reference {
    Reference::new(NodeName::new("a@b").unwrap(), Creation(1), &[7, 8, 9]).unwrap()
}

fn reference_bytes() -> Vec<u8> {
    vec![90, 0, 3, 119, 3, b'a', b'@', b'b', 0, 0, 0, 1, 0, 0, 0, 7, 0, 0, 0, 8, 0, 0, 0, 9]
}

const NOTHING: &[u8] = &[119, 0];
const TOKEN: &[u8] = &[104, 5, 97, 1, 97, 0, 97, 1, 106, 97, 0];

/// `112 131 {Op, ...}` and the payload, if there is one.
fn frame(op: u8, fields: &[&[u8]], payload: Option<&[u8]>) -> Vec<u8> {
    let mut frame = vec![112, 131, 104, fields.len() as u8 + 1, 97, op];
    frame.extend(fields.concat());
    frame.extend(payload.into_iter().flat_map(|term| [&[131], term].concat()));
    frame
}

const HI: &[u8] = &[119, 2, b'h', b'i'];

fn hi() -> Term {
    atom!("hi").into()
}

fn write(signal: &Signal, flags: Flags) -> Vec<u8> {
    let mut out = Vec::new();
    encode(signal, flags, &mut out).unwrap();
    let (length, frame) = out.split_first_chunk().unwrap();
    assert_eq!(u32::from_be_bytes(*length) as usize, frame.len());
    frame.to_vec()
}

#[test]
fn a_message_to_a_name_is_these_bytes() {
    let signal = Signal::Send { from: Some(pid(5)), to: Target::Name(atom!("pg")), message: hi() };
    let bytes = [
        112, // pass-through
        131, 104, 4, // a tuple of four
        97, 6, // REG_SEND
        88, 119, 3, b'a', b'@', b'b', 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 1, // from
        119, 0, // ''
        119, 2, b'p', b'g', // to
        131, 119, 2, b'h', b'i', // message
    ];
    assert_eq!(write(&signal, Flags::OFFERED), bytes);
    assert_eq!(decode(&bytes), Ok(signal));
}

#[test]
fn a_down_is_these_bytes() {
    let signal = Signal::MonitorExit {
        from: atom!("pg").into(),
        to: pid(5),
        reference: reference(),
        reason: atom!("noproc").into(),
    };
    let bytes = [
        112, // pass-through
        131, 104, 4, // a tuple of four
        97, 28, // PAYLOAD_MONITOR_P_EXIT
        119, 2, b'p', b'g', // the name that was monitored
        88, 119, 3, b'a', b'@', b'b', 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 1, // to
        90, 0, 3, 119, 3, b'a', b'@', b'b', 0, 0, 0, 1, // reference
        0, 0, 0, 7, 0, 0, 0, 8, 0, 0, 0, 9, // its words
        131, 119, 6, b'n', b'o', b'p', b'r', b'o', b'c', // reason
    ];
    assert_eq!(write(&signal, Flags::OFFERED), bytes);
    assert_eq!(decode(&bytes), Ok(signal));
}

/// The forms in which a frame may come, and what it says. `true`: we write the same for it, given
/// the flags.
#[test]
fn all_forms_are_read_whatever_was_agreed_on() {
    let (p, q, r) = (&pid_bytes(5)[..], &pid_bytes(6)[..], &reference_bytes()[..]);
    let (from, to) = (pid(5), pid(6));
    let name = [119, 2, b'p', b'g'];
    let big_id = [110, 8, 0, 1, 0, 0, 0, 0, 0, 0, 0x80];
    let send = |from: Option<Pid>, to: Target| Signal::Send { from, to, message: hi() };
    let exit = || Signal::Exit { from: pid(5), to: pid(6), reason: hi() };
    let exit2 = || Signal::Exit2 { from: pid(5), to: pid(6).into(), reason: hi() };
    let down = || Signal::MonitorExit {
        from: pid(5).into(),
        to: pid(6),
        reference: reference(),
        reason: hi(),
    };
    let to_pid = || Target::Pid(pid(6));
    let to_name = || Target::Name(atom!("pg"));
    let to_alias = || Target::Alias(reference());
    let request = Signal::SpawnRequest {
        reference: reference(),
        from: from.clone(),
        group_leader: to.clone(),
        mfa: (atom!("pg"), atom!("pg"), 4),
        options: Term::NIL,
        args: hi(),
    };
    let mfa = [&[104, 3][..], &name, &name, &[97, 4]].concat();
    let reply = Signal::SpawnReply {
        reference: reference(),
        to: to.clone(),
        flags: 2,
        result: atom!("pg").into(),
    };
    // As agreed on with 25 and 27, and with 29.
    let (old, new) = (Flags::REQUIRED, Flags(Flags::OFFERED.0 & !Flags::ALTACT_SIG.0));
    let altact = Flags::OFFERED;
    let exit_to_alias = Signal::Exit2 { from: pid(5), to: to_alias(), reason: hi() };

    for (bytes, signal, written_with) in [
        (frame(1, &[p, q], None), Signal::Link { from: from.clone(), to: to.clone() }, Some(new)),
        (frame(2, &[NOTHING, q], Some(HI)), send(None, to_pid()), Some(new)),
        (frame(12, &[NOTHING, q, TOKEN], Some(HI)), send(None, to_pid()), None),
        (frame(3, &[p, q, HI], None), exit(), Some(old)),
        (frame(13, &[p, q, TOKEN, HI], None), exit(), None),
        (frame(6, &[p, NOTHING, &name], Some(HI)), send(Some(pid(5)), to_name()), Some(old)),
        (frame(16, &[p, NOTHING, &name, TOKEN], Some(HI)), send(Some(pid(5)), to_name()), None),
        (frame(7, &[p, q], None), Signal::GroupLeader { leader: pid(5), to: pid(6) }, Some(new)),
        (frame(8, &[p, q, HI], None), exit2(), Some(old)),
        (frame(18, &[p, q, TOKEN, HI], None), exit2(), None),
        (
            frame(19, &[p, &name, r], None),
            Signal::Monitor { from: pid(5), target: atom!("pg").into(), reference: reference() },
            Some(new),
        ),
        (
            frame(20, &[p, q, r], None),
            Signal::Demonitor { from: pid(5), target: pid(6).into(), reference: reference() },
            Some(new),
        ),
        (frame(21, &[p, q, r, HI], None), down(), Some(old)),
        (frame(22, &[p, q], Some(HI)), send(Some(pid(5)), to_pid()), Some(new)),
        (frame(23, &[p, q, TOKEN], Some(HI)), send(Some(pid(5)), to_pid()), None),
        (frame(24, &[p, q], Some(HI)), exit(), Some(new)),
        (frame(25, &[p, q, TOKEN], Some(HI)), exit(), None),
        (frame(26, &[p, q], Some(HI)), exit2(), Some(new)),
        (frame(27, &[p, q, TOKEN], Some(HI)), exit2(), None),
        (frame(28, &[p, q, r], Some(HI)), down(), Some(new)),
        (frame(29, &[r, p, q, &mfa, &[106]], Some(HI)), request.clone(), Some(new)),
        (frame(30, &[r, p, q, &mfa, &[106], TOKEN], Some(HI)), request, None),
        (frame(31, &[r, q, &[97, 2], &name], None), reply.clone(), Some(new)),
        (frame(32, &[r, q, &[97, 2], &name, TOKEN], None), reply, None),
        (frame(33, &[p, r], Some(HI)), send(Some(pid(5)), to_alias()), Some(new)),
        (frame(34, &[p, r, TOKEN], Some(HI)), send(Some(pid(5)), to_alias()), None),
        (
            frame(35, &[&[97, 9], p, q], None),
            Signal::Unlink { id: 9, from: pid(5), to: pid(6) },
            Some(new),
        ),
        (
            frame(36, &[&big_id, p, q], None),
            Signal::UnlinkAck { id: (1 << 63) + 1, from: pid(5), to: pid(6) },
            Some(new),
        ),
        (frame(37, &[&[97, 1], p, q], Some(HI)), send(Some(pid(5)), to_pid()), None),
        (frame(37, &[&[97, 9], p, &name], Some(HI)), send(Some(pid(5)), to_name()), None),
        (frame(37, &[&[97, 4], p, r], Some(HI)), send(Some(pid(5)), to_alias()), Some(altact)),
        (frame(37, &[&[97, 3], p, q, TOKEN], Some(HI)), send(Some(pid(5)), to_pid()), None),
        (frame(37, &[&[97, 17], p, q], Some(HI)), exit2(), None),
        (frame(37, &[&[97, 20], p, r], Some(HI)), exit_to_alias, Some(altact)),
        // Bits and elements of later releases.
        (frame(37, &[&big_id, p, q, TOKEN, HI], Some(HI)), send(Some(pid(5)), to_pid()), None),
    ] {
        assert_eq!(decode(&bytes).as_ref(), Ok(&signal), "{bytes:?}");
        if let Some(flags) = written_with {
            assert_eq!(write(&signal, flags), bytes, "{signal:?}");
        }
    }
}

#[test]
fn a_message_to_a_pid_names_its_sender_only_if_that_was_agreed_on() {
    let signal = Signal::Send { from: Some(pid(5)), to: pid(6).into(), message: hi() };
    assert_eq!(write(&signal, Flags::OFFERED)[5], 22);
    assert_eq!(write(&signal, Flags::REQUIRED)[5], 2);
}

#[test]
fn a_message_to_a_name_or_an_alias_needs_a_sender() {
    for to in [Target::Name(atom!("pg")), Target::Alias(reference())] {
        let mut out = vec![1];
        let signal = Signal::Send { from: None, to, message: hi() };
        assert_eq!(encode(&signal, Flags::OFFERED, &mut out), Err(EncodeError::NoSender));
        assert_eq!(out, [1]);
    }
}

#[test]
fn an_exit_to_an_alias_is_only_written_when_the_peer_knows_op_37() {
    let signal = Signal::Exit2 { from: pid(5), to: Target::Alias(reference()), reason: hi() };
    let flags = Flags(Flags::OFFERED.0 & !Flags::ALTACT_SIG.0);
    let error = encode(&signal, flags, &mut Vec::new());
    assert_eq!(error, Err(EncodeError::NotNegotiated { flag: "ALTACT_SIG" }));
}

#[test]
fn the_head_of_a_message_and_its_payload_make_the_whole_frame() {
    let mut payload = Vec::new();
    codec::encode(&hi(), &mut payload).unwrap();
    for to in [Target::Pid(pid(6)), Target::Name(atom!("pg")), Target::Alias(reference())] {
        for flags in [Flags::OFFERED, Flags::REQUIRED] {
            let mut pieces = Vec::new();
            encode_send_head(&pid(5), &to, payload.len(), flags, &mut pieces).unwrap();
            pieces.extend_from_slice(&payload);
            let mut whole = Vec::new();
            let signal = Signal::Send { from: Some(pid(5)), to: to.clone(), message: hi() };
            encode(&signal, flags, &mut whole).unwrap();
            assert_eq!(pieces, whole);
        }
    }
}

#[test]
fn a_frame_beyond_the_limit_is_not_begun() {
    let mut out = Vec::new();
    let error = encode_send_head(&pid(5), &pid(6).into(), usize::MAX, Flags::OFFERED, &mut out);
    assert_eq!(error, Err(EncodeError::TooLarge));
    assert!(out.is_empty());
}

#[test]
fn d2_a_payload_that_begins_with_82_or_68_is_an_error_that_names_it() {
    let (from, name) = (pid_bytes(5), [119, 2, b'p', b'g']);
    for tag in [82, 68] {
        let bytes = frame(6, &[&from, NOTHING, &name], Some(&[tag, 0]));
        let error = decode(&bytes).unwrap_err();
        let SignalError::Payload { op: 6, source: DecodeError::UnknownTag { tag: found, .. } } =
            error
        else {
            panic!("{error:?}")
        };
        assert_eq!(found, tag);
    }
}

#[test]
fn d3_a_frame_with_an_atom_table_is_an_error_that_names_it() {
    let error = decode(&[131, 68, 0, 0]).unwrap_err();
    assert_eq!(error, SignalError::WrongKind { first: [Some(131), Some(68)], expected: 112 });
    assert_eq!(error.to_string(), "a frame begins with 131 68 instead of 112");
    assert_eq!(decode(&[]), Err(SignalError::WrongKind { first: [None, None], expected: 112 }));
}

#[test]
fn unknown_signals_and_those_of_long_ago_are_errors() {
    let pid = pid_bytes(5);
    for op in [0, 4, 5, 9, 10, 11, 14, 15, 17, 38, 255] {
        let error = SignalError::UnknownOp { op: op.into() };
        assert_eq!(decode(&frame(op, &[&pid, &pid], None)), Err(error));
    }
}

#[test]
fn a_control_tuple_of_another_size_is_an_error() {
    let pid = pid_bytes(5);
    let error = |elements| Err(SignalError::BadArity { op: 1, elements });
    assert_eq!(decode(&frame(1, &[&pid], None)), error(2));
    assert_eq!(decode(&frame(1, &[&pid, &pid, &pid], None)), error(4));
}

#[test]
fn a_message_without_a_payload_is_an_error() {
    let pid = pid_bytes(5);
    assert_eq!(decode(&frame(22, &[&pid, &pid], None)), Err(SignalError::NoPayload { op: 22 }));
}

#[test]
fn bytes_after_the_payload_are_ignored_as_on_the_beam() {
    let pid = pid_bytes(5);
    let mut bytes = frame(22, &[&pid, &pid], Some(HI));
    bytes.extend_from_slice(&[1, 2, 3]);
    assert!(decode(&bytes).is_ok());
}

#[test]
fn a_process_that_ended_for_a_reason_we_cannot_decode_has_ended() {
    let (p, r) = (&pid_bytes(5)[..], &reference_bytes()[..]);
    let bad = &[82, 0][..];
    for bytes in [
        frame(24, &[p, p], Some(bad)),
        frame(3, &[p, p, bad], None),
        frame(26, &[p, p], Some(bad)),
        frame(28, &[p, p, r], Some(bad)),
        frame(21, &[p, p, r, bad], None),
    ] {
        let signal = decode(&bytes).unwrap();
        let (Signal::Exit { reason, .. }
        | Signal::Exit2 { reason, .. }
        | Signal::MonitorExit { reason, .. }) = signal
        else {
            panic!("{signal:?}")
        };
        assert!(reason.is_atom("undecodable"));
    }
}

#[test]
fn a_control_tuple_that_cannot_be_decoded_is_an_error() {
    for bytes in [&[112][..], &[112, 131], &[112, 131, 97, 1], &[112, 131, 104, 3, 119, 1, b'a']] {
        assert!(matches!(decode(bytes), Err(SignalError::Control(_))), "{bytes:?}");
    }
    let message = tuple![1, 2];
    let mut bytes = vec![112];
    codec::encode(&message, &mut bytes).unwrap();
    assert_eq!(decode(&bytes), Err(SignalError::BadArity { op: 1, elements: 2 }));
}

fn any_pid_or_name() -> impl Strategy<Value = PidOrName> {
    prop_oneof![any_pid().prop_map(PidOrName::Pid), any_atom().prop_map(PidOrName::Name)]
}

fn any_target() -> impl Strategy<Value = Target> {
    prop_oneof![
        any_pid().prop_map(Target::Pid),
        any_atom().prop_map(Target::Name),
        any_reference().prop_map(Target::Alias),
    ]
}

fn any_signal() -> impl Strategy<Value = Signal> {
    let pids = || (any_pid(), any_pid());
    prop_oneof![
        (any_pid(), any_target(), any_term()).prop_map(|(from, to, message)| Signal::Send {
            from: Some(from),
            to,
            message
        }),
        pids().prop_map(|(from, to)| Signal::Link { from, to }),
        (any::<u64>(), pids()).prop_map(|(id, (from, to))| Signal::Unlink { id, from, to }),
        (any::<u64>(), pids()).prop_map(|(id, (from, to))| Signal::UnlinkAck { id, from, to }),
        (pids(), any_term()).prop_map(|((from, to), reason)| Signal::Exit { from, to, reason }),
        (pids(), any_term()).prop_map(|((from, to), reason)| Signal::Exit2 {
            from,
            to: to.into(),
            reason
        }),
        pids().prop_map(|(leader, to)| Signal::GroupLeader { leader, to }),
        (any_pid(), any_pid_or_name(), any_reference())
            .prop_map(|(from, target, reference)| Signal::Monitor { from, target, reference }),
        (any_pid(), any_pid_or_name(), any_reference())
            .prop_map(|(from, target, reference)| Signal::Demonitor { from, target, reference }),
        (any_pid_or_name(), any_pid(), any_reference(), any_term()).prop_map(
            |(from, to, reference, reason)| Signal::MonitorExit { from, to, reference, reason }
        ),
        (any_reference(), pids(), (any_atom(), any_atom(), any::<u8>()), any_term(), any_term())
            .prop_map(|(reference, (from, group_leader), mfa, options, args)| {
                Signal::SpawnRequest { reference, from, group_leader, mfa, options, args }
            }),
        (any_reference(), any_pid(), any::<u32>(), any_pid_or_name()).prop_map(
            |(reference, to, flags, result)| Signal::SpawnReply { reference, to, flags, result }
        ),
    ]
}

proptest! {
    #[test]
    fn a_signal_is_read_as_it_was_written_under_any_flags(
        signal in any_signal(),
        sender in any::<bool>(),
        payload in any::<bool>(),
    ) {
        let mut flags = Flags::REQUIRED;
        if sender {
            flags = flags.with(Flags::SEND_SENDER);
        }
        if payload {
            flags = flags.with(Flags::EXIT_PAYLOAD);
        }
        let read = decode(&write(&signal, flags)).unwrap();
        match (signal, sender) {
            // The old form has no place for the sender.
            (Signal::Send { to: to @ Target::Pid(_), message, .. }, false) => {
                prop_assert_eq!(read, Signal::Send { from: None, to, message });
            }
            (signal, _) => prop_assert_eq!(read, signal),
        }
    }

    #[test]
    fn a_signal_cut_short_never_panics(signal in any_signal(), cut in any::<prop::sample::Index>()) {
        let frame = write(&signal, Flags::OFFERED);
        let _ = decode(&frame[..cut.index(frame.len())]);
    }

    #[test]
    fn random_frames_never_panic(op in 0..40_u8, elements in 0..8_u8, bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
        let _ = decode(&bytes);
        let _ = decode(&[&[112, 131, 104, elements, 97, op][..], &bytes].concat());
    }
}
