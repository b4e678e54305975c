//! Terms read from Erlang syntax: what people type at a prompt, and what [`Display`] prints.
//!
//! The syntax is that of constants as `erl_parse:parse_term/1` takes them in OTP 27, with comments;
//! the dot at the end may be left out. Of the types of a binary's segments there are only integers
//! and `utf8`. What stands for something running (pids, references, ports, closures) can't be read:
//! their text lacks the creation of the node. Nor can native records, as in OTP 29.
//!
//! [`Display`]: std::fmt::Display

use std::str::FromStr;

use num_bigint::BigInt;

use super::display::{RESERVED_WORDS, continues_atom, starts_atom};
use super::{Atom, Fun, Map, Term};

/// A text is no Erlang term.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{message}, at column {column}")]
pub struct ParseError {
    /// Characters from the start of the text, the first is 1.
    pub column: usize,
    /// What is wrong there, and what to write instead.
    pub message: String,
}

/// A whole text that is one term, with or without a dot behind it.
///
/// ```
/// use data_publisher::{atom, list, term::Term, tuple};
/// let term: Term = "{add, [16#ff, $a]}".parse()?;
/// assert_eq!(term, tuple![atom!("add"), list![255, 97]]);
/// # Ok::<(), data_publisher::term::ParseError>(())
/// ```
impl FromStr for Term {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let mut parser = Parser::new(text);
        let term = parser.term()?;
        parser.skip_blank();
        parser.skip("."); // A second one is an error below.
        parser.skip_blank();
        match parser.peek() {
            None => Ok(term),
            Some(_) => Err(parser.error("the term is complete, but more text follows")),
        }
    }
}

impl Term {
    /// The deepest nesting that is read from text.
    const MAX_TEXT_DEPTH: usize = 256;

    /// Reads one term off the front of a text and returns what follows it, as it is.
    ///
    /// For several terms on one line; so two strings next to each other are two terms here.
    ///
    /// ```
    /// use data_publisher::{list, term::Term};
    /// let (term, rest) = Term::parse_prefix("[1, 2] hello")?;
    /// assert_eq!((term, rest), (list![1, 2], " hello"));
    /// # Ok::<(), data_publisher::term::ParseError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`ParseError`] when the text doesn't begin with a term.
    pub fn parse_prefix(text: &str) -> Result<(Self, &str), ParseError> {
        let mut parser = Parser::new(text);
        parser.skip_blank();
        let term = match parser.peek() {
            Some('"') => Self::string_of(&parser.one_string()?),
            _ => parser.term()?,
        };
        Ok((term, parser.rest))
    }
}

struct Parser<'a> {
    text: &'a str,
    /// What is left of `text`.
    rest: &'a str,
    /// Brackets that are open.
    depth: usize,
}

impl<'a> Parser<'a> {
    fn new(text: &'a str) -> Self {
        Self { text, rest: text, depth: 0 }
    }

    fn term(&mut self) -> Result<Term, ParseError> {
        self.skip_blank();
        let Some(first) = self.peek() else {
            return Err(self.error("a term is missing"));
        };
        match first {
            '0'..='9' => self.number(Sign::Plus),
            '$' => self.character(Sign::Plus),
            '-' | '+' => self.signed(),
            '"' => Ok(Term::string_of(&self.strings()?)),
            '\'' => {
                let start = self.rest;
                let text = self.quoted('\'')?;
                self.atom_of(start, &text)
            }
            '[' => self.nested(Self::list),
            '{' => self.nested(|parser| {
                parser.skip("{");
                Ok(Term::tuple_of(parser.separated("}")?))
            }),
            '#' if self.rest.starts_with("#{") => self.nested(Self::map),
            '<' if self.rest.starts_with("<<") => self.binary(),
            _ if starts_atom(first) => self.atom_or_fun(),
            _ => Err(self.no_term(first)),
        }
    }

    fn nested(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<Term, ParseError>,
    ) -> Result<Term, ParseError> {
        if self.depth == Term::MAX_TEXT_DEPTH {
            return Err(self.error("brackets nest at most 256 deep"));
        }
        self.depth += 1;
        let term = read(self)?;
        self.depth -= 1;
        Ok(term)
    }

