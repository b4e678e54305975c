//! What a user of the behaviour writes: the trait [`DataPublisher`], and what its callbacks get and
//! give back.
//!
//! The callbacks have the names of OTP 29's `data_publisher`. Where their shape differs, it's
//! because terms are taken apart at the edge here: a publisher reads a peer's term into its own
//! types once, and writes it once, already translated to what the peer understands.
//!
//! Nothing here waits, reads a clock or sends: what a callback wants done it says to [`Effects`].

use std::hash::Hash;

use super::action::{Action, MonitorId};
use super::monitors::{Monitors, Purpose};
use super::subscribers::{Listener, Subscribers};
use crate::term::{Atom, BadTerm, Destination, NodeName, Pid, Pieces, Reference, Term};
use crate::{atom, tuple};

/// A kind of replicated data: what a node publishes, how it changes, what readers see of it all.
///
/// Each node owns one [`LocalData`](Self::LocalData). Only changes to it travel, except that two
/// nodes that meet send each other all of it. The [`GlobalView`](Self::GlobalView) is what this
/// node makes of its own and everybody's data, one value for each node.
///
/// # When what is called
///
/// | what happens | callbacks, in order |
/// | --- | --- |
/// | the scope starts | `version`, `init_local_data`, `init_global_view` |
/// | it takes over what the one before it has left | `data_diff(ours, left)`, then as an own update |
/// | own update | `update_local_data`; if that gives something back `update_global_view_and_notify`, then `translate_update` once for each version among the peers |
/// | a peer introduces itself | `translate_local_data`, `hello` |
/// | its local data comes | `read_local_data`, `data_diff(known of it, new)`, `update_global_view_and_notify` |
/// | its update comes | `read_update`, `update_local_data` on its data, `update_global_view_and_notify` |
/// | it's gone | `data_diff(its data, nothing)`, `update_global_view_and_notify` |
/// | somebody subscribes | `new_subscription`, with what follows told by [`Effects::notify`] |
/// | a process on the BEAM does, or updates | `read_subscription` and `initial_term`; `read_own_update` |
/// | anything else comes | `translate_message` |
/// | a process watched by [`Effects::monitor`] ends | `translate_down` |
/// | the scope ends | `stop_global_view` |
///
/// "Nothing" is what `init_local_data` gives. Where `data_diff` or `update_local_data` say that there's
/// no difference, nothing follows.
///
/// # What may be assumed
///
/// One callback runs at a time, on the scope's task: whoever waits in one keeps the scope waiting,
/// and with it all who wait for an answer. They are functions of what they get; two nodes that
/// apply the same updates to equal data have to arrive at equal data, or views differ for good. A
/// callback that panics ends its scope, as a crash does on the BEAM: its process exits
/// with reason `panic`, peers forget its data, readers are told, and the node lives on.
///
/// OTP's callbacks get the options the scope was started with; here they are fields of the
/// publisher, which is a value.
///
/// A publisher whose data are serde types needs none of the last seven term functions, see
/// `serde_terms!`.
///
/// Source: the callbacks of `data_publisher`, OTP 29. At each is said what OTP's of that name gets and
/// gives back where that differs.
pub trait DataPublisher: Sized + Send + 'static {
    /// What one node owns and publishes.
    type LocalData: Send;
    /// A change to one node's local data.
    type Update: Send;
    /// What readers read; made of all nodes' local data.
    type GlobalView: Send + Sync;
    /// The key of a subscription, `subscription()` in OTP.
    type Subscription: Clone + Eq + Hash + Send;
    /// What a new subscriber gets first, `subscribe_result()` in OTP.
    type Initial: Send;
    /// What a subscriber gets for each change.
    type Event: Clone + Send;

    /// The newest format this publisher writes; always the same. Default 1. As OTP's `version/0`.
    fn version(&self) -> Version {
        1.into()
    }

    /// What a node owns that owns nothing: where we begin, and what is known of a peer before its
    /// first word. Asked for each peer, so it has to be cheap and always the same. As OTP's
    /// `init_local_data(Options)`.
    fn init_local_data(&self) -> Self::LocalData;

    /// The view of a cluster in which nobody owns anything. Asked once. As OTP's
    /// `init_global_view(Scope, Options)`.
    fn init_global_view(&mut self, scope: &Atom) -> Self::GlobalView;

    /// The scope ends; readers don't see the view any more. Not called after a panic. As OTP's
    /// `stop_global_view(View)`.
    fn stop_global_view(&mut self, _view: Self::GlobalView) {}

    /// Applies an update to the data of one node, own or a peer's, and gives back what of it made a
    /// difference: `None` when nothing did.
    ///
    /// Only what comes back goes on, to the view, to subscribers and to peers. So a view never has
    /// to ask whether a change is real, and a peer never hears of one that isn't. (OTP's
    /// `update_local_data(Update, LocalData)` gives back the new local data, and the whole update
    /// goes on; a `pg` of OTP 27 crashes when told to leave a group it doesn't know.)
    fn update_local_data(
        &self,
        update: Self::Update,
        data: &mut Self::LocalData,
    ) -> Option<Self::Update>;

    /// Applies an update of the node `origin` to the view and tells whom it concerns.
    ///
    /// `origin` is [`Effects::node`] for own updates. The view is locked meanwhile: what a reader sees
    /// is either without any of the update or with all of it. As OTP's
    /// `update_global_view_and_notify(Node, Update, Subscriptions, View)`, where the callback sends to
    /// the subscribers itself.
    fn update_global_view_and_notify(
        &self,
        origin: &NodeName,
        update: &Self::Update,
        view: &mut Self::GlobalView,
        effects: &mut Effects<'_, Self>,
    );

    /// The update that turns `old` into `new`; `None` when they say the same. As OTP's
    /// `data_diff(Old, New)`.
    fn data_diff(&self, old: &Self::LocalData, new: &Self::LocalData) -> Option<Self::Update>;

    /// What a new subscriber to `key` gets first; the events of all later changes follow it without a
    /// gap. As OTP's `new_subscription(Subscription, View)`.
    fn new_subscription(&self, key: &Self::Subscription, view: &Self::GlobalView) -> Self::Initial;

    /// Writes an update for peers of version `peer`, which is never above [`version`](Self::version):
    /// who is newer reads our format. `me` is the scope's own process. Called once for all peers of
    /// one version. As OTP's `translate_update(MyVersion, PeerVersion, Update)`, which is called for
    /// older peers only; here writing is the same step.
    fn translate_update(&self, me: &Pid, peer: &Version, update: &Self::Update) -> Wire;

    /// Writes all local data, as [`translate_update`](Self::translate_update) does an update. As OTP's
    /// `translate_local_data(MyVersion, PeerVersion, LocalData)`.
    fn translate_local_data(&self, me: &Pid, peer: &Version, data: &Self::LocalData) -> Wire;

    /// Reads an update in any format that was ever sent, whatever version its sender announced: an
    /// OTP 29 of a newer version takes us for one of its own and sends its own format. No such
    /// callback in OTP.
    ///
    /// # Errors
    ///
    /// [`BadTerm`]: the peer's data counts as unknown from then on, and it's asked for all of it; at
    /// most every 30 s.
    fn read_update(&self, term: &Term) -> Result<Self::Update, BadTerm>;

    /// Reads an update that a process of the cluster asks us to make to our own data, `{update,
    /// Update}` as a call. By default as one of a peer.
    ///
    /// # Errors
    ///
    /// [`BadTerm`]: the caller gets `{error, badarg}`.
    fn read_own_update(&self, term: &Term) -> Result<Self::Update, BadTerm> {
        self.read_update(term)
    }

    /// Reads local data in any format that was ever sent.
    ///
    /// # Errors
    ///
    /// [`BadTerm`], with the same consequence as in [`read_update`](Self::read_update).
    fn read_local_data(&self, term: &Term) -> Result<Self::LocalData, BadTerm>;

    /// Reads the key of a caller on the BEAM, `Key` in `gen_server:call(Scope, {subscribe, Key})`.
    ///
    /// # Errors
    ///
    /// [`BadTerm`]: the caller gets `{error, badarg}`.
    fn read_subscription(&self, term: &Term) -> Result<Self::Subscription, BadTerm>;

    /// What a subscriber on the BEAM gets first, as a term.
    fn initial_term(&self, initial: &Self::Initial) -> Term;

    /// The message a subscriber on the BEAM gets for an event; `reference` is what it got from
    /// `subscribe`.
    fn event_term(&self, reference: &Reference, event: &Self::Event) -> Term;

    /// A message the engine doesn't know, taken out of its `$gen_cast` if it came in one: for
    /// example the words of an older release. As OTP's `translate_message(Message, View)`, optional
    /// there, too.
    fn translate_message(
        &self,
        _message: &Term,
        _view: &mut Self::GlobalView,
        _effects: &mut Effects<'_, Self>,
    ) -> Translated<Self> {
        Translated::Drop
    }

    /// As [`read_update`](Self::read_update), from the bytes a peer sent, without a term in between:
    /// for publishers with many updates. `None` for whatever is unusual, which `read_update` settles
    /// then; what this reads must be what that reads. Default `None`.
    fn take_update(&self, _pieces: &mut impl Pieces) -> Option<Self::Update> {
        None
    }

    /// As [`read_local_data`](Self::read_local_data), in the same way. Default `None`.
    fn take_local_data(&self, _pieces: &mut impl Pieces) -> Option<Self::LocalData> {
        None
    }

    /// These updates of a peer come next, most likely; this is its data and the view before them. For publishers
    /// with more of both than a cache holds: what is touched here for all is there when each one is applied.
    /// Default nothing.
    fn look_ahead<'a>(
        &self,
        _updates: impl Iterator<Item = &'a Self::Update>,
        _data: &Self::LocalData,
        _view: &Self::GlobalView,
    ) where
        Self::Update: 'a,
    {
    }

    /// A process watched by [`Effects::monitor`] is gone. What comes back is applied as an update of
    /// our own local data. In OTP such a `'DOWN'` comes to `translate_message`.
    fn translate_down(
        &self,
        _monitor: MonitorId,
        _pid: &Pid,
        _view: &mut Self::GlobalView,
        _effects: &mut Effects<'_, Self>,
    ) -> Option<Self::Update> {
        None
    }

    /// How we introduce ourselves: to whoever runs the scope on a node (`peer` is `None`, nothing is
    /// known of them), or to a peer that has told its version. Default `{discover, Me, Version}`, the
    /// only form in OTP; `pg` needs another, for a scope of OTP 25 dies of it.
    fn hello(&self, me: &Pid, _peer: Option<&Version>) -> Term {
        tuple![atom!("discover"), me, self.version().0]
    }
}

