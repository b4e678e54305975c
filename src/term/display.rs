//! Terms printed in Erlang syntax, as `io:format("~0p")` prints them.

use std::fmt::{self, Write};

use super::{Fun, Term};

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer(value) => value.fmt(f),
            Self::BigInteger(value) => value.value().fmt(f),
            Self::Float(value) => write!(f, "{:?}", value.value()),
            Self::Atom(atom) => atom.fmt(f),
            Self::Reference(reference) => reference.fmt(f),
            Self::Port(port) => port.fmt(f),
            Self::Pid(pid) => pid.fmt(f),
            Self::Tuple(elements) => {
                f.write_char('{')?;
                write_all(f, elements)?;
                f.write_char('}')
            }
            Self::Map(map) => {
                f.write_str("#{")?;
                for (i, (key, value)) in map.pairs().iter().enumerate() {
                    let comma = if i == 0 { "" } else { "," };
                    write!(f, "{comma}{key} => {value}")?;
                }
                f.write_char('}')
            }
            Self::List(list) => {
                f.write_char('[')?;
                write_all(f, list)?;
                f.write_char(']')
            }
            Self::ImproperList(list) => {
                f.write_char('[')?;
                write_all(f, list.elements())?;
                write!(f, "|{}]", list.tail())
            }
            Self::Binary(bytes) => {
                f.write_str("<<")?;
                for (i, byte) in bytes.iter().enumerate() {
                    let comma = if i == 0 { "" } else { "," };
                    write!(f, "{comma}{byte}")?;
                }
                f.write_str(">>")
            }
            Self::BitString(_) => f.write_str("<<bits>>"),
            Self::Fun(fun) => match &**fun {
                Fun::External { module, function, arity } => {
                    write!(f, "fun {module}:{function}/{arity}")
                }
                Fun::Internal { module, index, uniq, .. } => {
                    write!(f, "#Fun<{module}.{index}.{}>", uniq[0])
                }
            },
            Self::Record(record) => write!(f, "#{}:{}{{..}}", record.module, record.name),
        }
    }
}

fn write_all(f: &mut fmt::Formatter<'_>, terms: &[Term]) -> fmt::Result {
    for (i, term) in terms.iter().enumerate() {
        if i > 0 {
            f.write_char(',')?;
        }
        fmt::Display::fmt(term, f)?;
    }
    Ok(())
}

pub(super) fn write_atom(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    let plain = text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '@');
    if plain { f.write_str(text) } else { write!(f, "'{}'", text.escape_default()) }
}

/// As `Display`: terms in logs and failed tests read as Erlang.
impl fmt::Debug for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
