//! Values to terms.

use ::serde::ser::{self, Error as _, Serialize};
use num_bigint::BigInt;

use super::error::{Step, WriteError, WriteErrorReason};
use super::{Manners, handover};
use crate::atom;
use crate::term::{Atom, List, Map, Term};

/// Most places kept ready for what a type says it holds; more are made as elements come.
const MAX_READY: usize = 1024;

#[derive(Clone, Copy)]
pub(super) struct Writer {
    pub(super) manners: Manners,
}

fn name(text: &str) -> Result<Term, WriteError> {
    let too_long = |_| WriteError::new(WriteErrorReason::AtomTooLong { name: text.to_owned() });
    Ok(Term::Atom(Atom::new(text).map_err(too_long)?))
}

impl Writer {
    fn elements(self, tag: Option<Term>, len: usize) -> Elements {
        let mut elements = Vec::with_capacity(len.saturating_add(1).min(MAX_READY));
        elements.extend(tag);
        Elements { writer: self, elements }
    }

    fn pairs(self, len: usize) -> Pairs {
        Pairs { writer: self, tag: None, done: Vec::with_capacity(len.min(MAX_READY)), key: None }
    }
}

macro_rules! from_integer {
    ($($method:ident: $type:ty),*) => {$(
        fn $method(self, value: $type) -> Result<Term, WriteError> {
            Ok(Term::from(value))
        }
    )*};
}

impl ser::Serializer for Writer {
    type Ok = Term;
    type Error = WriteError;
    type SerializeSeq = Elements;
    type SerializeTuple = Elements;
    type SerializeTupleStruct = Elements;
    type SerializeTupleVariant = Elements;
    type SerializeMap = Pairs;
    type SerializeStruct = Pairs;
    type SerializeStructVariant = Pairs;

    from_integer!(
        serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64,
        serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64
    );

    fn serialize_bool(self, value: bool) -> Result<Term, WriteError> {
        Ok(value.into())
    }

    fn serialize_i128(self, value: i128) -> Result<Term, WriteError> {
        Ok(BigInt::from(value).into())
    }

    fn serialize_u128(self, value: u128) -> Result<Term, WriteError> {
        Ok(BigInt::from(value).into())
    }

    fn serialize_f32(self, value: f32) -> Result<Term, WriteError> {
        self.serialize_f64(value.into())
    }

    fn serialize_f64(self, value: f64) -> Result<Term, WriteError> {
        Term::float_of(value).ok_or_else(|| {
            WriteError::new(WriteErrorReason::NotFinite { value: value.to_string() })
        })
    }

    fn serialize_char(self, value: char) -> Result<Term, WriteError> {
        self.serialize_str(value.encode_utf8(&mut [0; 4]))
    }

    fn serialize_str(self, value: &str) -> Result<Term, WriteError> {
        Ok(Term::binary_of(value))
    }

    fn serialize_bytes(self, value: &[u8]) -> Result<Term, WriteError> {
        Ok(Term::binary_of(value))
    }

    fn serialize_none(self) -> Result<Term, WriteError> {
        Ok(self.manners.none().into())
    }

    fn serialize_some<T: ?Sized + Serialize>(self, value: &T) -> Result<Term, WriteError> {
        let term = value.serialize(self)?;
        if term == self.manners.none() {
            let none = self.manners.none_text();
            return Err(WriteError::new(WriteErrorReason::SomeIsNone { none }));
        }
        Ok(term)
    }

    fn serialize_unit(self) -> Result<Term, WriteError> {
        Ok(Term::tuple_of([]))
    }

    fn serialize_unit_struct(self, struct_name: &'static str) -> Result<Term, WriteError> {
        name(struct_name)
    }

    fn serialize_unit_variant(
        self,
        _enum_name: &'static str,
        _index: u32,
        variant: &'static str,
    ) -> Result<Term, WriteError> {
        name(variant)
    }

    fn serialize_newtype_struct<T: ?Sized + Serialize>(
        self,
        struct_name: &'static str,
        value: &T,
    ) -> Result<Term, WriteError> {
        if struct_name != handover::NAME {
            return value.serialize(self);
        }
        // serde copies some values before it writes them, and what it copied of a term is a text.
        handover::offered_by(|| value.serialize(self))?.ok_or_else(|| {
            WriteError::custom("a term can't be inside an internally tagged tuple variant")
        })
    }