/// The version of a publisher's formats: any term, ordered as terms are.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Version(pub Term);

impl From<i64> for Version {
    fn from(version: i64) -> Self {
        Self(Term::Integer(version))
    }
}

/// What [`DataPublisher::translate_update`] and [`DataPublisher::translate_local_data`] make.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Wire {
    /// The part after the pid in `{update, Pid, _}` or `{local_data, Pid, Version, _}`.
    Term(Term),
    /// Whole messages of an older dialect, in this order; there may be none. Those made of an update
    /// go out plain, OTP's `{'$plain_messages', Messages}`; those made of local data as casts, its
    /// `{'$plain_message', Message}`.
    Plain(Vec<Term>),
}

/// What a publisher makes of a message the engine doesn't know.
pub enum Translated<P: DataPublisher> {
    /// Nothing; it's counted.
    Drop,
    /// An update of our own local data.
    Update(P::Update),
    /// A peer's message in other words.
    Peer(PeerMessage<P>),
}

/// What peers say to each other. Until the engine has compared the pid with the connection it came
/// over, it's only a claim.
pub enum PeerMessage<P: DataPublisher> {
    /// `{discover, Pid, Version}`: here I am, tell me all you have.
    Discover {
        /// Who speaks.
        peer: Pid,
        /// The newest format it reads.
        version: Version,
    },
    /// `{local_data, Pid, Label, Data}`: all I have.
    LocalData {
        /// Who speaks.
        peer: Pid,
        /// The format the data is said to be in; no more than that.
        label: Version,
        /// Its data.
        data: P::LocalData,
    },
    /// `{update, Pid, Update}`: what changed.
    Update {
        /// Who speaks.
        peer: Pid,
        /// The change.
        update: P::Update,
    },
    /// Local data or an update that can't be read.
    Unreadable {
        /// Who speaks.
        peer: Pid,
        /// The label, if it was local data.
        label: Option<Version>,
    },
}

