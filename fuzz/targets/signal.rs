//! One frame as a signal: what was read is written, in each form that flags ask for, and read again.

use data_publisher::wire::outbound::Order;
use data_publisher::wire::{Flags, FragmentLimits, Inbound, Outbound, Signal, Target, signal};

/// No fragments here.
const LIMITS: FragmentLimits = FragmentLimits { sequences: 1, bytes: 0, message: 0 };

pub(super) fn run(input: &[u8]) {
    let plain = signal::decode(input);
    let mut inbound = Inbound::new(Flags::REQUIRED, LIMITS);
    match (&plain, inbound.frame(input)) {
        (Ok(signal), Ok(Some((other, bytes)))) => {
            assert_eq!(*signal, other);
            assert_eq!(bytes, input.len());
        }
        (Err(error), Err(other)) => assert_eq!(*error, other),
        (one, other) => panic!("{one:?} and {other:?}"),
    }
    let listed = Inbound::new(Flags::OFFERED, LIMITS).frame(input);
    let listed = listed.map(|signal| signal.map(|(signal, _)| signal));
    if let Err(error) = &listed {
        let _ = error.to_string();
    }
    for signal in plain.ok().into_iter().chain(listed.ok().flatten()) {
        written_and_read(&signal);
    }
}

fn written_and_read(signal: &Signal) {
    let without_priority = Flags(Flags::OFFERED.0 & !Flags::ALTACT_SIG.0);
    let without_cache = Flags(Flags::OFFERED.0 & !Flags::DIST_HDR_ATOM_CACHE.0);
    for flags in [Flags::REQUIRED, Flags::OFFERED, without_priority, without_cache] {
        let mut outbound = Outbound::new(flags);
        let mut inbound = Inbound::new(flags, LIMITS);
        // The second time its atoms are in the cache.
        for order in [Order::Kept, Order::Kept, Order::Late] {
            let mut frame = Vec::new();
            match outbound.signal(signal, order, &mut frame) {
                Ok(()) => {}
                Err(error) => {
                    assert!(may_fail(signal, flags), "{signal:?} with {flags}: {error}");
                    assert!(frame.is_empty(), "a frame half written");
                    continue;
                }
            }
            let (length, frame) = frame.split_first_chunk().expect("a length");
            assert_eq!(u32::from_be_bytes(*length) as usize, frame.len());
            let (read, _) = inbound.frame(frame).expect("our own").expect("no fragment");
            assert_eq!(read, as_written(signal, flags), "{flags}");
        }
    }
}

/// What older forms have no place for.
fn may_fail(signal: &Signal, flags: Flags) -> bool {
    match signal {
        Signal::Send { from: None, to, .. } => !matches!(to, Target::Pid(_)),
        Signal::Exit2 { to, .. } => {
            !matches!(to, Target::Pid(_)) && !flags.contains(Flags::ALTACT_SIG)
        }
        _ => false,
    }
}

/// A message to a pid names its sender only if that was agreed on.
fn as_written(signal: &Signal, flags: Flags) -> Signal {
    match signal {
        Signal::Send { to: to @ Target::Pid(_), message, .. }
            if !flags.contains(Flags::SEND_SENDER) =>
        {
            Signal::Send { from: None, to: to.clone(), message: message.clone() }
        }
        signal => signal.clone(),
    }
}