    fn serialize_newtype_variant<T: ?Sized + Serialize>(
        self,
        _enum_name: &'static str,
        _index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<Term, WriteError> {
        let value = value.serialize(self).map_err(|error| error.at(Step::Place(2)))?;
        Ok(Term::tuple_of([name(variant)?, value]))
    }

    fn serialize_seq(self, len: Option<usize>) -> Result<Elements, WriteError> {
        Ok(self.elements(None, len.unwrap_or_default()))
    }

    fn serialize_tuple(self, len: usize) -> Result<Elements, WriteError> {
        Ok(self.elements(None, len))
    }

    fn serialize_tuple_struct(
        self,
        _struct_name: &'static str,
        len: usize,
    ) -> Result<Elements, WriteError> {
        Ok(self.elements(None, len))
    }

    fn serialize_tuple_variant(
        self,
        _enum_name: &'static str,
        _index: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Elements, WriteError> {
        Ok(self.elements(Some(name(variant)?), len))
    }

    fn serialize_map(self, len: Option<usize>) -> Result<Pairs, WriteError> {
        Ok(self.pairs(len.unwrap_or_default()))
    }

    fn serialize_struct(self, struct_name: &'static str, len: usize) -> Result<Pairs, WriteError> {
        let mut pairs = self.pairs(len.saturating_add(1));
        if let Some(module) = self.manners.module(struct_name) {
            pairs.done.push((atom!("__struct__").into(), name(&module)?));
        }
        Ok(pairs)
    }

    fn serialize_struct_variant(
        self,
        _enum_name: &'static str,
        _index: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Pairs, WriteError> {
        Ok(Pairs { tag: Some(name(variant)?), ..self.pairs(len) })
    }
}

/// A list or a tuple that grows.
pub(super) struct Elements {
    writer: Writer,
    elements: Vec<Term>,
}

impl Elements {
    fn push<T: ?Sized + Serialize>(
        &mut self,
        value: &T,
        step: fn(usize) -> Step<'static>,
    ) -> Result<(), WriteError> {
        let here = |error: WriteError| error.at(step(self.elements.len() + 1));
        let element = value.serialize(self.writer).map_err(here)?;
        self.elements.push(element);
        Ok(())
    }
}

impl ser::SerializeSeq for Elements {
    type Ok = Term;
    type Error = WriteError;

    fn serialize_element<T: ?Sized + Serialize>(&mut self, value: &T) -> Result<(), WriteError> {
        self.push(value, Step::Element)
    }

    fn end(self) -> Result<Term, WriteError> {
        Ok(Term::List(List::from(self.elements)))
    }
}

macro_rules! tuple_by {
    ($($trait:ident, $method:ident);*) => {$(
        impl ser::$trait for Elements {
            type Ok = Term;
            type Error = WriteError;

            fn $method<T: ?Sized + Serialize>(&mut self, value: &T) -> Result<(), WriteError> {
                self.push(value, Step::Place)
            }

            fn end(self) -> Result<Term, WriteError> {
                Ok(Term::tuple_of(self.elements))
            }
        }
    )*};
}

tuple_by!(
    SerializeTuple, serialize_element;
    SerializeTupleStruct, serialize_field;
    SerializeTupleVariant, serialize_field
);

/// A map that grows.
pub(super) struct Pairs {
    writer: Writer,
    /// The variant that a struct variant's map belongs to.
    tag: Option<Term>,
    done: Vec<(Term, Term)>,
    /// A key whose value comes next.
    key: Option<Term>,
}

impl Pairs {
    fn field<T: ?Sized + Serialize>(
        &mut self,
        field: &'static str,
        value: &T,
    ) -> Result<(), WriteError> {
        let value = value.serialize(self.writer).map_err(|error| error.at(Step::Field(field)))?;
        self.done.push((name(field)?, value));
        Ok(())
    }

    fn into_term(self) -> Result<Term, WriteError> {
        let map =
            Map::new(self.done).map_err(|_| WriteError::new(WriteErrorReason::DuplicateKey))?;
        Ok(match self.tag {
            None => Term::Map(map),
            Some(tag) => Term::tuple_of([tag, Term::Map(map)]),
        })
    }
}

impl ser::SerializeMap for Pairs {
    type Ok = Term;
    type Error = WriteError;

    fn serialize_key<T: ?Sized + Serialize>(&mut self, key: &T) -> Result<(), WriteError> {
        self.key = Some(key.serialize(self.writer).map_err(|error| error.at("(a key)"))?);
        Ok(())
    }

    fn serialize_value<T: ?Sized + Serialize>(&mut self, value: &T) -> Result<(), WriteError> {
        let key = self.key.take().ok_or_else(|| WriteError::custom("a value without a key"))?;
        let value = value.serialize(self.writer).map_err(|error| error.at(Step::Value(&key)))?;
        self.done.push((key, value));
        Ok(())
    }

    fn end(self) -> Result<Term, WriteError> {
        self.into_term()
    }
}

impl ser::SerializeStruct for Pairs {
    type Ok = Term;
    type Error = WriteError;

    fn serialize_field<T: ?Sized + Serialize>(
        &mut self,
        field: &'static str,
        value: &T,
    ) -> Result<(), WriteError> {
        self.field(field, value)
    }

    fn end(self) -> Result<Term, WriteError> {
        self.into_term()
    }
}

impl ser::SerializeStructVariant for Pairs {
    type Ok = Term;
    type Error = WriteError;

    fn serialize_field<T: ?Sized + Serialize>(
        &mut self,
        field: &'static str,
        value: &T,
    ) -> Result<(), WriteError> {
        let here = |error: WriteError| error.at(Step::Place(2));
        self.field(field, value).map_err(here)
    }

    fn end(self) -> Result<Term, WriteError> {
        self.into_term()
    }
}