    /// Terms with commas between them, up to and with a closing bracket.
    fn separated(&mut self, close: &str) -> Result<Vec<Term>, ParseError> {
        let mut terms = Vec::new();
        self.skip_blank();
        if self.skip(close) {
            return Ok(terms);
        }
        loop {
            terms.push(self.term()?);
            self.skip_blank();
            if self.skip(close) {
                return Ok(terms);
            }
            self.expect(",", close)?;
        }
    }

    fn list(&mut self) -> Result<Term, ParseError> {
        self.skip("[");
        let mut elements = Vec::new();
        self.skip_blank();
        if self.skip("]") {
            return Ok(Term::NIL);
        }
        loop {
            elements.push(self.term()?);
            self.skip_blank();
            if self.skip("]") {
                return Ok(Term::list_of(elements));
            }
            if self.skip("|") {
                let tail = self.term()?;
                self.skip_blank();
                self.expect("]", "")?;
                return Ok(Term::list_with_tail(elements, tail));
            }
            self.expect(",", "]")?;
        }
    }

    /// Of equal keys the last counts, as in Erlang.
    fn map(&mut self) -> Result<Term, ParseError> {
        self.skip("#{");
        let mut pairs = Vec::new();
        self.skip_blank();
        if !self.skip("}") {
            loop {
                let key = self.term()?;
                self.skip_blank();
                self.expect("=>", "")?;
                pairs.push((key, self.term()?));
                self.skip_blank();
                if self.skip("}") {
                    break;
                }
                self.expect(",", "}")?;
            }
        }
        Ok(Term::Map(pairs.into_iter().collect::<Map>()))
    }

    // --- atoms ----------------------------------------------------------------------------------

    fn atom_or_fun(&mut self) -> Result<Term, ParseError> {
        let start = self.rest;
        let word = self.take_while(continues_atom);
        if word == "fun" {
            return self.external_fun();
        }
        if RESERVED_WORDS.contains(&word) {
            return Err(self.error_at(
                start,
                format!("`{word}` is a word of the language; as an atom write '{word}'"),
            ));
        }
        self.atom_of(start, word)
    }

    fn atom_of(&self, start: &str, text: &str) -> Result<Term, ParseError> {
        Atom::new(text).map(Term::Atom).map_err(|error| self.error_at(start, error.to_string()))
    }

    /// The rest of `fun m:f/1`.
    fn external_fun(&mut self) -> Result<Term, ParseError> {
        let module = self.name_of_fun()?;
        self.expect_in_fun(":")?;
        let function = self.name_of_fun()?;
        self.expect_in_fun("/")?;
        self.skip_blank();
        let start = self.rest;
        let arity = self
            .digits(10)?
            .parse()
            .map_err(|_| self.error_at(start, "the arity of a fun is a number from 0 to 255"))?;
        Ok(Term::Fun(Fun::External { module, function, arity }.into()))
    }

    fn name_of_fun(&mut self) -> Result<Atom, ParseError> {
        self.skip_blank();
        let start = self.rest;
        let text = match self.peek() {
            Some('\'') => self.quoted('\'')?,
            Some(c) if starts_atom(c) => self.take_while(continues_atom).to_owned(),
            _ => return Err(self.error(NO_CLOSURE)),
        };
        Atom::new(&text).map_err(|error| self.error_at(start, error.to_string()))
    }

    fn expect_in_fun(&mut self, token: &str) -> Result<(), ParseError> {
        self.skip_blank();
        if self.skip(token) { Ok(()) } else { Err(self.error(NO_CLOSURE)) }
    }

    // --- numbers --------------------------------------------------------------------------------

    fn signed(&mut self) -> Result<Term, ParseError> {
        let sign = if self.skip("-") {
            Sign::Minus
        } else {
            self.skip("+");
            Sign::Plus
        };
        self.skip_blank();
        match self.peek() {
            Some('0'..='9') => self.number(sign),
            Some('$') => self.character(sign),
            _ => Err(self.error("a number has to follow a sign")),
        }
    }

