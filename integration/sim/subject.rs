//! What the simulation runs: a publisher, a model of what its nodes own, and models of those who
//! speak the same on the BEAM.
//!
//! The world knows connections, faults and the laws of the engine; what the data is and what may be
//! said about it to whom, it asks its subject.

use std::fmt::Debug;
use std::hash::{Hash, Hasher};

use data_publisher::engine::{Action, DataPublisher, Engine};
use data_publisher::term::{Creation, NodeName, Pid, Term};
use rustc_hash::FxHasher;

use crate::random::{Random, mixed};
use crate::world::Mutant;

pub(crate) type Data<S> = <<S as Subject>::Publisher as DataPublisher>::LocalData;
pub(crate) type Update<S> = <<S as Subject>::Publisher as DataPublisher>::Update;
pub(crate) type Event<S> = <<S as Subject>::Publisher as DataPublisher>::Event;
pub(crate) type Initial<S> = <<S as Subject>::Publisher as DataPublisher>::Initial;
pub(crate) type Key<S> = <<S as Subject>::Publisher as DataPublisher>::Subscription;
pub(crate) type Role<S> = Runs<<S as Subject>::Edition, <S as Subject>::Release>;

/// What a node runs.
#[derive(Clone, Debug)]
pub(crate) enum Runs<E, R> {
    /// An engine, with this edition of the publisher.
    Rust(E),
    /// A model of a scope on the BEAM.
    Beam(R),
}

/// A number for a thing: another for any other thing, and so for the sums of them.
pub(crate) fn mark(thing: &impl Hash) -> u64 {
    mark_in(0, thing)
}

/// The same for a thing that is in something else, of which this is the mark.
pub(crate) fn mark_in(whole: u64, thing: &impl Hash) -> u64 {
    let mut hasher = FxHasher::default();
    thing.hash(&mut hasher);
    // Fx is linear: two sums of it are soon the same.
    mixed(hasher.finish().wrapping_add(whole))
}

/// The processes of a node.
#[derive(Debug)]
pub(crate) struct Processes {
    pub(crate) node: NodeName,
    pub(crate) creation: u32,
    pub(crate) used: u32,
    /// Those besides the scope's.
    pub(crate) living: Vec<Pid>,
}

impl Processes {
    pub(crate) fn new_pid(&mut self) -> Pid {
        self.used += 1;
        let creation = Creation(self.creation);
        Pid { node: self.node.clone(), id: self.used, serial: 0, creation }
    }
}

