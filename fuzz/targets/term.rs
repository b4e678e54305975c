//! Bytes as a term: decoded, compared, hashed and printed without harm.

use std::cmp::Ordering;
use std::hash::{DefaultHasher, Hash, Hasher};

use data_publisher::term::{Excerpt, Term};
use data_publisher::wire::{DecodeError, decode, decode_prefix};

pub(super) fn run(input: &[u8]) {
    let (term, used) = match decode_prefix(input) {
        Ok(decoded) => decoded,
        Err(error) => {
            assert_eq!(decode(input), Err(error));
            let _ = error.to_string();
            return;
        }
    };
    assert!((2..=input.len()).contains(&used));
    let _ = term.to_string();
    let _ = Excerpt(&term).to_string();
    let hash = hash_of(&term);
    drop(term);

    // Cut off where it ends, it's the same; with more behind it, that is counted.
    let again = decode(&input[..used]).expect("the same bytes");
    assert_eq!(hash_of(&again), hash);
    assert_eq!(again.cmp(&again.clone()), Ordering::Equal);
    drop(again);
    match decode(input) {
        Ok(_) => assert_eq!(used, input.len()),
        Err(DecodeError::TrailingBytes { count }) => assert_eq!(count, input.len() - used),
        Err(error) => panic!("{error} behind a term"),
    }
}

fn hash_of(term: &Term) -> u64 {
    let mut hasher = DefaultHasher::new();
    term.hash(&mut hasher);
    hasher.finish()
}
