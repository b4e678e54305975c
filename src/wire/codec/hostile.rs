//! Bytes that crashed other decoders, and bytes that they took for something else. Each must be an
//! error here, in little time and memory; that the process lives is what the test's end shows.

use std::io::Write;
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::ZlibEncoder;
use proptest::prelude::*;

use super::{DecodeError, decode, decode_prefix, encode};
use crate::term::Term;
use crate::wire::testing::any_term;
use crate::wire::{MAX_DEPTH, MAX_INTEGER, MAX_MESSAGE};
use crate::{atom, list, tuple};

/// The error for these bytes. The bound is loose, since tests share the machine: what it must tell
/// apart is microseconds from the seconds that a gigabyte takes.
#[track_caller]
fn refused(bytes: &[u8]) -> DecodeError {
    let start = Instant::now();
    let error = decode(bytes).expect_err("bytes that aren't a term");
    assert!(start.elapsed() < Duration::from_secs(1), "{error} took {:?}", start.elapsed());
    error
}

fn joined(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

fn compressed(size: u32, term: &[u8]) -> Vec<u8> {
    let mut zlib = ZlibEncoder::new(Vec::new(), Compression::fast());
    zlib.write_all(term).unwrap();
    joined(&[&[131, 80], &size.to_be_bytes(), &zlib.finish().unwrap()])
}

const PID_OF_A: &[u8] = &[103, 119, 3, b'a', b'@', b'b', 0, 0, 0, 0, 0, 0, 0, 0, 0];

#[test]
fn c1_an_atom_cache_header_is_no_term() {
    assert_eq!(refused(&[131, 68]), DecodeError::UnknownTag { tag: 68, at: 1 });
}

#[test]
fn c2_an_atom_cache_reference_is_no_term() {
    assert_eq!(refused(&[131, 82]), DecodeError::UnknownTag { tag: 82, at: 1 });
}

#[test]
fn c3_a_list_of_4_billion_elements_in_no_bytes_is_refused() {
    let error = refused(&[131, 108, 0xff, 0xff, 0xff, 0xff]);
    assert_eq!(error, DecodeError::TooMany { count: 0xffff_ffff, left: 0, at: 6 });
}

#[test]
fn c4_a_tuple_of_4_billion_elements_in_no_bytes_is_refused() {
    let error = refused(&[131, 105, 0xff, 0xff, 0xff, 0xff]);
    assert_eq!(error, DecodeError::TooMany { count: 0xffff_ffff, left: 0, at: 6 });
}

#[test]
fn c5_a_binary_of_4_gib_in_no_bytes_is_refused() {
    assert_eq!(refused(&[131, 109, 0xff, 0xff, 0xff, 0xff]), DecodeError::Truncated);
}

#[test]
fn c6_a_bit_string_of_4_gib_in_no_bytes_is_refused() {
    assert_eq!(refused(&[131, 77, 0xff, 0xff, 0xff, 0xff, 1]), DecodeError::Truncated);
}

#[test]
fn c7_a_bit_string_with_0_bits_in_its_last_byte_is_refused() {
    let error = refused(&[131, 77, 0, 0, 0, 1, 0, 0xff]);
    assert!(matches!(error, DecodeError::BadValue { at: 8, .. }), "{error}");
}

#[test]
fn c8_a_bit_string_with_9_bits_in_its_last_byte_is_refused() {
    let error = refused(&[131, 77, 0, 0, 0, 1, 9, 0xff]);
    assert!(matches!(error, DecodeError::BadValue { at: 8, .. }), "{error}");
}

#[test]
fn a_bit_string_without_bytes_has_no_bits_in_its_last_byte() {
    assert_eq!(decode(&[131, 77, 0, 0, 0, 0, 0]), Ok(Term::binary_of([])));
    for bits in 1..=9 {
        refused(&[131, 77, 0, 0, 0, 0, bits]);
    }
}

#[test]
fn c9_an_integer_of_1_gib_is_refused() {
    let error = refused(&[131, 111, 0x40, 0, 0, 0, 0]);
    assert_eq!(error, DecodeError::Truncated);
    refused(&[131, 111, 0xff, 0xff, 0xff, 0xff, 0]);
}

#[test]
fn an_integer_has_64_kib_at_most() {
    let integer =
        |len: usize| joined(&[&[131, 111], &(len as u32).to_be_bytes(), &[0], &vec![1; len]]);
    assert!(decode(&integer(MAX_INTEGER)).is_ok());
    let error = refused(&integer(MAX_INTEGER + 1));
    assert_eq!(error, DecodeError::IntegerTooLong);
    assert!(error.is_beyond_limits());
}

#[test]
fn c10_a_fun_of_the_old_format_is_refused() {
    let error = refused(&joined(&[
        &[131, 117, 0xff, 0xff, 0xff, 0xff],
        &[103, 119, 1, b'a', 0, 0, 0, 0, 0, 0, 0, 0, 0],
        &[119, 1, b'a', b'a', 0, b'a', 0],
    ]));
    assert_eq!(error, DecodeError::UnknownTag { tag: 117, at: 1 });
}

#[test]
fn c11_a_fun_that_closes_over_4_billion_values_is_refused() {
    let error = refused(&joined(&[
        &[131, 112, 0, 0, 0, 0, 0],
        &[0; 16],
        &[0; 4],
        &[0xff, 0xff, 0xff, 0xff],
        &[119, 1, b'a', b'a', 0, b'a', 0],
        PID_OF_A,
    ]));
    assert_eq!(error, DecodeError::TooMany { count: 0xffff_ffff, left: 22, at: 31 });
}

#[test]
fn c12_tuples_nested_without_end_are_refused() {
    assert_eq!(refused(&joined(&[&[131], &[104, 1].repeat(1600), &[106]])), DecodeError::TooDeep);
}

#[test]
fn c13_a_node_that_is_a_pid_whose_node_is_a_pid_is_refused() {
    for tag in [103, 88, 89, 101, 102, 113, 120] {
        let error = refused(&joined(&[&[131], &[tag].repeat(1600)]));
        assert_eq!(error, DecodeError::Misplaced { expected: "an atom", tag, at: 2 });
    }
    for tag in [90, 114] {
        let error = refused(&joined(&[&[131], &[tag, 0, 1].repeat(1600)]));
        assert_eq!(error, DecodeError::Misplaced { expected: "an atom", tag, at: 4 });
    }
}

#[test]
fn c14_lists_nested_without_end_are_refused() {
    let error = refused(&joined(&[&[131], &[108, 0, 0, 0, 1].repeat(1600)]));
    assert_eq!(error, DecodeError::TooDeep);
}

#[test]
fn c15_maps_nested_without_end_are_refused() {
    let error = refused(&joined(&[&[131], &[116, 0, 0, 0, 1].repeat(1600)]));
    assert_eq!(error, DecodeError::TooDeep);
}

#[test]
fn c16_tuples_nested_without_end_are_refused_when_compressed_too() {
    let term = joined(&[&[104, 1].repeat(1_000_000), &[106]]);
    assert_eq!(refused(&compressed(term.len() as u32, &term)), DecodeError::TooDeep);
}

#[test]
fn c17_a_compressed_term_of_another_size_than_it_claims_is_refused() {
    let term = joined(&[&[105, 0, 0x7a, 0x12, 0], &[106].repeat(8_000_000)]);
    let more = DecodeError::BadCompression { what: "inflates to more than it claims" };
    let less = DecodeError::BadCompression { what: "inflates to less than it claims" };
    assert_eq!(refused(&compressed(10, &term)), more);
    assert_eq!(refused(&compressed(1, &[97, 1])), more);
    assert_eq!(refused(&compressed(3, &[97, 1])), less);
}

#[test]
fn c18_a_compressed_term_beyond_the_limit_is_refused() {
    let term = joined(&[&[109, 0x1d, 0xcd, 0x65, 0], &vec![0; 1 << 20]]);
    let error = refused(&compressed(500_000_005, &term));
    assert_eq!(error, DecodeError::BadCompression { what: "claims more than 256 MiB" });
    // Within the limit, but only a megabyte of it comes.
    refused(&compressed(MAX_MESSAGE as u32, &term));
}

#[test]
fn c19_lists_that_each_claim_16_million_elements_are_refused() {
    let error = refused(&joined(&[&[131], &[108, 0, 0xff, 0xff, 0xff].repeat(40)]));
    assert_eq!(error, DecodeError::TooMany { count: 0xff_ffff, left: 195, at: 6 });
}

#[test]
fn c20_a_tuple_of_a_million_nils_is_a_term_of_32_bytes_each() {
    let bytes = joined(&[&[131, 105, 0, 0x0f, 0x42, 0x40], &[106].repeat(1_000_000)]);
    let term = decode(&bytes).unwrap();
    assert_eq!(term.tuple_elements().unwrap().len(), 1_000_000);
    assert_eq!(size_of::<Term>(), 32);
}

#[test]
fn a_term_may_nest_256_deep_and_no_deeper() {
    for head in [&[104, 1][..], &[108, 0, 0, 0, 1], &[116, 0, 0, 0, 1, 106]] {
        let nested = |depth| {
            let tails = if head[0] == 108 { vec![106; depth] } else { vec![] };
            joined(&[&[131], &head.repeat(depth), &[97, 1], &tails])
        };
        assert!(decode(&nested(MAX_DEPTH)).is_ok(), "{head:?}");
        assert_eq!(decode(&nested(MAX_DEPTH + 1)), Err(DecodeError::TooDeep), "{head:?}");
    }
}

#[test]
fn a_list_whose_tails_are_lists_is_one_flat_list_however_many_there_are() {
    let pieces = 100_000;
    let bytes = joined(&[&[131], &[108, 0, 0, 0, 1, 97, 7].repeat(pieces), &[106]]);
    let start = Instant::now();
    assert_eq!(decode(&bytes).unwrap().list().unwrap().len(), pieces);
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());

    // Pieces without elements too; and a "string" or something else as the last tail.
    let empty = joined(&[&[131, 108, 0, 0, 0, 1, 97, 7], &[108, 0, 0, 0, 0].repeat(pieces)]);
    assert_eq!(decode(&joined(&[&empty, &[106]])), Ok(list![7]));
    assert_eq!(decode(&joined(&[&empty, &[107, 0, 1, 8]])), Ok(list![7, 8]));
    let improper = Term::list_with_tail(vec![7.into()], 9.into());
    assert_eq!(decode(&joined(&[&empty, &[97, 9]])), Ok(improper));
}

