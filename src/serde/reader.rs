//! Terms to values.

use std::slice;

use ::serde::de::value::BytesDeserializer;
use ::serde::de::{
    self, DeserializeSeed, EnumAccess, Expected, MapAccess, SeqAccess, Unexpected, VariantAccess,
    Visitor,
};
use num_bigint::BigInt;

use super::error::{ReadError, Step};
use super::{Manners, handover, own};
use crate::term::{Atom, Excerpt, Term};

/// The deepest nesting that is read. A peer's terms are up to twice as deep, and each level of a type
/// that contains itself may cost kilobytes of stack; a stack that overflows takes the node with it.
/// `serde_json` stops at the same depth.
const MAX_DEPTH: u16 = 128;

/// What a map calls the module of the Elixir struct that it is.
const STRUCT_KEY: &str = "__struct__";

/// Reads one term. It's as small as a reference, and made anew for each part.
#[derive(Clone, Copy)]
pub(super) struct Reader<'de> {
    term: &'de Term,
    rest: Rest,
}

/// What a reader tells the readers of the parts.
#[derive(Clone, Copy)]
struct Rest {
    manners: Manners,
    /// How much deeper it may go.
    depth: u16,
}

impl<'de> Reader<'de> {
    pub(super) fn new(term: &'de Term, manners: Manners) -> Self {
        Self { term, rest: Rest { manners, depth: MAX_DEPTH } }
    }

    fn inside(self) -> Result<Rest, ReadError> {
        match self.rest.depth.checked_sub(1) {
            Some(depth) => Ok(Rest { depth, ..self.rest }),
            None => Err(ReadError::new("a term nested at most 128 deep", self.term)),
        }
    }

    fn wrong<T>(self, expected: &dyn Expected) -> Result<T, ReadError> {
        Err(ReadError::new(expected.to_string(), self.term))
    }

    fn here(self) -> impl Fn(ReadError) -> ReadError {
        move |error| error.on(self.term)
    }

    fn integer<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match self.term {
            Term::Integer(value) => match u64::try_from(*value) {
                Ok(value) => visitor.visit_u64(value),
                Err(_) => visitor.visit_i64(*value),
            },
            Term::BigInteger(value) => big(value.value(), visitor),
            _ => return self.wrong(&visitor),
        }
        .map_err(self.here())
    }

    /// Floats may be given as integers, as in Erlang's arithmetic.
    fn float<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match self.term {
            Term::Float(value) => visitor.visit_f64(value.value()).map_err(self.here()),
            _ => self.integer(visitor),
        }
    }

    fn text<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match self.term {
            Term::Binary(bytes) => match std::str::from_utf8(bytes) {
                Ok(text) => visitor.visit_borrowed_str(text),
                Err(_) => return self.wrong(&visitor),
            },
            Term::Atom(atom) => visitor.visit_borrowed_str(atom.as_str()),
            Term::List(codes) => match codes.iter().map(character).collect() {
                Some(text) => visitor.visit_string(text),
                None => return self.wrong(&visitor),
            },
            _ => return self.wrong(&visitor),
        }
        .map_err(self.here())
    }

    fn elements<V: Visitor<'de>>(
        self,
        elements: &'de [Term],
        step: fn(usize) -> Step<'static>,
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        self.elements_from(0, elements, step, visitor)
    }

    /// All elements but the first `done`.
    fn elements_from<V: Visitor<'de>>(
        self,
        done: usize,
        elements: &'de [Term],
        step: fn(usize) -> Step<'static>,
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        let left = elements.get(done..).unwrap_or_default().iter();
        let mut access = Elements { left, done, step, rest: self.inside()? };
        let value = visitor.visit_seq(&mut access).map_err(self.here())?;
        match access.left.len() {
            0 => Ok(value),
            _ => Err(ReadError::new(format!("only {} elements", access.done), self.term)),
        }
    }

    fn tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, ReadError> {
        match self.term {
            Term::Tuple(elements) if elements.len() == len => {
                self.elements(elements, Step::Place, visitor)
            }
            _ => Err(ReadError::new(format!("a tuple of {len}"), self.term)),
        }
    }

    fn fields<V: Visitor<'de>>(
        self,
        what: &str,
        skip: Option<&'static str>,
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        let Term::Map(map) = self.term else {
            return Err(ReadError::new(format!("a map for {what}"), self.term));
        };
        let pairs = Pairs { left: map.pairs().iter(), value: None, rest: self.inside()? };
        visitor.visit_map(Fields { pairs, skip }).map_err(self.here())
    }
}

fn big<'de, V: Visitor<'de>>(value: &BigInt, visitor: V) -> Result<V::Value, ReadError> {
    if let Ok(value) = u64::try_from(value) {
        visitor.visit_u64(value)
    } else if let Ok(value) = i128::try_from(value) {
        visitor.visit_i128(value)
    } else if let Ok(value) = u128::try_from(value) {
        visitor.visit_u128(value)
    } else {
        Err(de::Error::invalid_value(Unexpected::Other("an integer of more bits"), &visitor))
    }
}

