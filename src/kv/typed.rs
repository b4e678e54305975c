//! Keys and values as Rust types, by [`serde`](crate::serde).

use std::collections::BTreeMap;
use std::marker::PhantomData;

use ::serde::Serialize;
use ::serde::de::DeserializeOwned;

use super::{Event, Kv};
use crate::scope::ScopeStopped;
use crate::serde::{Manners, WriteError};
use crate::term::{BadTerm, NodeName, Term};

/// A [`Kv`] seen through types: the same scope, beside which others may see other types or none.
///
/// What another node has put needn't be of these types. Such a value is an error at its place, and
/// hides no other.
///
/// ```no_run
/// # async fn example(kv: data_publisher::Kv) -> Result<(), Box<dyn std::error::Error>> {
/// #[derive(serde::Deserialize, serde::Serialize)]
/// struct Limit {
///     per_second: u32,
/// }
///
/// let limits = kv.typed::<String, Limit>();
/// limits.put("uploads", &Limit { per_second: 10 }).await?; // <<"uploads">> => #{per_second => 10}
/// for (node, limit) in limits.get("uploads")? {
///     match limit {
///         Ok(limit) => println!("{node} allows {}", limit.per_second),
///         Err(error) => println!("{node} has put something else: {error}"),
///     }
/// }
/// # Ok(()) }
/// ```
pub struct TypedKv<K, V> {
    kv: Kv,
    manners: Manners,
    types: PhantomData<fn(K) -> (K, V)>,
}

/// A key and the value that a node has put.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Entry<K, V> {
    /// Who owns it.
    pub node: NodeName,
    /// The key.
    pub key: K,
    /// Its value; in an event, `None` when it's deleted.
    pub value: V,
}

/// A key or its value isn't of the type.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{node} has put {key} with another type")]
pub struct Unreadable {
    /// Who has put it.
    pub node: NodeName,
    /// The key as it is.
    pub key: Term,
    /// What was expected and what found.
    pub source: BadTerm,
}

/// Why a key couldn't be put or deleted.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PutError {
    /// The key or the value can't be written as a term.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The scope has stopped.
    #[error(transparent)]
    Stopped(#[from] ScopeStopped),
}

impl Kv {
    /// The same scope with keys and values of these types, written by [`Manners::Erlang`].
    pub fn typed<K, V>(&self) -> TypedKv<K, V> {
        self.typed_by(Manners::Erlang)
    }

    /// As [`typed`](Self::typed), by other manners.
    pub fn typed_by<K, V>(&self, manners: Manners) -> TypedKv<K, V> {
        TypedKv { kv: self.clone(), manners, types: PhantomData }
    }
}

impl<K, V> TypedKv<K, V>
where
    K: Serialize + DeserializeOwned,
    V: Serialize + DeserializeOwned,
{
    /// As [`Kv::put`].
    ///
    /// # Errors
    ///
    /// [`PutError`]; nothing is put then.
    pub async fn put<Q>(&self, key: &Q, value: &V) -> Result<bool, PutError>
    where
        Q: Serialize + ?Sized,
    {
        let (key, value) = (self.manners.to_term(key)?, self.manners.to_term(value)?);
        Ok(self.kv.put(key, value).await?)
    }

    /// As [`Kv::put_all`].
    ///
    /// # Errors
    ///
    /// [`PutError`]; nothing is put then.
    pub async fn put_all<'a>(
        &self,
        pairs: impl IntoIterator<Item = (&'a K, &'a V)>,
    ) -> Result<bool, PutError>
    where
        K: 'a,
        V: 'a,
    {
        let term = |(key, value)| Ok((self.manners.to_term(key)?, self.manners.to_term(value)?));
        let pairs: Vec<_> = pairs.into_iter().map(term).collect::<Result<_, WriteError>>()?;
        Ok(self.kv.put_all(pairs).await?)
    }

    /// As [`Kv::delete`].
    ///
    /// # Errors
    ///
    /// [`PutError`].
    pub async fn delete<Q: Serialize + ?Sized>(&self, key: &Q) -> Result<bool, PutError> {
        Ok(self.kv.delete(self.manners.to_term(key)?).await?)
    }

    /// The values of a key, by the nodes that own them, each read on its own.
    ///
    /// # Errors
    ///
    /// [`WriteError`] when the key can't be written.
    pub fn get<Q: Serialize + ?Sized>(
        &self,
        key: &Q,
    ) -> Result<BTreeMap<NodeName, Result<V, BadTerm>>, WriteError> {
        let owners = self.kv.get(self.manners.to_term(key)?).into_iter();
        Ok(owners.map(|(node, value)| (node, self.manners.from_term(&value))).collect())
    }

    /// All there is, in the order of the keys as terms; each entry is read on its own.
    pub fn get_all(&self) -> Vec<Result<Entry<K, V>, Unreadable>> {
        let mut all = Vec::new();
        for (key, owners) in self.kv.get_all() {
            for (node, value) in owners {
                all.push(self.entry(&node, &key, || self.manners.from_term(&value)));
            }
        }
        all
    }

    /// An event of [`Kv::subscribe`] or [`Kv::subscribe_key`] in these types.
    ///
    /// # Errors
    ///
    /// [`Unreadable`] when the key or its value isn't of the type.
    pub fn read(&self, event: &Event) -> Result<Entry<K, Option<V>>, Unreadable> {
        match event {
            Event::Put { node, key, value } => {
                self.entry(node, key, || self.manners.from_term(value).map(Some))
            }
            Event::Delete { node, key } => self.entry(node, key, || Ok(None)),
        }
    }

    /// The scope without types.
    pub fn untyped(&self) -> &Kv {
        &self.kv
    }

    fn entry<T>(
        &self,
        node: &NodeName,
        key: &Term,
        value: impl FnOnce() -> Result<T, BadTerm>,
    ) -> Result<Entry<K, T>, Unreadable> {
        let both = self.manners.from_term(key).and_then(|key| Ok((key, value()?)));
        match both {
            Ok((key, value)) => Ok(Entry { node: node.clone(), key, value }),
            Err(source) => Err(Unreadable { node: node.clone(), key: key.clone(), source }),
        }
    }
}

impl<K, V> Clone for TypedKv<K, V> {
    fn clone(&self) -> Self {
        Self { kv: self.kv.clone(), manners: self.manners, types: PhantomData }
    }
}

impl<K, V> std::fmt::Debug for TypedKv<K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "typed {:?}", self.kv)
    }
}