#[test]
fn a_list_without_elements_is_its_tail_as_on_the_beam() {
    assert_eq!(decode(&[131, 108, 0, 0, 0, 0, 97, 5]), Ok(5.into()));
    assert_eq!(decode(&[131, 108, 0, 0, 0, 0, 106]), Ok(Term::NIL));
}

#[test]
fn a_compressed_term_has_no_compressed_term_in_it_and_nothing_after_it() {
    assert_eq!(decode(&compressed(2, &[97, 1])), Ok(1.into()));
    let inner = &compressed(2, &[97, 1])[1..];
    let error = refused(&compressed(inner.len() as u32, inner));
    assert_eq!(error, DecodeError::UnknownTag { tag: 80, at: 0 });
    let error = refused(&compressed(4, &[97, 1, 97, 2]));
    assert_eq!(error, DecodeError::BadCompression { what: "holds more than one term" });
}

#[test]
fn a_compressed_term_says_how_many_bytes_it_took() {
    let first = compressed(2, &[97, 1]);
    let bytes = joined(&[&first, &[131, 97, 2]]);
    assert_eq!(decode_prefix(&bytes), Ok((1.into(), first.len())));
    assert_eq!(refused(&bytes), DecodeError::TrailingBytes { count: 3 });
}

#[test]
fn a_compressed_term_cut_short_or_changed_is_refused() {
    let whole = compressed(6, &[109, 0, 0, 0, 1, 7]);
    for len in 0..whole.len() {
        refused(&whole[..len]);
    }
    let mut changed = whole;
    *changed.last_mut().unwrap() ^= 1;
    assert_eq!(refused(&changed), DecodeError::BadCompression { what: "isn't zlib's" });
}

