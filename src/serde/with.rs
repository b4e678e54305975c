//! For `#[serde(with = "...")]` on fields that serde alone would write as something else.

/// A `Vec<u8>` or `Box<[u8]>` as a binary: `#[serde(with = "data_publisher::serde::binary")]`.
///
/// Without it serde writes a list of integers.
pub mod binary {
    use std::fmt;

    use ::serde::de::{self, Deserializer, SeqAccess, Visitor};
    use ::serde::ser::Serializer;

    /// Writes a binary.
    ///
    /// # Errors
    ///
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(bytes)
    }

    /// Reads a binary; in formats that have none, a sequence of bytes.
    ///
    /// # Errors
    ///
    /// When it's something else.
    pub fn deserialize<'de, T, D>(deserializer: D) -> Result<T, D::Error>
    where
        T: From<Vec<u8>>,
        D: Deserializer<'de>,
    {
        deserializer.deserialize_byte_buf(Bytes).map(T::from)
    }

    struct Bytes;

    impl<'de> Visitor<'de> for Bytes {
        type Value = Vec<u8>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a binary")
        }

        fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
            Ok(bytes.to_vec())
        }

        fn visit_byte_buf<E: de::Error>(self, bytes: Vec<u8>) -> Result<Vec<u8>, E> {
            Ok(bytes)
        }

        /// What serde's copy has of a binary that is text (see [`own`](crate::serde::own)).
        fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Vec<u8>, E> {
            Ok(text.as_bytes().to_vec())
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Vec<u8>, A::Error> {
            let mut bytes = Vec::new();
            while let Some(byte) = elements.next_element()? {
                bytes.push(byte);
            }
            Ok(bytes)
        }
    }
}

/// A `String` as a list of characters, as Erlang's `"text"` is: `#[serde(with =
/// "data_publisher::serde::charlist")]`.
pub mod charlist {
    use std::fmt;

    use ::serde::de::{Deserialize, Deserializer};
    use ::serde::ser::Serializer;

    use crate::serde::own::{self, Own};
    use crate::term::Term;

    /// Writes a list of characters.
    ///
    /// # Errors
    ///
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(text: &str, serializer: S) -> Result<S::Ok, S::Error> {
        own::serialize(&Charlist(text), serializer)
    }

    /// Reads a string, as a `String` does.
    ///
    /// # Errors
    ///
    /// When it's something else.
    pub fn deserialize<'de, T, D>(deserializer: D) -> Result<T, D::Error>
    where
        T: From<String>,
        D: Deserializer<'de>,
    {
        String::deserialize(deserializer).map(T::from)
    }

    struct Charlist<'a>(&'a str);

    impl Own for Charlist<'_> {
        const NAME: &'static str = "a list of characters";

        fn to_term(&self) -> Term {
            Term::string_of(self.0)
        }

        fn of_term(_: Term) -> Option<Self> {
            None
        }

        fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }

        fn of_text(_: &str) -> Option<Self> {
            None
        }
    }
}
