//! Terms printed in Erlang syntax, on one line.
//!
//! The text is that of `io_lib:format("~0ktp", [Term])` on a node with `+pc unicode`: lists and
//! binaries of printable characters show as text, map keys are sorted. Two things differ. Pids,
//! references and ports show the name of their node, where the BEAM shows a number that only means
//! something on that node. And integers of more than about 4,096 digits are replaced by their size.
//!
//! Nothing is built before it's written, so a writer that stops costs no more than what it took
//! (a list or binary is looked through once, to see whether it's text).

use std::fmt::{self, Write};

use num_bigint::{BigInt, Sign};

use super::{Fun, Record, Term};

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer(value) => write!(f, "{value}"),
            Self::BigInteger(value) => write_big(f, value.value()),
            Self::Float(value) => f.write_str(&float_text(value.value())),
            Self::Atom(atom) => write_atom(f, atom.as_str()),
            Self::Reference(reference) => write!(f, "{reference}"),
            Self::Port(port) => write!(f, "{port}"),
            Self::Pid(pid) => write!(f, "{pid}"),
            Self::Tuple(elements) => {
                f.write_char('{')?;
                write_separated(f, elements.iter())?;
                f.write_char('}')
            }
            Self::Map(map) => {
                f.write_str("#{")?;
                for (i, (key, value)) in map.pairs().iter().enumerate() {
                    write!(f, "{}{key} => {value}", comma(i))?;
                }
                f.write_char('}')
            }
            Self::List(list) if is_text(list) => {
                write_quoted(f, list.iter().filter_map(printable), '"')
            }
            Self::List(list) => {
                f.write_char('[')?;
                write_separated(f, list.iter())?;
                f.write_char(']')
            }
            Self::ImproperList(list) => {
                f.write_char('[')?;
                write_separated(f, list.elements().iter())?;
                write!(f, "|{}]", list.tail())
            }
            Self::Binary(bytes) => write_binary(f, bytes),
            Self::BitString(bits) => {
                f.write_str("<<")?;
                if let Some((last, whole)) = bits.bytes().split_last() {
                    for byte in whole {
                        write!(f, "{byte},")?;
                    }
                    write!(f, "{}:{}", last >> (8 - bits.last_bits()), bits.last_bits())?;
                }
                f.write_str(">>")
            }
            Self::Fun(fun) => write_fun(f, fun),
            Self::Record(record) => write_record(f, record),
        }
    }
}

/// As `Display`: terms in logs and failed tests read as Erlang.
impl fmt::Debug for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn comma(index: usize) -> &'static str {
    if index == 0 { "" } else { "," }
}

fn write_separated<T: fmt::Display>(
    f: &mut fmt::Formatter<'_>,
    items: impl Iterator<Item = T>,
) -> fmt::Result {
    for (i, item) in items.enumerate() {
        write!(f, "{}{item}", comma(i))?;
    }
    Ok(())
}

/// Source: `erlang:fun_to_list/1`, which shows the numbers of the old format. The names in
/// `fun m:f/1` are written as atoms, so that they read back; the BEAM quotes `a@b` but no `maybe`,
/// and garbles `ÿ`. In a closure's text it quotes none (`#Fun<Elixir.Enum.0.123>`), but in our
/// logs a module can't begin a line of its own.
fn write_fun(f: &mut fmt::Formatter<'_>, fun: &Fun) -> fmt::Result {
    match fun {
        Fun::External { module, function, arity } => write!(f, "fun {module}:{function}/{arity}"),
        Fun::Internal { module, old_index, old_uniq, .. } => {
            f.write_str("#Fun<")?;
            if module.as_str().contains(char::is_control) {
                write!(f, "{module}")?;
            } else {
                f.write_str(module.as_str())?;
            }
            write!(f, ".{old_index}.{old_uniq}>")
        }
    }
}

fn write_record(f: &mut fmt::Formatter<'_>, record: &Record) -> fmt::Result {
    write!(f, "#{}:{}{{", record.module, record.name)?;
    for (i, (name, value)) in record.fields.iter().enumerate() {
        write!(f, "{}{name} = {value}", comma(i))?;
    }
    f.write_char('}')
}

// --- numbers ----------------------------------------------------------------------------------

/// `#Integer<100000 bits>` or `-#Integer<100000 bits>` when it has more than 4,096 digits: to print
/// such a number takes time with the square of its length (CVE-2026-49760 was a printed integer).
fn write_big(f: &mut fmt::Formatter<'_>, value: &BigInt) -> fmt::Result {
    /// Bits of the integer 10^4096 - 1, the longest of 4,096 digits.
    const MAX_BITS: u64 = 13_607;

    if value.bits() <= MAX_BITS {
        return write!(f, "{value}");
    }
    let sign = if value.sign() == Sign::Minus { "-" } else { "" };
    write!(f, "{sign}#Integer<{} bits>", value.bits())
}