#[test]
fn negative_integers_are_no_bytes_of_a_string() {
    let mut bytes = Vec::new();
    encode(&list![-1, -256], &mut bytes).unwrap();
    assert_eq!(bytes[..2], [131, 108]);
    assert_eq!(decode(&bytes), Ok(list![-1, -256]));
}

#[test]
fn a_float_in_text_keeps_all_its_digits() {
    let text = |text: &str| {
        let mut bytes = vec![131, 99];
        bytes.extend_from_slice(text.as_bytes());
        bytes.resize(33, 0);
        bytes
    };
    let float = |value| Ok(Term::float_of(value).unwrap());
    assert_eq!(decode(&text("1.00000000000000005551e-01")), float(0.1));
    assert_eq!(decode(&text("+1.5")), float(1.5));
    assert_eq!(decode(&text("-1.5e3")), float(-1500.0));
    for bad in
        ["inf", "NaN", "1", "1e5", " 1.5", "1.5abc", "1.0e400", ".5", "5.", "", "+-1.5", "1.5e"]
    {
        assert!(decode(&text(bad)).is_err(), "{bad:?}");
    }
}

#[test]
fn floats_that_are_not_finite_are_refused() {
    for value in [f64::INFINITY, f64::NEG_INFINITY, f64::NAN] {
        refused(&joined(&[&[131, 70], &value.to_be_bytes()]));
    }
}

