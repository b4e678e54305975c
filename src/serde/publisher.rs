//! The part of a publisher that is about terms, written by serde.

use std::any::type_name;

use ::serde::Serialize;

use super::Manners;
use crate::term::{Reference, Term};

/// The methods of [`DataPublisher`](crate::engine::DataPublisher) that turn values into terms and back,
/// by [`serde`](crate::serde). It stands inside the `impl`:
///
/// ```
/// use std::collections::BTreeMap;
///
/// use data_publisher::engine::{DataPublisher, Effects, Version};
/// use data_publisher::term::{Atom, NodeName};
///
/// /// Each node publishes its load.
/// struct Load;
///
/// impl DataPublisher for Load {
///     type LocalData = i64;
///     type Update = i64; // the new value replaces the old
///     type GlobalView = BTreeMap<NodeName, i64>;
///     type Subscription = ();
///     type Initial = BTreeMap<NodeName, i64>;
///     type Event = (NodeName, i64);
///
///     fn version(&self) -> Version { 1.into() }
///     fn init_local_data(&self) -> i64 { 0 }
///     fn init_global_view(&mut self, _: &Atom) -> Self::GlobalView { BTreeMap::new() }
///     fn update_local_data(&self, load: i64, data: &mut i64) -> Option<i64> {
///         (std::mem::replace(data, load) != load).then_some(load)
///     }
///     fn data_diff(&self, old: &i64, new: &i64) -> Option<i64> { (old != new).then_some(*new) }
///     fn update_global_view_and_notify(
///         &self,
///         origin: &NodeName,
///         load: &i64,
///         view: &mut Self::GlobalView,
///         effects: &mut Effects<'_, Self>,
///     ) {
///         view.insert(origin.clone(), *load);
///         effects.notify(&(), &(origin.clone(), *load));
///     }
///     fn new_subscription(&self, _: &(), view: &Self::GlobalView) -> Self::Initial { view.clone() }
///
///     data_publisher::serde_terms!();
/// }
/// #
/// # use data_publisher::engine::Wire;
/// # use data_publisher::term::{Creation, Pid, Reference};
/// # let node = NodeName::new("a@h").unwrap();
/// # let me = Pid { node: node.clone(), id: 1, serial: 0, creation: Creation(1) };
/// # let mark = Reference::new(node.clone(), Creation(1), &[1]).unwrap();
/// # assert_eq!(Load.translate_update(&me, &1.into(), &7), Wire::Term(7.into()));
/// # assert_eq!(Load.read_update(&7.into()), Ok(7));
/// # let event = Load.event_term(&mark, &(node.clone(), 7));
/// # assert_eq!(event, data_publisher::tuple![&mark, node.atom(), 7]);
/// # let initial = Load.initial_term(&[(node.clone(), 7)].into());
/// # assert_eq!(initial.to_string(), "#{a@h => 7}");
/// # assert_eq!(Load.read_subscription(&"{}".parse().unwrap()), Ok(()));
/// ```
///
/// An event is sent to a process of the cluster behind the reference of its subscription: one that is
/// a tuple, `{A, B}`, as `{Ref, A, B}`, any other as `{Ref, Event}`.
///
/// `serde_terms!(Elixir)` does it by [`Manners::Elixir`](crate::serde::Manners). Methods behind a
/// semicolon, `serde_terms!(Erlang; read_subscription, initial_term, event_term)`, are all that it
/// writes.
///
/// # Versions
///
/// All versions of peers get the same terms. So a new release may add fields, if they are
/// `#[serde(default)]`: old ones ignore them (unless they `deny_unknown_fields`), new ones do without.
/// For any other change of the format, raise [`version`], write `translate_update` and
/// `translate_local_data` by hand, and the other methods by this.
///
/// [`version`]: crate::engine::DataPublisher::version
///
/// # Panics
///
/// The methods written panic when a value can't be written as a term (see
/// [`WriteError`](crate::serde::WriteError)): a type holds a NaN, or two keys that are written alike. That
/// ends the scope, as any panic of a publisher does; its peers forget its data, and its node lives on.
/// Nothing less would do. To send another value would be a lie, and to send none would leave the peers
/// with a view that differs from ours for good. A publisher that takes such values from elsewhere
/// refuses them in `update_local_data`.
#[macro_export]
macro_rules! serde_terms {
    () => {
        $crate::serde_terms!(Erlang);
    };
    ($manners:ident) => {
        $crate::serde_terms!(
            $manners; translate_update, translate_local_data, read_update, read_local_data,
            read_subscription, initial_term, event_term
        );
    };
    ($manners:ident; $($method:ident),+ $(,)?) => {
        $($crate::serde_terms!(@$method $manners);)+
    };
    (@translate_update $manners:ident) => {
        fn translate_update(
            &self,
            _me: &$crate::term::Pid,
            _peer: &$crate::engine::Version,
            update: &Self::Update,
        ) -> $crate::engine::Wire {
            $crate::engine::Wire::Term($crate::serde::publisher::term_of::<Self, _>(
                $crate::serde::Manners::$manners,
                update,
            ))
        }
    };
    (@translate_local_data $manners:ident) => {
        fn translate_local_data(
            &self,
            _me: &$crate::term::Pid,
            _peer: &$crate::engine::Version,
            data: &Self::LocalData,
        ) -> $crate::engine::Wire {
            $crate::engine::Wire::Term($crate::serde::publisher::term_of::<Self, _>(
                $crate::serde::Manners::$manners,
                data,
            ))
        }
    };
    (@read_update $manners:ident) => {
        fn read_update(
            &self,
            term: &$crate::term::Term,
        ) -> ::core::result::Result<Self::Update, $crate::term::BadTerm> {
            $crate::serde::Manners::$manners.from_term(term)
        }
    };
    (@read_local_data $manners:ident) => {
        fn read_local_data(
            &self,
            term: &$crate::term::Term,
        ) -> ::core::result::Result<Self::LocalData, $crate::term::BadTerm> {
            $crate::serde::Manners::$manners.from_term(term)
        }
    };
    (@read_subscription $manners:ident) => {
        fn read_subscription(
            &self,
            term: &$crate::term::Term,
        ) -> ::core::result::Result<Self::Subscription, $crate::term::BadTerm> {
            $crate::serde::Manners::$manners.from_term(term)
        }
    };
    (@initial_term $manners:ident) => {
        fn initial_term(&self, initial: &Self::Initial) -> $crate::term::Term {
            $crate::serde::publisher::term_of::<Self, _>(
                $crate::serde::Manners::$manners,
                initial,
            )
        }
    };
    (@event_term $manners:ident) => {
        fn event_term(
            &self,
            reference: &$crate::term::Reference,
            event: &Self::Event,
        ) -> $crate::term::Term {
            $crate::serde::publisher::event_term_of::<Self, _>(
                $crate::serde::Manners::$manners,
                reference,
                event,
            )
        }
    };
}

/// A value of the publisher `P` as a term.
///
/// # Panics
///
/// When it can't be written.
pub fn term_of<P, T: Serialize + ?Sized>(manners: Manners, value: &T) -> Term {
    match manners.to_term(value) {
        Ok(term) => term,
        Err(error) => {
            panic!(
                "{}: a {} can't be written as a term: {error}",
                type_name::<P>(),
                type_name::<T>()
            )
        }
    }
}

/// An event of the publisher `P`, behind the reference of a subscription.
///
/// # Panics
///
/// When it can't be written.
pub fn event_term_of<P, T: Serialize + ?Sized>(
    manners: Manners,
    reference: &Reference,
    event: &T,
) -> Term {
    let reference = Term::from(reference);
    match term_of::<P, T>(manners, event) {
        Term::Tuple(elements) => {
            Term::Tuple(std::iter::once(reference).chain(elements.iter().cloned()).collect())
        }
        event => Term::tuple_of([reference, event]),
    }
}
