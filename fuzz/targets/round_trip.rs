//! A term read is written and read again as the same; where the crate `eetf` can be trusted, it agrees.

use data_publisher::term::Term;
use data_publisher::wire::{decode, decode_prefix, encode};

/// `FLOAT_EXT`, which `eetf` reads in single precision.
const FLOAT: u8 = 99;
const COMPRESSED: u8 = 80;
/// `ATOM_EXT` and `SMALL_ATOM_EXT`, whose Latin-1 it reads as UTF-8.
const LATIN_1: [u8; 2] = [100, 115];

pub(super) fn run(input: &[u8]) {
    let Ok((term, used)) = decode_prefix(input) else { return };
    let bytes = encoded(&term);
    let again = decode(&bytes);
    assert_eq!(again.as_ref(), Ok(&term), "read again");
    assert_eq!(again.map(|again| encoded(&again)), Ok(bytes.clone()), "written again");
    for len in [bytes.len() - 1, bytes.len() / 2] {
        assert!(decode(&bytes[..len]).is_err(), "cut to {len} bytes");
    }

    let Ok(theirs) = eetf::Term::try_from(&term) else { return };
    // All it reads here we have read before, so its counts are sound and it isn't deep.
    let read = eetf::Term::decode(&bytes[..]).expect("what we write is a term");
    assert_eq!(Term::try_from(&read).as_ref(), Ok(&term), "what eetf makes of what we wrote");
    let original = &input[..used];
    if original[1] != COMPRESSED
        && !original.contains(&FLOAT)
        && (original[1..].is_ascii() || !original.iter().any(|byte| LATIN_1.contains(byte)))
        && let Ok(read) = eetf::Term::decode(original)
        && let Ok(read) = Term::try_from(&read)
    {
        assert_eq!(read, term, "what eetf makes of the input");
    }
    let mut written = Vec::new();
    // It writes negative numbers in a list of small ones as a string, and lists of more than 65,535
    // with a cut length: its defects. What it can't read back itself isn't asked about.
    if theirs.encode(&mut written).is_ok()
        && let Ok(ours) = decode(&written)
        && eetf::Term::decode(&written[..])
            .is_ok_and(|read| Term::try_from(&read) == Ok(term.clone()))
    {
        assert_eq!(ours, term, "what we make of what eetf wrote");
    }
}

fn encoded(term: &Term) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(term, &mut bytes).expect("it came in a message");
    bytes
}