    fn number(&mut self, sign: Sign) -> Result<Term, ParseError> {
        let start = self.rest;
        let lead = self.digits(10)?;
        let term = if self.skip("#") {
            match lead.parse() {
                Ok(radix @ 2..=36) => {
                    let digits = self.digits(radix)?;
                    self.integer(start, &digits, radix, sign)?
                }
                _ => return Err(self.error_at(start, "the base of a number is 2 to 36")),
            }
        } else if self.rest.starts_with('.')
            && self.rest[1..].starts_with(|c: char| c.is_ascii_digit())
        {
            self.float(start, lead, sign)?
        } else if self.rest.starts_with(['e', 'E']) {
            return Err(self.error_at(
                start,
                "a float has digits on both sides of its dot; write 1.0e10, not 1e10",
            ));
        } else {
            self.integer(start, &lead, 10, sign)?
        };
        match self.peek() {
            Some(c) if continues_atom(c) => {
                Err(self.error(format!("`{c}` can't stand in or right behind this number")))
            }
            _ => Ok(term),
        }
    }

    /// The rest of a float, behind the digits before its dot.
    fn float(&mut self, start: &str, mut text: String, sign: Sign) -> Result<Term, ParseError> {
        self.skip(".");
        text.push('.');
        text += &self.digits(10)?;
        if self.skip("e") || self.skip("E") {
            text.push('e');
            if self.skip("-") {
                text.push('-');
            } else {
                self.skip("+");
            }
            text += &self.digits(10)?;
        }
        let value: f64 = text.parse().unwrap_or(f64::INFINITY);
        let value = if sign == Sign::Minus { -value } else { value };
        Term::float_of(value).ok_or_else(|| self.error_at(start, "floats end at about 1.8e308"))
    }

    fn integer(
        &self,
        start: &str,
        digits: &str,
        radix: u32,
        sign: Sign,
    ) -> Result<Term, ParseError> {
        /// As many bits as an integer may have that comes from a node.
        const MAX_BITS: u64 = 64 * 1024 * 8;

        if let Ok(value) = i64::from_str_radix(digits, radix) {
            return Ok(Term::Integer(if sign == Sign::Minus { -value } else { value }));
        }
        // The fewest bits of so many digits: reading takes time with the square of the length.
        let at_least = (digits.len() as u64 - 1) * u64::from(radix.ilog2());
        (at_least <= MAX_BITS)
            .then(|| BigInt::parse_bytes(digits.as_bytes(), radix))
            .flatten()
            .filter(|value| value.bits() <= MAX_BITS)
            .map(|value| Term::from(if sign == Sign::Minus { -value } else { value }))
            .ok_or_else(|| self.error_at(start, "an integer has at most 64 KiB"))
    }

    /// Digits, without the underscores that may stand between them; at least one.
    fn digits(&mut self, radix: u32) -> Result<String, ParseError> {
        let text = self.take_while(|c| c.is_digit(radix) || c == '_');
        let between = !text.starts_with('_') && !text.ends_with('_') && !text.contains("__");
        if text.is_empty() || !between {
            return Err(self.error(if text.is_empty() {
                "digits are missing"
            } else {
                "an underscore in a number stands between two digits"
            }));
        }
        Ok(text.replace('_', ""))
    }

    /// `$a`.
    fn character(&mut self, sign: Sign) -> Result<Term, ParseError> {
        self.skip("$");
        let c = match self.next() {
            Some('\\') => self.escape()?,
            Some(c) => c,
            None => return Err(self.error("a character has to follow `$`")),
        };
        let code = i64::from(u32::from(c));
        Ok(Term::Integer(if sign == Sign::Minus { -code } else { code }))
    }

    // --- text -----------------------------------------------------------------------------------

    /// One string or several in a row, which are one.
    fn strings(&mut self) -> Result<String, ParseError> {
        let mut text = self.one_string()?;
        loop {
            self.skip_blank();
            if self.peek() != Some('"') {
                return Ok(text);
            }
            text += &self.one_string()?;
        }
    }

    fn one_string(&mut self) -> Result<String, ParseError> {
        if self.rest.starts_with("\"\"\"") {
            return Err(
                self.error("text in triple quotes isn't known here; use single ones and \\n")
            );
        }
        self.quoted('"')
    }

    /// What stands between quotes, the first of which is next.
    fn quoted(&mut self, quote: char) -> Result<String, ParseError> {
        let start = self.rest;
        self.next();
        let mut text = String::new();
        loop {
            match self.next() {
                Some('\\') => text.push(self.escape()?),
                Some(c) if c == quote => return Ok(text),
                Some(c) => text.push(c),
                None => {
                    return Err(
                        self.error_at(start, format!("no {quote} closes the one that opens"))
                    );
                }
            }
        }
    }