fn character(code: &Term) -> Option<char> {
    match code {
        Term::Integer(code) => u32::try_from(*code).ok().and_then(char::from_u32),
        _ => None,
    }
}

macro_rules! read_by {
    ($($how:ident: $($method:ident)*;)*) => {$($(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
            self.$how(visitor)
        }
    )*)*};
}

impl<'de> de::Deserializer<'de> for Reader<'de> {
    type Error = ReadError;

    read_by!(
        integer: deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128
            deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128;
        float: deserialize_f64;
        text: deserialize_str deserialize_string;
    );

    /// For types that ask what there is: serde's own copy of what it can't read at once, values of
    /// other formats. Atoms are strings that aren't borrowed, binaries are ones that are, so that
    /// [`own`] can tell them apart afterwards.
    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match self.term {
            Term::Integer(_) | Term::BigInteger(_) => self.integer(visitor),
            Term::Float(_) => self.float(visitor),
            Term::Atom(atom) => match atom.as_str() {
                "true" => visitor.visit_bool(true),
                "false" => visitor.visit_bool(false),
                _ if *atom == self.rest.manners.none() => visitor.visit_none(),
                text => visitor.visit_str(text),
            }
            .map_err(self.here()),
            Term::Binary(bytes) => match std::str::from_utf8(bytes) {
                Ok(text) => visitor.visit_borrowed_str(text),
                Err(_) => visitor.visit_borrowed_bytes(bytes),
            }
            .map_err(self.here()),
            Term::List(list) => self.elements(list, Step::Element, visitor),
            Term::Tuple(elements) if elements.is_empty() => {
                visitor.visit_unit().map_err(self.here())
            }
            Term::Tuple(elements) => self.elements(elements, Step::Place, visitor),
            Term::Map(_) => self.deserialize_map(visitor),
            term => match own::mark(term) {
                Some(mark) => visitor
                    .visit_newtype_struct(BytesDeserializer::<ReadError>::new(mark.as_bytes()))
                    .map_err(self.here()),
                None => self.wrong(&visitor),
            },
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match self.term {
            term if term.is_atom("true") => visitor.visit_bool(true),
            term if term.is_atom("false") => visitor.visit_bool(false),
            _ => Err(ReadError::new("true or false", self.term)),
        }
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match self.term {
            // It would be read as infinite, which can't be written again.
            Term::Float(value) if (value.value() as f32).is_infinite() => self.wrong(&visitor),
            _ => self.float(visitor),
        }
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match character(self.term) {
            Some(character) => visitor.visit_char(character).map_err(self.here()),
            None => self.text(visitor),
        }
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match self.term {
            Term::Binary(bytes) => visitor.visit_borrowed_bytes(bytes).map_err(self.here()),
            _ => Err(ReadError::new("a binary", self.term)),
        }
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        self.deserialize_bytes(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        if *self.term == self.rest.manners.none() {
            visitor.visit_none()
        } else {
            visitor.visit_some(self)
        }
        .map_err(self.here())
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match self.term {
            Term::Tuple(elements) if elements.is_empty() => visitor.visit_unit(),
            _ => Err(ReadError::new("{}", self.term)),
        }
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        if self.term.is_atom(name) {
            visitor.visit_unit()
        } else {
            Err(ReadError::new(format!("the atom `{name}`"), self.term))
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        if name == handover::NAME {
            handover::hand_over(self.term.clone(), || visitor.visit_unit())
        } else {
            visitor.visit_newtype_struct(self)
        }
        .map_err(self.here())
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match self.term {
            Term::List(list) => self.elements(list, Step::Element, visitor),
            _ => Err(ReadError::new("a proper list", self.term)),
        }
    }

    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        self.tuple(len, visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        self.tuple(len, visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        let Term::Map(map) = self.term else {
            return Err(ReadError::new("a map", self.term));
        };
        let mut access = Pairs { left: map.pairs().iter(), value: None, rest: self.inside()? };
        visitor.visit_map(&mut access).map_err(self.here())
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        let manners = self.rest.manners;
        let skip =
            (manners == Manners::Elixir && !fields.contains(&STRUCT_KEY)).then_some(STRUCT_KEY);
        if let (Term::Map(map), Some(module)) = (self.term, manners.module(name))
            && let Some(found) = map.get(&crate::atom!("__struct__").into())
            && !found.is_atom(&module)
        {
            let expected = format!("the atom `{module}`");
            return Err(ReadError::new(expected, found).at(Step::Field(STRUCT_KEY)));
        }
        self.fields(name, skip, visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        let tag = match self.term {
            Term::Tuple(elements) => elements.first(),
            other => Some(other),
        };
        match tag {
            Some(tag @ Term::Atom(atom)) => {
                visitor.visit_enum(Variant { tag, name: atom, whole: self }).map_err(self.here())
            }
            _ => {
                Err(ReadError::new(format!("an atom or a tagged tuple for enum {name}"), self.term))
            }
        }
    }

    /// Atoms, even `true` and `undefined`, are names here.
    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match self.term {
            Term::Atom(atom) => visitor.visit_str(atom.as_str()).map_err(self.here()),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        visitor.visit_unit()
    }
}

/// The elements of a list or a tuple.
struct Elements<'de> {
    left: slice::Iter<'de, Term>,
    done: usize,
    step: fn(usize) -> Step<'static>,
    rest: Rest,
}

impl<'de> SeqAccess<'de> for Elements<'de> {
    type Error = ReadError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, ReadError> {
        let Some(term) = self.left.next() else { return Ok(None) };
        self.done += 1;
        let here = |error: ReadError| error.at((self.step)(self.done));
        seed.deserialize(Reader { term, rest: self.rest }).map(Some).map_err(here)
    }

    /// What is there, not what someone claims is.
    fn size_hint(&self) -> Option<usize> {
        Some(self.left.len())
    }
}

/// The pairs of a map.
struct Pairs<'de> {
    left: slice::Iter<'de, (Term, Term)>,
    /// The pair whose value comes next.
    value: Option<&'de (Term, Term)>,
    rest: Rest,
}