/// The fewest digits that read back as the same float; with an exponent where that is shorter, or
/// from 2^53 on.
///
/// Source: `float_to_list(F, [short])`, OTP 25 on.
fn float_text(value: f64) -> String {
    const TWO_TO_53: f64 = 9_007_199_254_740_992.0;

    let mut scientific = format!("{value:e}");
    if let Some(exponent) = scientific.find('e')
        && !scientific.contains('.')
    {
        scientific.insert_str(exponent, ".0");
    }
    let plain = format!("{value:?}");
    let plain_is_right =
        value.abs() < TWO_TO_53 && !plain.contains('e') && plain.len() <= scientific.len();
    if plain_is_right { plain } else { scientific }
}

// --- text -------------------------------------------------------------------------------------

/// Writes an atom, in quotes where Erlang wants them.
///
/// Source: `io_lib:write_atom/1`, OTP 27 and 29.
pub(super) fn write_atom(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    let plain = text.starts_with(starts_atom)
        && text.chars().all(continues_atom)
        && !RESERVED_WORDS.contains(&text);
    if plain { f.write_str(text) } else { write_quoted(f, text.chars(), '\'') }
}

/// Words that are no atoms unless quoted; the longest list of all releases (`maybe` and `else` came
/// with OTP 27).
pub(super) const RESERVED_WORDS: [&str; 29] = [
    "after", "and", "andalso", "band", "begin", "bnot", "bor", "bsl", "bsr", "bxor", "case",
    "catch", "cond", "div", "else", "end", "fun", "if", "let", "maybe", "not", "of", "or",
    "orelse", "receive", "rem", "try", "when", "xor",
];

/// Whether an atom that begins so may stand without quotes: lower case letters of Latin-1.
pub(super) fn starts_atom(c: char) -> bool {
    matches!(c, 'a'..='z' | 'ß'..='ö' | 'ø'..='ÿ')
}

/// Whether an atom may go on so without quotes.
pub(super) fn continues_atom(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '@' | 'À'..='Ö' | 'Ø'..='ö' | 'ø'..='ÿ')
}

fn is_text(list: &[Term]) -> bool {
    !list.is_empty() && list.iter().all(|element| printable(element).is_some())
}

/// The character of an element of a string.
fn printable(element: &Term) -> Option<char> {
    match element {
        Term::Integer(code) => {
            u32::try_from(*code).ok().and_then(char::from_u32).filter(|c| is_printable(*c))
        }
        _ => None,
    }
}

/// Source: `io_lib:printable_unicode_list/1`.
fn is_printable(c: char) -> bool {
    matches!(
        c,
        ' '..='~' | '\u{8}'..='\r' | '\u{1b}' | '\u{a0}'..='\u{fffd}' | '\u{10000}'..='\u{10ffff}'
    )
}

/// As text where it's printable UTF-8 or else Latin-1, otherwise the bytes.
///
/// Source: `io_lib_pretty:printable_bin/5`. Latin-1 isn't tried once an unprintable character was
/// met, even if that is a printable one there.
fn write_binary(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    let (text, rest) = match std::str::from_utf8(bytes) {
        Ok(text) => (text, &[][..]),
        Err(error) => {
            let (valid, rest) = bytes.split_at(error.valid_up_to());
            (std::str::from_utf8(valid).unwrap_or_default(), rest)
        }
    };
    let latin1 = || bytes.iter().map(|byte| char::from(*byte));
    f.write_str("<<")?;
    if !bytes.is_empty() && text.chars().all(is_printable) {
        if rest.is_empty() {
            write_quoted(f, text.chars(), '"')?;
            return f.write_str(if text.is_ascii() { ">>" } else { "/utf8>>" });
        }
        if latin1().all(is_printable) {
            write_quoted(f, latin1(), '"')?;
            return f.write_str(">>");
        }
    }
    write_separated(f, bytes.iter())?;
    f.write_str(">>")
}

/// Source: `io_lib:write_string/2`.
fn write_quoted(
    f: &mut fmt::Formatter<'_>,
    text: impl Iterator<Item = char>,
    quote: char,
) -> fmt::Result {
    f.write_char(quote)?;
    for c in text {
        match c {
            '\\' => f.write_str("\\\\")?,
            _ if c == quote => write!(f, "\\{c}")?,
            '\u{8}' => f.write_str("\\b")?,
            '\t' => f.write_str("\\t")?,
            '\n' => f.write_str("\\n")?,
            '\u{b}' => f.write_str("\\v")?,
            '\u{c}' => f.write_str("\\f")?,
            '\r' => f.write_str("\\r")?,
            '\u{1b}' => f.write_str("\\e")?,
            '\u{7f}' => f.write_str("\\d")?,
            '\0'..='\u{1f}' | '\u{80}'..='\u{9f}' => write!(f, "\\{:03o}", u32::from(c))?,
            _ => f.write_char(c)?,
        }
    }
    f.write_char(quote)
}

#[cfg(test)]
mod tests {
    use num_bigint::BigInt;

    use super::*;
    use crate::term::Excerpt;
    use crate::{atom, list, map, tuple};

    fn text(term: impl Into<Term>) -> String {
        term.into().to_string()
    }