    /// What stands for a character behind a backslash.
    fn escape(&mut self) -> Result<char, ParseError> {
        let start = self.rest;
        let Some(c) = self.next() else {
            return Err(self.error("a character has to follow the backslash"));
        };
        Ok(match c {
            'b' => '\u{8}',
            'd' => '\u{7f}',
            'e' => '\u{1b}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            's' => ' ',
            't' => '\t',
            'v' => '\u{b}',
            '^' => match self.next() {
                Some('?') => '\u{7f}',
                Some(c @ ('@'..='_' | 'a'..='z')) => char::from(c as u8 & 31),
                _ => return Err(self.error_at(start, "`\\^` is followed by a letter")),
            },
            'x' => {
                let code = if self.skip("{") {
                    let digits = self.take_while(|c| c.is_ascii_hexdigit());
                    if self.skip("}") { u32::from_str_radix(digits, 16).ok() } else { None }
                } else {
                    let digits = self.rest.get(..2).unwrap_or_default();
                    self.rest = &self.rest[digits.len()..];
                    digits
                        .chars()
                        .all(|c| c.is_ascii_hexdigit())
                        .then(|| u32::from_str_radix(digits, 16).ok())
                        .flatten()
                };
                code.and_then(char::from_u32).ok_or_else(|| {
                    self.error_at(start, "a character by its number is \\xHH or \\x{HHHH}")
                })?
            }
            '0'..='7' => {
                let digits = 1 + self.rest.chars().take(2).take_while(|c| c.is_digit(8)).count();
                let code = u32::from_str_radix(&start[..digits], 8).ok();
                self.rest = &start[digits..];
                code.and_then(char::from_u32).unwrap_or_default()
            }
            c => c,
        })
    }

    // --- binaries -------------------------------------------------------------------------------

    fn binary(&mut self) -> Result<Term, ParseError> {
        self.skip("<<");
        let mut bits = Bits::default();
        self.skip_blank();
        if !self.skip(">>") {
            loop {
                self.segment(&mut bits)?;
                self.skip_blank();
                if self.skip(">>") {
                    break;
                }
                self.expect(",", ">>")?;
            }
        }
        Ok(bits.into_term())
    }

    fn segment(&mut self, bits: &mut Bits) -> Result<(), ParseError> {
        self.skip_blank();
        let start = self.rest;
        let values = match self.peek() {
            Some('"') => self.strings()?.chars().map(|c| Term::from(u32::from(c))).collect(),
            Some('0'..='9' | '$' | '-' | '+') => vec![self.term()?],
            _ => return Err(self.error("a binary consists of integers and strings")),
        };
        self.skip_blank();
        let size = self.segment_size()?;
        self.skip_blank();
        let utf8 = self.segment_is_utf8()?;
        if utf8 && size.is_some() {
            return Err(self.error_at(start, "a segment of type utf8 has no size"));
        }
        for value in values {
            match value {
                Term::Integer(code) if utf8 => {
                    let c = u32::try_from(code).ok().and_then(char::from_u32).ok_or_else(|| {
                        self.error_at(start, format!("{code} is no Unicode character"))
                    })?;
                    c.encode_utf8(&mut [0; 4]).bytes().for_each(|byte| bits.push(byte, 8));
                }
                Term::Integer(value) => bits.push_integer(&value.to_be_bytes(), size.unwrap_or(8)),
                Term::BigInteger(value) if !utf8 => {
                    bits.push_integer(&value.value().to_signed_bytes_be(), size.unwrap_or(8));
                }
                _ => {
                    return Err(self.error_at(start, "a binary consists of integers and strings"));
                }
            }
        }
        Ok(())
    }

    /// The `:16` of a segment, in bits.
    fn segment_size(&mut self) -> Result<Option<usize>, ParseError> {
        if !self.skip(":") {
            return Ok(None);
        }
        self.skip_blank();
        let start = self.rest;
        match self.digits(10)?.parse() {
            Ok(size @ 0..=65_536) => Ok(Some(size)),
            _ => Err(self.error_at(start, "a segment has at most 65536 bits")),
        }
    }