#[test]
fn atoms_in_latin_1_are_read_in_both_forms() {
    assert_eq!(decode(&[131, 100, 0, 1, 233]), Ok(atom!("é").into()));
    assert_eq!(decode(&[131, 115, 1, 233]), Ok(atom!("é").into()));
    refused(&[131, 118, 0, 1, 233]);
}

#[test]
fn atoms_have_at_most_255_characters() {
    let utf8 = |len: usize| {
        joined(&[&[131, 118], &(2 * len as u16).to_be_bytes(), "é".repeat(len).as_bytes()])
    };
    assert!(decode(&utf8(255)).is_ok());
    refused(&utf8(256));
    refused(&joined(&[&[131, 100, 0x03, 0xe8], &[b'a'; 1000]]));
}

#[test]
fn lists_of_bytes_longer_than_a_string_keep_all_elements() {
    for (len, tag) in [(65_535, 107), (65_536, 108), (70_000, 108)] {
        let list = Term::list_of(vec![Term::from(7); len]);
        let mut bytes = Vec::new();
        encode(&list, &mut bytes).unwrap();
        assert_eq!(bytes[1], tag);
        assert_eq!(decode(&bytes), Ok(list));
    }
}

#[test]
fn a_map_with_a_key_twice_is_refused() {
    refused(&[131, 116, 0, 0, 0, 2, 97, 1, 97, 1, 97, 1, 97, 2]);
    // The same key in two encodings.
    refused(&[131, 116, 0, 0, 0, 2, 97, 1, 97, 1, 98, 0, 0, 0, 1, 97, 2]);
}