/// What a callback may want done.
pub struct Effects<'a, P: DataPublisher> {
    pub(super) me: &'a Pid,
    pub(super) publisher: &'a P,
    pub(super) subscribers: &'a Subscribers<P::Subscription>,
    pub(super) monitors: &'a mut Monitors,
    pub(super) actions: &'a mut Vec<Action<P>>,
}

impl<P: DataPublisher> Effects<'_, P> {
    /// Our own node.
    pub fn node(&self) -> &NodeName {
        &self.me.node
    }

    /// The scope's own process.
    pub fn me(&self) -> &Pid {
        self.me
    }

    /// Whether anybody subscribes to anything. If not, an event needn't be made.
    pub fn is_heard(&self) -> bool {
        !self.subscribers.is_empty()
    }

    /// Tells all subscribers to `key`, in the order of their subscriptions.
    pub fn notify(&mut self, key: &P::Subscription, event: &P::Event) {
        for listener in self.subscribers.of(key) {
            self.actions.push(match listener {
                Listener::Own(subscriber) => Action::Notify { subscriber, event: event.clone() },
                Listener::Process { reference, pid } => Action::Send {
                    to: Destination::from(pid),
                    message: self.publisher.event_term(reference, event),
                },
            });
        }
    }

    /// Watches a process; when it's gone, [`DataPublisher::translate_down`] is called once.
    pub fn monitor(&mut self, pid: &Pid) -> MonitorId {
        let id = self.monitors.start(pid.clone(), Purpose::Publisher);
        self.actions.push(Action::Monitor { id, pid: pid.clone() });
        id
    }

    /// Stops watching; nothing happens if it has ended or isn't one of the publisher's.
    pub fn demonitor(&mut self, id: MonitorId) {
        if self.monitors.stop(id, |purpose| matches!(purpose, Purpose::Publisher)) {
            self.actions.push(Action::Demonitor { id });
        }
    }
}
