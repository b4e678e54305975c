//! Messages that are on their way to a process which reads them itself.

use super::atom_cache::AtomIn;
use super::signal::Payload;

/// Messages to one process, not decoded yet, in the order they came.
#[derive(Debug, Default)]
pub struct Messages {
    bytes: Vec<u8>,
    each: Vec<Place>,
    frames: Vec<Frame>,
    /// How many were taken.
    taken: usize,
}

#[derive(Debug)]
struct Place {
    /// Where in `bytes` it ends; the next begins there.
    end: usize,
    /// Which of `frames` it came in.
    frame: usize,
}

/// What messages share whose frames begin alike.
#[derive(Debug)]
struct Frame {
    atoms: Vec<AtomIn>,
    versioned: bool,
    op: i32,
}

impl Messages {
    /// Adds one. `alike`: it came in such a frame as the one added before.
    pub fn push(&mut self, payload: &Payload<'_>, alike: bool) {
        if !alike || self.frames.is_empty() {
            let Payload { atoms, versioned, op, .. } = *payload;
            self.frames.push(Frame { atoms: atoms.to_vec(), versioned, op });
        }
        self.bytes.extend_from_slice(payload.bytes);
        self.each.push(Place { end: self.bytes.len(), frame: self.frames.len() - 1 });
    }

    /// The next one.
    #[expect(clippy::should_implement_trait, reason = "what it gives lives in here")]
    pub fn next(&mut self) -> Option<Payload<'_>> {
        let start = self.taken.checked_sub(1).and_then(|before| self.each.get(before));
        let start = start.map_or(0, |place| place.end);
        let Place { end, frame } = self.each.get(self.taken)?;
        let Frame { atoms, versioned, op } = self.frames.get(*frame)?;
        let bytes = self.bytes.get(start..*end)?;
        self.taken += 1;
        Some(Payload { bytes, atoms, versioned: *versioned, op: *op })
    }

    /// How many haven't been taken.
    pub fn len(&self) -> usize {
        self.each.len() - self.taken
    }

    /// Whether all have been taken.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::atom;
    use crate::term::Term;
    use crate::wire::{Flags, FragmentLimits, Inbound, Signal, Target, inbound::Incoming};

    #[test]
    fn each_comes_out_as_it_went_in_with_the_atoms_of_its_own_frame() {
        let flags = Flags::OFFERED;
        let limits = FragmentLimits { sequences: 1, bytes: 100, message: 100 };
        let mut inbound = Inbound::new(flags, limits);
        // {6, Pid, '', svc} and an atom, which two of the frames list at the same place.
        let frame = |atoms: &[u8], payload: &[u8]| {
            let pid = b"X\x52\x00\x00\x00\x00\x05\x00\x00\x00\x00\x00\x00\x00\x01";
            let control = [b"h\x04a\x06".as_slice(), pid, b"w\x00w\x03svc"].concat();
            [b"\x83D", atoms, &control, payload].concat()
        };
        let frames = [
            frame(b"\x02\x88\x00\x01\x03a@h\x02\x03one", b"\x52\x01"),
            frame(b"\x02\x00\x00\x01\x02", b"\x52\x01"),
            frame(b"\x02\x00\x00\x01\x02", b"a\x07"),
            frame(b"\x02\x80\x00\x01\x02\x03two", b"\x52\x01"),
            frame(b"\x02\x00\x00\x01\x02", b"\x52\x01"),
        ];
        let (mut messages, mut alike) = (Messages::default(), Vec::new());
        for frame in &frames {
            let Some(Incoming::Message(message)) = inbound.incoming(frame).unwrap() else {
                panic!()
            };
            assert_eq!(message.to, &Target::Name(atom!("svc")));
            messages.push(&message.payload, message.alike);
            alike.push(message.alike);
        }
        assert_eq!(alike, [false, false, true, false, false]);
        assert_eq!(messages.len(), 5);
        let expected: [Term; 5] = [
            atom!("one").into(),
            atom!("one").into(),
            7.into(),
            atom!("two").into(),
            atom!("two").into(),
        ];
        for term in expected {
            assert_eq!(messages.next().unwrap().decode(), Ok(term));
        }
        assert!(messages.is_empty() && messages.next().is_none());

        let mut again = Inbound::new(flags, limits);
        for frame in &frames {
            assert!(matches!(again.frame(frame), Ok(Some((Signal::Send { .. }, _)))));
        }
    }
}
