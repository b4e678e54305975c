//! An EPMD answers anything to our questions: little of it is believed, and never more than 64 KiB.

use data_publisher::epmd::{NodeInfo, NodeKind};
use data_publisher::fuzzing::epmd::{lookup, names, register};

use super::peer::{self, Peer};
use super::script::{Script, Splits};

pub(super) fn run(input: &[u8]) {
    let mut script = Script(input);
    let question = script.byte() % 4;
    let splits = Splits::new(script.byte());
    // A long one comes again and again, to beyond the bound.
    let reply = script.0;
    let mut repeats = if question == 3 && reply.len() > 200 { 400 } else { 1 };
    let mut peer = Peer::new(splits, |_| {
        repeats -= 1;
        (repeats >= 0 && !reply.is_empty()).then(|| reply.to_vec())
    });
    let error = match question {
        0 => {
            let node = NodeInfo::new("a", 1, NodeKind::Visible);
            peer::run(register(&mut peer, node)).map(|_| ()).err()
        }
        1 => {
            let found = peer::run(lookup(&mut peer, "a"));
            found.map(|node| assert!(node.is_none_or(|node| node.name.len() <= reply.len()))).err()
        }
        // An answer that ends late, too.
        _ => peer::run(names(&mut peer))
            .map(|names| assert!(names.len() <= 64 << 10, "{} names", names.len()))
            .err(),
    };
    if let Some(error) = error {
        assert!(error.to_string().chars().count() < 400, "an error as long as the answer");
    }
    assert!(peer.read.len() <= 66 << 10, "{} bytes were read", peer.read.len());
    assert!(!peer.told.is_empty());
}
