//! What is written is what the BEAM writes, and what is read is what was written.

use std::sync::Arc;

use num_bigint::BigInt;
use proptest::prelude::*;

use super::encode::within;
use super::{EncodeError, decode, encode};
use crate::term::{Creation, Fun, NodeName, Pid, Port, Record, Reference, Term};
use crate::wire::MAX_MESSAGE;
use crate::wire::testing::any_term;
use crate::{atom, list, map, tuple};

fn node() -> NodeName {
    NodeName::new("a@b").unwrap()
}

fn encoded(term: &Term) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(term, &mut bytes).unwrap();
    bytes
}

fn hex(term: &Term) -> String {
    encoded(term).iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

/// Left a term, right what `term_to_binary(Term, [{minor_version, 2}])` of OTP 25.2.3 made of it; 2 is
/// the default from OTP 26 on.
#[test]
fn terms_are_written_as_the_beam_writes_them() {
    let port = |id| Term::from(Port { node: node(), creation: Creation(1), id });
    let pid = Pid { node: node(), id: 1, serial: 2, creation: Creation(3) };
    let reference = Reference::new(node(), Creation(3), &[1, 2, 3]).unwrap();
    let export = Fun::External { module: atom!("lists"), function: atom!("map"), arity: 2 };
    for (term, expected) in [
        (port(1), "83787703614062000000000000000100000001".into()),
        (port(1 << 28), "83787703614062000000001000000000000001".into()),
        (port(1 << 32), "83787703614062000000010000000000000001".into()),
        (pid.into(), "835877036140620000000100000002".to_owned() + "00000003"),
        (reference.into(), "835a0003770361406200000003000000010000000200000003".into()),
        (Term::Fun(Arc::new(export)), "837177056c69737473".to_owned() + "77036d61706102"),
        (Term::bit_string_of([5 << 5], 3).unwrap(), "834d0000000103a0".into()),
        (Term::bit_string_of([1, 5 << 5], 3).unwrap(), "834d000000020301a0".into()),
        (Term::NIL, "836a".into()),
        (list![-1, -256], "836c0000000262ffffffff62ffffff006a".into()),
        (
            Term::list_with_tail(vec![1.into(), 2.into()], 3.into()),
            "836c00000002610161026103".into(),
        ),
        (tuple![255, 256, -1], "836803".to_owned() + "61ff" + "6200000100" + "62ffffffff"),
        (tuple![i32::MIN, i32::MAX], "836802".to_owned() + "6280000000" + "627fffffff"),
        ((1_i64 << 31).into(), "836e040000000080".into()),
        ((-(1_i64 << 31) - 1).into(), "836e040101000080".into()),
        ((1_u64 << 63).into(), "836e08000000000000000080".into()),
        (i64::MIN.into(), "836e08010000000000000080".into()),
        (u64::MAX.into(), "836e0800ffffffffffffffff".into()),
        (tuple![Term::float_of(1.5).unwrap()], "836801463ff8000000000000".into()),
        (Term::float_of(-0.0).unwrap(), "83468000000000000000".into()),
        (Term::string_of("abc"), "836b0003616263".into()),
        (list![Term::string_of("a"), Term::NIL], "836c000000026b0001616a6a".into()),
        (atom!("é").into(), "837702c3a9".into()),
        (map! { 1 => atom!("a") }, "837400000001610177016".to_owned() + "1"),
        (Term::binary_of("hi"), "836d000000026869".into()),
    ] {
        assert_eq!(hex(&term), expected, "{term}");
        assert_eq!(decode(&encoded(&term)), Ok(term));
    }
}

/// `F` of `f(A, B) -> fun(X) -> {A, B, X} end`, `F = f(1, x)`, as OTP 25.2.3 wrote it.
#[test]
fn a_closure_comes_back_byte_for_byte() {
    let mut bytes = vec![131, 112, 0, 0, 0, 72, 1];
    bytes.extend_from_slice(&[7; 16]); // uniq
    bytes.extend_from_slice(&[0, 0, 0, 0]); // index
    bytes.extend_from_slice(&[0, 0, 0, 2]); // closes over two values
    bytes.extend_from_slice(&[119, 1, b'a']); // module
    bytes.extend_from_slice(&[97, 0]); // old index
    bytes.extend_from_slice(&[98, 0x03, 0xba, 0x25, 0xbb]); // old uniq
    bytes.extend_from_slice(&[88, 119, 13]); // pid
    bytes.extend_from_slice(b"nonode@nohost");
    bytes.extend_from_slice(&[0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0]);
    bytes.extend_from_slice(&[97, 1, 119, 1, b'x']);
    assert_eq!(bytes.len() - 2, 72, "the size counts itself and all after it");

    let term = decode(&bytes).unwrap();

    let Term::Fun(fun) = &term else { panic!("{term}") };
    let Fun::Internal { free, old_uniq, .. } = &**fun else { panic!("{term}") };
    assert_eq!(free, &[Term::from(1), atom!("x").into()]);
    assert_eq!(*old_uniq, 0x03ba_25bb);
    assert_eq!(encoded(&term), bytes);
}

/// The BEAM takes these 32 bits for signed, and so writes 2^31 and above; seen with OTP 25.2.3.
#[test]
fn the_old_numbers_of_a_closure_are_written_as_if_signed() {
    let pid = Pid { node: node(), id: 1, serial: 2, creation: Creation(3) };
    let fun = |old_index, old_uniq| {
        let (module, free, pid) = (atom!("a"), vec![], pid.clone());
        let uniq = [7; 16];
        let fun =
            Fun::Internal { arity: 1, uniq, index: 0, module, old_index, old_uniq, pid, free };
        Term::Fun(Arc::new(fun))
    };
    let bytes = encoded(&fun(u32::MAX, 255));
    assert_eq!(bytes[34..41], [98, 0xff, 0xff, 0xff, 0xff, 97, 255]);
    assert_eq!(decode(&bytes), Ok(fun(u32::MAX, 255)));
}

#[test]
fn a_native_record_of_otp_29_comes_back_byte_for_byte() {
    let bytes = [
        131, 67, 0, 0, 0, 2, // two fields
        0, // flags
        119, 1, b'm', // module
        119, 1, b'r', // name
        119, 1, b'a', 119, 1, b'b', // names of the fields
        97, 1, 104, 1, 106, // their values
    ];
    let record = Record {
        flags: 0,
        module: atom!("m"),
        name: atom!("r"),
        fields: vec![(atom!("a"), 1.into()), (atom!("b"), tuple![Term::NIL])],
    };
    assert_eq!(decode(&bytes), Ok(Term::Record(Arc::new(record))));
    assert_eq!(encoded(&decode(&bytes).unwrap()), bytes);
}

#[test]
fn old_pids_ports_and_references_are_read_as_the_new_ones() {
    let creation = Creation(3);
    let pid = Pid { node: node(), id: 1, serial: 2, creation };
    assert_eq!(
        decode(&[131, 103, 119, 3, b'a', b'@', b'b', 0, 0, 0, 1, 0, 0, 0, 2, 3]),
        Ok(pid.into())
    );
    let port = Port { node: node(), creation, id: 1 };
    assert_eq!(decode(&[131, 102, 119, 3, b'a', b'@', b'b', 0, 0, 0, 1, 3]), Ok(port.into()));
    let reference = Reference::new(node(), creation, &[1]).unwrap();
    assert_eq!(
        decode(&[131, 101, 119, 3, b'a', b'@', b'b', 0, 0, 0, 1, 3]),
        Ok(reference.clone().into())
    );
    assert_eq!(
        decode(&[131, 114, 0, 1, 119, 3, b'a', b'@', b'b', 3, 0, 0, 0, 1]),
        Ok(reference.into())
    );
}

#[test]
fn pids_of_one_node_share_its_name_and_those_of_another_do_not() {
    let pid = |name: &str| Pid {
        node: NodeName::new(name).unwrap(),
        id: 1,
        serial: 0,
        creation: Creation(1),
    };
    // One name begins as the other, which must not be mistaken for it.
    let term = list![pid("a@b"), pid("a@b"), pid("a@bc"), pid("a@b")];
    let back = decode(&encoded(&term)).unwrap();
    assert_eq!(back, term);
    let texts: Vec<_> =
        back.list().unwrap().iter().map(|pid| pid.pid().unwrap().node.as_str().as_ptr()).collect();
    assert_eq!(texts[0], texts[1]);
}

#[test]
fn integers_of_64_kib_are_read_and_larger_ones_are_not() {
    let digits = |len| Term::from(BigInt::from(1) << (8 * len - 1));
    assert!(decode(&encoded(&digits(1 << 16))).is_ok());
    assert!(decode(&encoded(&digits((1 << 16) + 1))).is_err());
}

#[test]
fn a_term_too_large_for_a_frame_is_refused_and_leaves_nothing() {
    // Little memory, since the parts are shared; 2^45 bytes on the wire.
    for innermost in [Term::binary_of([0; 32]), 1.into(), atom!("a").into()] {
        let mut term = innermost;
        for _ in 0..40 {
            term = tuple![&term, &term];
        }
        let mut bytes = Vec::new();
        assert_eq!(within(1 << 20, &term, &mut bytes), Err(EncodeError::TooLarge));
        assert!(bytes.len() < 2 << 20);
    }

    let mut bytes = vec![1, 2, 3];
    let term = Term::Binary(vec![0; MAX_MESSAGE].into());
    assert_eq!(encode(&term, &mut bytes), Err(EncodeError::TooLarge));
    assert_eq!(bytes, [1, 2, 3]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn what_was_written_is_read_back(term in any_term()) {
        prop_assert_eq!(decode(&encoded(&term)), Ok(term));
    }

    #[test]
    fn eetf_reads_what_we_write_as_the_same_term(term in any_term()) {
        // Native records and some funs don't exist there. Compared as our terms, since two equal maps
        // of theirs hash differently, so that as keys of a map they differ.
        if ::eetf::Term::try_from(&term).is_ok() {
            let theirs = ::eetf::Term::decode(&encoded(&term)[..]).unwrap();
            prop_assert_eq!(Term::try_from(&theirs), Ok(term));
        }
    }

    #[test]
    fn we_read_what_eetf_writes_as_the_same_term(term in any_term()) {
        if let Ok(theirs) = ::eetf::Term::try_from(&term) {
            let mut bytes = Vec::new();
            theirs.encode(&mut bytes).unwrap();
            // It writes small integers in a list as a string, negative ones too: its defect.
            if let Ok(read) = decode(&bytes) && ::eetf::Term::decode(&bytes[..]).unwrap() == theirs {
                prop_assert_eq!(read, term);
            }
        }
    }
}