#[test]
fn a_small_number_in_a_big_integer_is_the_small_number() {
    assert_eq!(decode(&[131, 110, 1, 0, 5]), Ok(5.into()));
    assert_eq!(decode(&[131, 110, 1, 1, 5]), Ok((-5).into()));
    assert_eq!(decode(&[131, 110, 0, 0]), Ok(0.into()));
    assert_eq!(decode(&[131, 110, 1, 1, 0]), Ok(0.into()));
    assert_eq!(decode(&[131, 111, 0, 0, 0, 9, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0]), Ok(5.into()));
    assert_eq!(decode(&[131, 110, 8, 1, 0, 0, 0, 0, 0, 0, 0, 0x80]), Ok(i64::MIN.into()));
    assert_eq!(
        decode(&[131, 110, 8, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
        Ok(u64::MAX.into())
    );
}

#[test]
fn a_string_is_the_list_of_its_bytes() {
    assert_eq!(decode(&[131, 107, 0, 2, 1, 2]), Ok(list![1, 2]));
    assert_eq!(decode(&[131, 107, 0, 0]), Ok(Term::NIL));
    assert_eq!(decode(&[131, 108, 0, 0, 0, 1, 97, 1, 107, 0, 1, 2]), Ok(list![1, 2]));
}

#[test]
fn a_reference_has_1_to_5_words() {
    for (words, good) in [(0, false), (1, true), (5, true), (6, false), (0xffff, false)] {
        let bytes = joined(&[
            &[131, 90],
            &(words as u16).to_be_bytes(),
            &[119, 3, b'a', b'@', b'b', 0, 0, 0, 1],
            &vec![0; 4 * words],
        ]);
        assert_eq!(decode(&bytes).is_ok(), good, "{words}");
    }
}

#[test]
fn bytes_after_the_term_are_refused_or_counted() {
    assert_eq!(refused(&[131, 97, 1, 97, 2]), DecodeError::TrailingBytes { count: 2 });
    assert_eq!(decode_prefix(&[131, 97, 1, 97, 2]), Ok((1.into(), 3)));
}

#[test]
fn a_pid_of_an_atom_that_names_no_node_is_refused() {
    refused(&[131, 88, 119, 1, b'a', 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3]);
    refused(&[131, 88, 119, 0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3]);
}

#[test]
fn nothing_is_an_error_and_not_a_panic() {
    assert_eq!(decode(&[]), Err(DecodeError::Truncated));
    assert_eq!(decode(&[131]), Err(DecodeError::Truncated));
    assert_eq!(decode(&[130, 97, 1]), Err(DecodeError::BadVersion { found: 130 }));
}

#[test]
fn a_record_that_claims_more_fields_than_bytes_is_refused() {
    let error = refused(&[131, 67, 0xff, 0xff, 0xff, 0xff, 0, 119, 1, b'm', 119, 1, b'r']);
    assert_eq!(error, DecodeError::TooMany { count: 0xffff_ffff, left: 6, at: 7 });
}

#[test]
fn a_term_made_here_may_be_as_deep_as_it_likes() {
    let mut term = Term::NIL;
    for _ in 0..1000 {
        term = tuple![term];
    }
    let mut bytes = Vec::new();
    encode(&term, &mut bytes).unwrap();
    assert_eq!(bytes.len(), 2 + 2 * 1000);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode(&bytes);
        let _ = decode(&joined(&[&[131], &bytes]));
    }

    /// Random bytes rarely get past the first tag; these are all tags and small counts.
    #[test]
    fn random_tags_never_panic(
        bytes in proptest::collection::vec(
            prop_oneof![2 => 67..121_u8, 2 => 0..4_u8, 1 => any::<u8>()], 0..300,
        ),
    ) {
        if let Ok((term, _)) = decode_prefix(&joined(&[&[131], &bytes])) {
            let mut again = Vec::new();
            encode(&term, &mut again).unwrap();
            prop_assert_eq!(decode(&again), Ok(term));
        }
    }
}

proptest! {
    #[test]
    fn a_term_cut_short_anywhere_is_refused(term in any_term()) {
        let mut bytes = Vec::new();
        encode(&term, &mut bytes).unwrap();
        for len in 0..bytes.len() {
            prop_assert!(decode(&bytes[..len]).is_err());
        }
    }

    #[test]
    fn a_term_with_one_byte_changed_never_panics(
        term in any_term(), place in any::<prop::sample::Index>(), byte in any::<u8>(),
    ) {
        let mut bytes = Vec::new();
        encode(&term, &mut bytes).unwrap();
        let place = place.index(bytes.len());
        bytes[place] = byte;
        let _ = decode(&bytes);
    }
}