    #[test]
    fn atoms_are_quoted_where_erlang_quotes_them() {
        for plain in ["a", "a@b", "aB_1", "é", "ÿÀ"] {
            assert_eq!(text(crate::term::Atom::new(plain).unwrap()), plain);
        }
        for quoted in ["", "B", "_", "a b", "a.b", "1", "÷", "a×", "aЀ", "maybe", "else", "fun"]
        {
            assert_eq!(text(crate::term::Atom::new(quoted).unwrap()), format!("'{quoted}'"));
        }
        assert_eq!(
            text(atom!("it's\\\n\u{1}\u{7f}\u{80}\u{a0}")),
            "'it\\'s\\\\\\n\\001\\d\\200\u{a0}'"
        );
    }

    #[test]
    fn a_list_of_printable_characters_is_a_string() {
        assert_eq!(text(Term::string_of("a\"é\nЀ😀")), "\"a\\\"é\\nЀ😀\"");
        assert_eq!(text(list![0xfffe]), "[65534]");
        assert_eq!(text(list![0xd800]), "[55296]");
        assert_eq!(text(list![127]), "[127]");
        assert_eq!(text(list![97, atom!("b")]), "[97,b]");
        assert_eq!(text(Term::NIL), "[]");
        assert_eq!(text(Term::list_with_tail(vec![97.into()], 98.into())), "[97|98]");
    }

    #[test]
    fn a_binary_of_printable_characters_is_text() {
        let binary = |bytes: &[u8]| text(Term::binary_of(bytes));
        assert_eq!(binary(b""), "<<>>");
        assert_eq!(binary(b"a\"\n"), "<<\"a\\\"\\n\">>");
        assert_eq!(binary("é".as_bytes()), "<<\"é\"/utf8>>");
        assert_eq!(binary(&[0xe9]), "<<\"é\">>");
        assert_eq!(binary(&[0xe9, 0]), "<<233,0>>");
        assert_eq!(binary("\u{fffe}".as_bytes()), "<<239,191,190>>");
        assert_eq!(binary("\u{fffe}\u{e9}".as_bytes()), "<<239,191,190,195,169>>");
        assert_eq!(binary(&[0xef, 0xbf, 0xbe, 0xe9]), "<<239,191,190,233>>");
    }

    #[test]
    fn bit_strings_end_with_a_size() {
        assert_eq!(text(Term::bit_string_of([0b1010_0000], 3).unwrap()), "<<5:3>>");
        assert_eq!(text(Term::bit_string_of([97, 2, 0x80], 1).unwrap()), "<<97,2,1:1>>");
    }

    #[test]
    fn floats_are_as_short_as_those_of_erlang() {
        for (value, expected) in [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (100.0, "100.0"),
            (1000.0, "1.0e3"),
            (1100.0, "1.1e3"),
            (0.0001, "0.0001"),
            (0.000_01, "1.0e-5"),
            (0.000_123_45, "1.2345e-4"),
            (123_456_789.0, "123456789.0"),
            (1e23, "1.0e23"),
            (9_007_199_254_740_991.0, "9007199254740991.0"),
            (9_007_199_254_740_992.0, "9.007199254740992e15"),
            (f64::MAX, "1.7976931348623157e308"),
            (5e-324, "5.0e-324"),
            (-1.5, "-1.5"),
        ] {
            assert_eq!(text(Term::float_of(value).unwrap()), expected);
        }
    }

    #[test]
    fn compound_terms_look_as_in_erlang() {
        assert_eq!(
            text(map! { atom!("b") => list![], 1 => tuple![], 2 => tuple![1, 2] }),
            "#{1 => {},2 => {1,2},b => []}",
        );
        assert_eq!(text(map! {}), "#{}");
        let fun = Fun::External { module: atom!("A"), function: atom!("f"), arity: 3 };
        assert_eq!(text(Term::Fun(fun.into())), "fun 'A':f/3");
        let record = Record {
            flags: 0,
            module: atom!("m"),
            name: atom!("A b"),
            fields: vec![(atom!("x"), 1.into()), (atom!("Y"), Term::string_of("y"))],
        };
        assert_eq!(text(Term::Record(record.into())), "#m:'A b'{x = 1,'Y' = \"y\"}");
    }

    #[test]
    fn an_integer_of_4096_digits_is_printed_and_a_longer_one_measured() {
        let longest = BigInt::from(10).pow(4096) - 1;
        assert_eq!(text(longest), "9".repeat(4096));
        let huge: BigInt = (BigInt::from(1) << (64 * 1024 * 8)) - 1;
        assert_eq!(text(huge.clone()), "#Integer<524288 bits>");
        assert_eq!(text(-huge), "-#Integer<524288 bits>");
    }

    #[test]
    fn width_and_fill_do_not_reach_the_parts() {
        assert_eq!(format!("{:08}", list![1, 2]), "[1,2]");
    }

    #[test]
    fn a_writer_that_stops_ends_the_printing() {
        // Shared, so it's cheap to have and endless to print.
        let huge = (0..200).fold(Term::from(1), |term, _| tuple![&term, &term]);
        assert!(Excerpt(&huge).to_string().ends_with("..."));
    }
}