impl<'de> MapAccess<'de> for Pairs<'de> {
    type Error = ReadError;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, ReadError> {
        let Some(pair) = self.left.next() else { return Ok(None) };
        self.value = Some(pair);
        let key = Reader { term: &pair.0, rest: self.rest };
        seed.deserialize(key).map(Some).map_err(|error| error.at(Step::Key(&pair.0)))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, ReadError> {
        let Some((key, term)) = self.value.take() else {
            return Err(de::Error::custom("a value was asked for before its key"));
        };
        seed.deserialize(Reader { term, rest: self.rest })
            .map_err(|error| error.at(Step::Value(key)))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.left.len())
    }
}

/// The pairs of a map that is read as a struct.
struct Fields<'de> {
    pairs: Pairs<'de>,
    /// A key the struct needn't know.
    skip: Option<&'static str>,
}

impl<'de> MapAccess<'de> for Fields<'de> {
    type Error = ReadError;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, ReadError> {
        let pairs = &mut self.pairs;
        let Some(mut pair) = pairs.left.next() else { return Ok(None) };
        if self.skip.is_some_and(|skip| pair.0.is_atom(skip)) {
            pair = match pairs.left.next() {
                Some(pair) => pair,
                None => return Ok(None),
            };
        }
        pairs.value = Some(pair);
        match &pair.0 {
            term @ (Term::Atom(_) | Term::Binary(_)) => {
                seed.deserialize(Reader { term, rest: pairs.rest })
            }
            // An integer would be taken for the index of a field. No field has a name like this one:
            // it's no UTF-8.
            key => {
                let name = [b"\xff", Excerpt(key).to_string().as_bytes()].concat();
                seed.deserialize(BytesDeserializer::<ReadError>::new(&name))
            }
        }
        .map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, ReadError> {
        self.pairs.next_value_seed(seed)
    }

    fn size_hint(&self) -> Option<usize> {
        self.pairs.size_hint()
    }
}

/// `tag`, or `{tag, ...}`.
struct Variant<'de> {
    tag: &'de Term,
    name: &'de Atom,
    whole: Reader<'de>,
}

impl<'de> Variant<'de> {
    /// The elements of a tuple of `len`, the tag included.
    fn tuple(&self, len: usize) -> Result<&'de [Term], ReadError> {
        match self.whole.term {
            Term::Tuple(elements) if elements.len() == len => Ok(elements),
            term => Err(ReadError::new(format!("a tuple of {len} tagged `{}`", self.name), term)),
        }
    }

    /// The second of two elements.
    fn value(&self) -> Result<Reader<'de>, ReadError> {
        match self.tuple(2)? {
            [_, value] => Ok(Reader { term: value, rest: self.whole.inside()? }),
            _ => Err(de::Error::custom("a tuple of 2")),
        }
    }
}

impl<'de> EnumAccess<'de> for Variant<'de> {
    type Error = ReadError;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), ReadError> {
        let tag = Reader { term: self.tag, rest: self.whole.rest };
        Ok((seed.deserialize(tag)?, self))
    }
}

impl<'de> VariantAccess<'de> for Variant<'de> {
    type Error = ReadError;

    fn unit_variant(self) -> Result<(), ReadError> {
        match self.whole.term {
            Term::Atom(_) => Ok(()),
            term => Err(ReadError::new(format!("the atom `{}`", self.name), term)),
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, ReadError> {
        seed.deserialize(self.value()?).map_err(|error| error.at(Step::Place(2)))
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, ReadError> {
        let elements = self.tuple(len.saturating_add(1))?;
        self.whole.elements_from(1, elements, Step::Place, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        let value = self.value()?;
        value.fields(self.name.as_str(), None, visitor).map_err(|error| error.at(Step::Place(2)))
    }
}
