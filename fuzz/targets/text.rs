//! Text as a term, and terms as text: what is printed and can be read is the same term.

use data_publisher::term::Term;
use data_publisher::wire::decode_prefix;

pub(super) fn run(input: &[u8]) {
    // No text begins with 131, and every term does.
    let term = if let Ok(text) = str::from_utf8(input) {
        match text.parse::<Term>() {
            Ok(term) => term,
            Err(error) => {
                assert!(error.column >= 1 && error.column <= text.chars().count() + 1, "{error}");
                let _ = error.to_string();
                if let Ok((_, rest)) = Term::parse_prefix(text) {
                    assert!(text.ends_with(rest));
                }
                return;
            }
        }
    } else {
        match decode_prefix(input) {
            Ok((term, _)) => term,
            Err(_) => return,
        }
    };
    let text = term.to_string();
    match text.parse::<Term>() {
        Ok(read) => {
            assert_eq!(read, term, "{text}");
            assert_eq!(read.to_string(), text);
            let (prefix, rest) = Term::parse_prefix(&text).expect("the whole is a term");
            assert_eq!((prefix, rest), (term, ""));
        }
        // What can't be read: pids and their like, long numbers, deep nesting.
        Err(error) => assert!(
            ["<", "#Ref", "#Port", "#Fun", "#Integer", "#"].iter().any(|what| text.contains(what))
                || str::from_utf8(input).is_err(),
            "{error}: {text}"
        ),
    }
}