    /// The `/utf8` of a segment.
    fn segment_is_utf8(&mut self) -> Result<bool, ParseError> {
        if !self.skip("/") {
            return Ok(false);
        }
        self.skip_blank();
        let start = self.rest;
        match self.take_while(|c| continues_atom(c) || c == '-' || c == ':') {
            "utf8" => Ok(true),
            "integer" => Ok(false),
            _ => Err(self.error_at(start, "of the types of a segment only utf8 is known here")),
        }
    }

    // --- characters -----------------------------------------------------------------------------

    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let mut chars = self.rest.chars();
        let c = chars.next();
        self.rest = chars.as_str();
        c
    }

    /// Passes this token if it's next.
    fn skip(&mut self, token: &str) -> bool {
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    /// Passes white space and comments.
    fn skip_blank(&mut self) {
        loop {
            self.take_while(|c| c <= ' ' || ('\u{80}'..='\u{a0}').contains(&c));
            if self.peek() != Some('%') {
                return;
            }
            self.take_while(|c| c != '\n');
        }
    }

    fn take_while(&mut self, belongs: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|c| !belongs(c)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(end);
        self.rest = rest;
        taken
    }

    /// Passes this token; the error also names the other one that could stand here, if any.
    fn expect(&mut self, token: &str, other: &str) -> Result<(), ParseError> {
        if self.skip(token) {
            return Ok(());
        }
        let or = if other.is_empty() { String::new() } else { format!(" or `{other}`") };
        let found = match self.peek() {
            Some(c) => format!("not `{c}`"),
            None => "but the text ends".into(),
        };
        Err(self.error(format!("`{token}`{or} has to follow, {found}")))
    }

    // --- errors ---------------------------------------------------------------------------------

    fn error(&self, message: impl Into<String>) -> ParseError {
        self.error_at(self.rest, message)
    }

    /// An error at the place from where this much was left.
    fn error_at(&self, left: &str, message: impl Into<String>) -> ParseError {
        let passed = self.text.len() - left.len();
        let column = 1 + self.text.get(..passed).map_or(0, |text| text.chars().count());
        ParseError { column, message: message.into() }
    }

    /// What to say when no term starts with this character, which is next.
    fn no_term(&mut self, first: char) -> ParseError {
        let start = self.rest;
        let running = ["#Ref<", "#Port<", "#Fun<", "#PID<"];
        let message = if first == '<' || running.iter().any(|sign| start.starts_with(sign)) {
            "pids, references, ports and closures can't be read from text, which doesn't say which \
             start of the node they belong to; use a registered name or a group instead"
                .into()
        } else if start.starts_with("#Integer<") {
            "the digits of this integer weren't printed, so they can't be read".into()
        } else if first == '#' {
            "records can't be read from text; write the tuple, or `#{key => value}` for a map"
                .into()
        } else if first == '~' {
            "sigils aren't known here; write <<\"text\"/utf8>> for a binary".into()
        } else if first.is_uppercase() || first == '_' {
            let word = self.take_while(|c| continues_atom(c) || c.is_alphanumeric());
            format!("`{word}` is a variable; as an atom write '{word}'")
        } else if first.is_alphabetic() {
            let word = self.take_while(|c| continues_atom(c) || c.is_alphanumeric());
            format!("an atom with such letters is quoted; write '{word}'")
        } else {
            format!("no term begins with `{first}`; text is quoted, as in \"text\" or 'atom'")
        };
        self.error_at(start, message)
    }
}

const NO_CLOSURE: &str = "of funs only `fun module:function/arity` can be read";

#[derive(Clone, Copy, Eq, PartialEq)]
enum Sign {
    Plus,
    Minus,
}

/// A bit string that grows.
#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    /// Bits of the last byte that are taken, 0 for all of them.
    used: u8,
}

impl Bits {
    /// Appends the low `count` bits, 1 to 8.
    fn push(&mut self, byte: u8, count: u8) {
        let high = byte << (8 - count);
        match self.bytes.last_mut() {
            Some(last) if self.used > 0 => {
                *last |= high >> self.used;
                if self.used + count > 8 {
                    self.bytes.push(high << (8 - self.used));
                }
            }
            _ => self.bytes.push(high),
        }
        self.used = (self.used + count) % 8;
    }