/// A publisher, and all that depends on which one it is. The value holds what a cluster as a whole
/// is drawn to be, for example which versions there are.
pub(crate) trait Subject: Sized + 'static {
    /// What `SIM_KIND` calls it.
    const NAME: &'static str;
    /// How many of 100 schedules are its own.
    const PERCENT: u64;
    /// The planted defects that are found.
    const MUTANTS: &'static [Mutant];

    type Publisher: DataPublisher<
            LocalData: Clone + Debug + PartialEq,
            Update: Clone + Debug,
            Subscription: Debug,
            Event: Debug,
        >;
    /// What of the publisher differs between nodes.
    type Edition: Clone + Debug;
    /// What of the peers on the BEAM differs between nodes.
    type Release: Clone + Debug;
    type Beam: Beam<Update = Update<Self>, Data = Data<Self>>;
    /// A view, made comparable.
    type Picture: Debug + PartialEq;
    /// What a subscriber makes of what it's told.
    type Told: Debug + Default + PartialEq;

    fn draw(random: &mut Random) -> Self;
    fn draw_edition(&self, random: &mut Random) -> Self::Edition;
    fn draw_release(&self, random: &mut Random) -> Self::Release;
    /// A node that starts its scope anew may do so with another version.
    fn may_change(&self, _role: &mut Role<Self>, _random: &mut Random) {}

    fn publisher(&self, edition: &Self::Edition) -> Self::Publisher;
    /// `left` is what the scope before it on the same node had.
    fn beam(&self, release: &Self::Release, me: Pid, left: Option<Data<Self>>) -> Self::Beam;

    // --- the model ---

    /// A change to what a node owns, somebody there could think of.
    fn draw_update(
        &self,
        role: &Role<Self>,
        processes: &mut Processes,
        random: &mut Random,
    ) -> Option<Update<Self>>;
    fn nothing() -> Data<Self>;
    fn apply(update: &Update<Self>, data: &mut Data<Self>);
    /// The processes something of the data depends on.
    fn processes(_data: &Data<Self>) -> Vec<Pid> {
        Vec::new()
    }
    /// A process has ended: what it owned goes.
    fn process_ended(_pid: &Pid, _data: &mut Data<Self>) {}
    /// What others read of a node's data.
    fn as_read(_owner: &Role<Self>, _reader: &Role<Self>, data: &Data<Self>) -> Data<Self> {
        data.clone()
    }
    /// Whether that isn't the data as it is.
    fn is_translated(_owner: &Self::Edition, _reader: &Self::Edition) -> bool {
        false
    }
    /// The data as a number, and the same for data as it's read by those to whom it's translated:
    /// the sum of the [`mark`]s of all there is in it.
    fn marks(data: &Data<Self>) -> [u64; 2];
    /// The mark after a message that tells a part of an update, if it's such a message.
    fn mark_between(_message: &Term, _mark: u64) -> Option<u64> {
        None
    }

    // --- the view ---

    /// What a view has to be made of this data.
    fn sum<'a>(data: impl Iterator<Item = (&'a NodeName, &'a Data<Self>)>) -> Self::Picture;
    fn picture(engine: &Engine<Self::Publisher>) -> Self::Picture;
    /// The view as two numbers: the sum of [`marks`](Subject::marks) of what each node owns, times the
    /// node's [`factor`](Subject::factor). What nobody ever owns need not be looked for.
    fn view_marks(engine: &Engine<Self::Publisher>) -> [u64; 2];
    /// An odd number that tells what one node owns from what another does.
    fn factor(node: &NodeName) -> u64 {
        mark(node) | 1
    }
    /// The second of the marks of a view, made of what somebody was told of it.
    fn told_mark(told: &Self::Told) -> u64;
    /// Whether somebody who was told this knows all of the view that one is told.
    fn is_told(picture: &Self::Picture, told: &Self::Told) -> bool;
    /// Leaves a node out.
    fn without(_picture: &mut Self::Picture, _node: &NodeName) {}

    // --- subscriptions ---

    fn all() -> Key<Self>;
    fn draw_key(&self, nodes: usize, random: &mut Random) -> Key<Self>;
    fn first(key: &Key<Self>, initial: Initial<Self>) -> Self::Told;
    /// Panics on an event that can't be.
    fn hear(told: &mut Self::Told, event: Event<Self>);
    /// Of what is told to those who hear all, what who subscribed to `key` hears.
    fn part(told: &Self::Told, key: &Key<Self>) -> Self::Told;

    // --- messages ---

    /// Whether the receiver understands the message; it's sent to a name if `to` is `None`.
    fn allows(&self, from: &Self::Edition, to: Option<&Role<Self>>, message: &Term) -> bool;
    /// Whether OTP 29 doesn't let the reader see right what the owner has.
    fn misleads(_owner: &Role<Self>, _reader: &Role<Self>) -> bool {
        false
    }
    /// A message in the name of `third`, which lives elsewhere.
    fn spoof(&self, third: &Pid, random: &mut Random) -> Term;
    /// Local data or an update that the receiver can't read, in the sender's own name. `is_known` says
    /// that the receiver knows the sender's version.
    fn garbage(
        &self,
        from: &Role<Self>,
        to: &Self::Edition,
        peer: &Pid,
        is_known: bool,
        random: &mut Random,
    ) -> Term;
    /// Plants a defect of its own into what an engine says.
    fn mutate(
        _mutant: Mutant,
        _engine: &Engine<Self::Publisher>,
        _actions: &mut Vec<Action<Self::Publisher>>,
    ) {
    }
}

/// A scope on the BEAM.
pub(crate) trait Beam {
    type Update;
    type Data;

    fn me(&self) -> &Pid;
    fn hello(&self) -> Term;
    /// What goes out, in order.
    fn take_out(&mut self) -> Vec<Out>;
    /// An error is what it dies of.
    fn message(&mut self, message: &Term) -> Result<(), String>;
    fn down(&mut self, reference: u64, pid: &Pid);
    fn update(&mut self, update: &Self::Update);
    fn peers(&self) -> impl Iterator<Item = &Pid>;
    fn local(&self) -> Self::Data;
    /// What each node owns, as it shows it; nodes that can't be told apart as one.
    fn view(&self) -> Vec<(NodeName, Self::Data)>;
    /// What it leaves to the next scope of its node.
    fn leave(&self) -> Option<Self::Data> {
        None
    }
}

/// What a scope on the BEAM does.
#[derive(Debug)]
pub(crate) enum Out {
    Send(Pid, Term),
    Monitor(u64, Pid),
    Demonitor(u64),
}
