//! All that comes over one connection, frames of every kind: what is remembered from one to the next
//! (atoms, unfinished messages, how the last one began) changes nothing but the work.

use data_publisher::wire::{
    Deframer, Flags, FragmentLimits, Inbound, Incoming, MAX_MESSAGE, Messages, Signal, SignalError,
};

use super::script::Script;

const LIMITS: FragmentLimits = FragmentLimits { sequences: 4, bytes: 2 << 20, message: 1 << 20 };

/// `{1, Pid, Pid}`, a link.
const LINK: &[u8] =
    b"h\x03a\x01Xw\x03a@h\0\0\0\x01\0\0\0\0\0\0\0\x01Xw\x03b@h\0\0\0\x01\0\0\0\0\0\0\0\x01";

pub(super) fn run(input: &[u8]) {
    let mut script = Script(input);
    let without_fragments = Flags(Flags::OFFERED.0 & !Flags::FRAGMENTS.0);
    let flags =
        [Flags::OFFERED, without_fragments, Flags::REQUIRED][usize::from(script.byte() % 3)];
    let link = if flags.has_atom_lists() {
        [b"\x83D\0", LINK].concat()
    } else {
        [b"p\x83", LINK].concat()
    };

    let mut deframer = Deframer::new(MAX_MESSAGE);
    deframer.buffer().extend_from_slice(script.0);
    let (mut whole, mut apart) = (Inbound::new(flags, LIMITS), Inbound::new(flags, LIMITS));
    let mut simple = Inbound::new(flags, LIMITS);
    let (mut messages, mut expected) = (Messages::default(), Vec::new());
    while let Ok(Some(frame)) = deframer.next_frame() {
        // This one never sees two messages in a row that begin alike.
        simple.frame(&link).expect("a link");
        let seen = match apart.incoming(frame) {
            Ok(Some(Incoming::Message(message))) => {
                messages.push(&message.payload, message.alike);
                let decoded = message.payload.decode();
                expected.push(decoded.clone());
                decoded.map(|term| {
                    let (from, to) = (message.from.cloned(), message.to.clone());
                    Some(Signal::Send { from, to, message: term })
                })
            }
            Ok(Some(Incoming::Signal(signal, _))) => Ok(Some(signal)),
            Ok(None) => Ok(None),
            Err(error) => Err(error),
        };
        assert_eq!(without_size(whole.frame(frame)), seen, "decoded at once or later");
        assert_eq!(without_size(simple.frame(frame)), seen, "remembered or read in full");
        if seen.is_err_and(|error| !matches!(error, SignalError::Payload { .. })) {
            break;
        }
    }
    for term in expected {
        let payload = messages.next().expect("as many as were pushed");
        assert_eq!(payload.decode(), term, "kept for later");
    }
    assert!(messages.is_empty());
}

fn without_size(
    read: Result<Option<(Signal, usize)>, SignalError>,
) -> Result<Option<Signal>, SignalError> {
    read.map(|read| read.map(|(signal, _)| signal))
}