    /// Appends the low `size` bits of a number in two's complement, the highest byte first.
    fn push_integer(&mut self, number: &[u8], size: usize) {
        let fill = if number.first().is_some_and(|byte| *byte >= 0x80) { 0xff } else { 0 };
        let mut left = size;
        while left > 0 {
            let count = if left.is_multiple_of(8) { 8 } else { left % 8 };
            let from_end = left.div_ceil(8);
            let byte = number.len().checked_sub(from_end).and_then(|place| number.get(place));
            self.push(byte.copied().unwrap_or(fill), count as u8);
            left -= count;
        }
    }

    fn into_term(self) -> Term {
        let last_bits = if self.used == 0 { 8 } else { self.used };
        Term::bit_string_of(self.bytes, last_bits).unwrap_or_else(|| Term::binary_of([]))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::term::testing;
    use crate::{atom, list, map, tuple};

    fn parse(text: &str) -> Term {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn error(text: &str) -> String {
        text.parse::<Term>().expect_err(text).to_string()
    }

    #[test]
    fn atoms_plain_and_quoted() {
        assert_eq!(parse("a@B_1"), atom!("a@B_1"));
        assert_eq!(parse("'a b'"), atom!("a b"));
        assert_eq!(parse("''"), atom!(""));
        assert_eq!(
            parse(r"'\b\d\e\f\n\r\s\t\v\'\\\x41\x{1F600}\101\0\7z\^a\^A\^?\q'"),
            atom!("\u{8}\u{7f}\u{1b}\u{c}\n\r \t\u{b}'\\A😀A\0\u{7}z\u{1}\u{1}\u{7f}q"),
        );
    }

    #[test]
    fn numbers_in_every_form() {
        assert_eq!(parse("1_000"), Term::from(1000));
        assert_eq!(parse("-16#Ff_f"), Term::from(-4095));
        assert_eq!(parse("36#z"), Term::from(35));
        assert_eq!(parse("+ 7"), Term::from(7));
        assert_eq!(parse("- $a"), Term::from(-97));
        assert_eq!(parse("-9223372036854775808"), Term::from(i64::MIN));
        assert_eq!(parse("9223372036854775808"), Term::from(BigInt::from(i64::MAX) + 1));
        assert_eq!(parse("1_0.2_5e-0_1"), Term::float_of(1.025).unwrap());
        assert_eq!(parse("1.0E+3"), Term::float_of(1000.0).unwrap());
        assert_eq!(parse("-0.0"), Term::float_of(-0.0).unwrap());
        assert_eq!(parse("[$ ,$\\n,$\\x{e9},$\",$']"), list![32, 10, 233, 34, 39]);
    }

    #[test]
    fn lists_strings_tuples_and_maps() {
        assert_eq!(
            parse(" [ 1 , 2 | 3 ] "),
            Term::list_with_tail(vec![1.into(), 2.into()], 3.into())
        );
        assert_eq!(parse("[1|[2|[]]]"), list![1, 2]);
        assert_eq!(parse("\"a\" %x\n \"b\\\"\""), Term::string_of("ab\""));
        assert_eq!(parse("{}"), tuple![]);
        assert_eq!(parse("{a,{[]}}."), tuple![atom!("a"), tuple![Term::NIL]]);
        assert_eq!(
            parse("#{a=>1, 1 =>#{}, a => 2} . % end"),
            map! { atom!("a") => 2, 1 => map! {} }
        );
        let fun = Fun::External { module: atom!("A"), function: atom!("b"), arity: 255 };
        assert_eq!(parse("fun 'A' : b / 255"), Term::Fun(fun.into()));
    }

    #[test]
    fn binaries_of_integers_and_strings() {
        assert_eq!(parse("<<>>"), Term::binary_of([]));
        assert_eq!(
            parse("<<1, $a, 258, -1, \"b\" \"é\">>"),
            Term::binary_of([1, 97, 2, 255, 98, 233])
        );
        assert_eq!(parse("<<\"é\"/utf8,16#20ac/utf8>>"), Term::binary_of("é€"));
        assert_eq!(parse("<<5:3>>"), Term::bit_string_of([0xa0], 3).unwrap());
        assert_eq!(
            parse("<<5:3,1:5,\"a\":16,-2:12,7:4,9:0>>"),
            Term::binary_of([161, 0, 97, 0xff, 0xe7])
        );
        assert_eq!(parse("<<1:1,255>>"), Term::bit_string_of([255, 0x80], 1).unwrap());
        assert_eq!(
            parse("<<-1:72, 16#010203040506070809:80>>"),
            Term::binary_of([
                255, 255, 255, 255, 255, 255, 255, 255, 255, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9
            ]),
        );
    }

    #[test]
    fn an_error_names_the_column_and_the_cure() {
        for (text, expected) in [
            ("", "a term is missing, at column 1"),
            ("{é, Foo}", "`Foo` is a variable; as an atom write 'Foo', at column 5"),
            ("[maybe]", "`maybe` is a word of the language; as an atom write 'maybe', at column 2"),
            ("Ж", "`Ж` is a variable"),
            ("ж", "an atom with such letters is quoted; write 'ж', at column 1"),
            ("<a@host.92.0>", "pids, references, ports and closures can't be read from text"),
            ("#Ref<0.1.2.3>", "pids, references"),
            ("#m:r{a = 1}", "records can't be read"),
            ("-#Integer<9 bits>", "a number has to follow a sign"),
            ("[1,2", "`,` or `]` has to follow, but the text ends, at column 5"),
            ("{1 2}", "`,` or `}` has to follow, not `2`, at column 4"),
            ("[1|2,3]", "`]` has to follow, not `,`"),
            ("#{a:=1}", "`=>` has to follow, not `:`"),
            ("1 2", "the term is complete, but more text follows, at column 3"),
            ("a..", "the term is complete"),
            ("1e5", "write 1.0e10"),
            ("1_", "an underscore"),
            ("12a", "`a` can't stand"),
            ("37#1", "the base of a number is 2 to 36"),
            ("1.0e999", "floats end at about 1.8e308"),
            ("\"abc", "no \" closes the one that opens, at column 1"),
            ("'\\x{d800}'", "a character by its number is \\xHH or \\x{HHHH}, at column 3"),
            ("'\\x4é'", "a character by its number"),
            ("\"\"\"\na\n\"\"\"", "text in triple quotes"),
            ("<<1.5>>", "a binary consists of integers and strings"),
            ("<<1:99999999>>", "a segment has at most 65536 bits"),
            ("<<1/float>>", "only utf8 is known"),
            ("fun(X) -> X end", "only `fun module:function/arity`"),
            ("fun m:f/256", "a number from 0 to 255"),
            ("~\"a\"", "sigils aren't known"),
            (&"a".repeat(256), "an atom has at most 255 characters"),
        ] {
            let error = error(text);
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn nesting_is_bounded() {
        let nested = |depth| "[".repeat(depth) + &"]".repeat(depth);
        parse(&nested(256));
        assert!(error(&nested(257)).starts_with("brackets nest at most 256 deep"));
        assert!(error(&"{".repeat(1_000_000)).starts_with("brackets nest"));
        assert!(error(&"#{".repeat(1_000_000)).starts_with("brackets nest"));
        assert!(error(&"fun ".repeat(1_000_000)).starts_with("of funs only"));
    }

    #[test]
    fn integers_are_read_up_to_the_length_a_node_may_send() {
        parse(&format!("16#{}", "f".repeat(128 * 1024)));
        assert!(error(&format!("16#1{}", "0".repeat(128 * 1024))).contains("64 KiB"));
        assert!(error(&"9".repeat(1_000_000)).contains("64 KiB"));
    }

    #[test]
    fn a_prefix_leaves_the_next_term_alone() {
        assert_eq!(Term::parse_prefix(" {a} b").unwrap(), (tuple![atom!("a")], " b"));
        assert_eq!(Term::parse_prefix("\"a\" \"b\"").unwrap(), (Term::string_of("a"), " \"b\""));
        assert_eq!(Term::parse_prefix("a -1").unwrap(), (atom!("a").into(), " -1"));
        assert_eq!(Term::parse_prefix("1. 2").unwrap(), (1.into(), ". 2"));
        assert!(Term::parse_prefix("  ").is_err());
    }

    proptest! {
        #[test]
        fn what_is_printed_reads_back(term in testing::constant()) {
            prop_assert_eq!(term.to_string().parse(), Ok(term));
        }

        #[test]
        fn any_text_is_a_term_or_an_error(text in "[-+#{}<>\\[\\]|\"'\\\\$%.:/~_ aAé0-9fun\n]*") {
            let _ = text.parse::<Term>();
            let _ = Term::parse_prefix(&text);
        }
    }
}
