//! What single steps cost, without sockets and tasks: `cargo bench`, or `cargo bench -- codec`.
//!
//! The codec beside the crates `eetf` and `erltf`, a bag of pids, the engine with an update from a
//! peer and one for peers, what readers read, and the frames of one update for many peers. Everything is about the update of P1 of `scripts/bench`.

mod codec;
mod engine;
mod fan_out;
mod members;

use data_publisher::term::{Creation, NodeName, Pid, Term};
use data_publisher::wire::{self, Flags, FragmentLimits, Inbound, Signal, Target};
use data_publisher::{atom, list, tuple};

fn main() {
    // Single ones are too short to be timed.
    divan::Divan::default().sample_size(500).config_with_args().main();
}

fn pid(node: &str, id: u32) -> Pid {
    let node = NodeName::new(node).expect("a node's name");
    Pid { node, id, serial: 777, creation: Creation(0x6a00_0001) }
}

/// A peer's scope.
fn peer(number: u32) -> Pid {
    pid(&format!("p{number}@127.0.0.1"), 92)
}

/// As `dp_bench:group/1`.
fn group(number: u32) -> Term {
    Term::binary_of(format!("group-{number:07}"))
}

/// `{update, Scope, [{Group, Add, Remove}]}`
fn update(scope: &Pid, group: Term, add: &[Pid], remove: &[Pid]) -> Term {
    let [add, remove] = [add, remove].map(|pids| Term::list_of(pids.iter().map(Term::from)));
    tuple![atom!("update"), scope, list![tuple![group, add, remove]]]
}

/// The frame of a message as it comes on a connection without atom lists, without its length.
fn frame(from: &Pid, message: Term) -> Vec<u8> {
    let signal =
        Signal::Send { from: Some(from.clone()), to: Target::Name(atom!("bench")), message };
    let mut frame = Vec::new();
    wire::signal::encode(&signal, FLAGS, &mut frame).expect("it's no large one");
    frame.split_off(4)
}

/// What reads such frames.
fn inbound() -> Inbound {
    Inbound::new(FLAGS, FragmentLimits { sequences: 1, bytes: 1 << 20, message: 1 << 20 })
}

const FLAGS: Flags = Flags::MANDATORY_25;
