//! Frames out of a stream of bytes.
//!
//! The reader of a connection reads into [`Deframer::buffer`], then takes frames until there are no
//! more. All state is the bytes not yet taken, so a read may be cancelled at any point. Own code
//! instead of `erl_dist`'s channel, which allocates the length a peer claims (4 GiB for five
//! bytes) and loses its place in the stream when cancelled.

use bytes::{Buf, BytesMut};

/// Room for a first read: a hundred updates of a scope, and little for an idle connection to hold.
const CHUNK: usize = 16 << 10;

/// Most room for a read; it grows to that while each read fills what there is.
const LARGEST: usize = 8 * CHUNK;

/// A buffer that grew beyond this is given back once it's no longer needed.
const LARGE: usize = 16 * CHUNK;

/// Cuts what a peer sends into frames.
#[derive(Debug)]
pub struct Deframer {
    buffer: BytesMut,
    /// Bytes at its start that were given out as frames.
    taken: usize,
    max_frame: usize,
    /// Room for the next read.
    room: usize,
    /// The length at which the last read would have filled its room.
    full: usize,
}

impl Deframer {
    /// Takes frames of up to `max_frame` bytes, their length field not counted.
    pub fn new(max_frame: usize) -> Self {
        Self { buffer: BytesMut::new(), taken: 0, max_frame, room: CHUNK, full: usize::MAX }
    }

    /// Where the next bytes go, to be appended; there is room for at least 16 KiB.
    ///
    /// The room doubles with the bytes that are here, whatever length a frame claims.
    pub fn buffer(&mut self) -> &mut BytesMut {
        let is_calm = self.buffer.len() <= CHUNK / 4;
        if is_calm {
            self.room = CHUNK;
        } else if self.was_filled() {
            self.room = LARGEST.min(2 * self.room);
        }
        self.buffer.advance(self.taken);
        self.taken = 0;
        let waiting = self.buffer.len();
        if self.buffer.capacity() - waiting < self.room {
            self.buffer.reserve(self.room);
        }
        // After a huge frame, or a stream of small ones, nearly nothing is left in a large buffer.
        let most = if is_calm { 2 * CHUNK } else { LARGE };
        if self.buffer.capacity() > most && waiting <= CHUNK {
            let mut small = BytesMut::with_capacity(waiting + self.room);
            small.extend_from_slice(&self.buffer);
            self.buffer = small;
        }
        self.full = self.buffer.capacity();
        &mut self.buffer
    }

    /// Whether the last read has left no room: more may be waiting.
    pub fn was_filled(&self) -> bool {
        self.buffer.len() >= self.full
    }

    /// The next frame without its length, an empty one being a tick; `None` if it isn't complete.
    ///
    /// # Errors
    ///
    /// [`FrameError::TooLong`] as soon as such a length is seen, and from then on: nothing after it
    /// can be read.
    pub fn next_frame(&mut self) -> Result<Option<&[u8]>, FrameError> {
        let waiting = self.buffer.get(self.taken..).unwrap_or_default();
        let Some((length, rest)) = waiting.split_first_chunk() else { return Ok(None) };
        let claimed = u32::from_be_bytes(*length);
        let length = claimed as usize;
        if length > self.max_frame {
            return Err(FrameError::TooLong { claimed, limit: self.max_frame });
        }
        let frame = rest.get(..length);
        if frame.is_some() {
            self.taken += 4 + length;
        }
        Ok(frame)
    }

    /// Bytes that have come of a frame which isn't complete, and how long it claims to be; for who has taken all
    /// frames there are.
    pub(crate) fn unfinished(&self) -> (usize, usize) {
        let waiting = self.buffer.get(self.taken..).unwrap_or_default();
        match waiting.split_first_chunk() {
            Some((length, rest)) => (rest.len(), u32::from_be_bytes(*length) as usize),
            None => (0, 0),
        }
    }

    /// Bytes that wait for the rest of their frame.
    pub fn waiting_bytes(&self) -> usize {
        self.buffer.len() - self.taken
    }
}

/// The stream can't be cut into frames any further.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// A frame claims to be longer than allowed.
    #[error("a frame of {claimed} bytes, where {limit} are allowed")]
    TooLong {
        /// What it claims.
        claimed: u32,
        /// What is allowed.
        limit: usize,
    },
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::MAX_MESSAGE;

    fn feed(deframer: &mut Deframer, bytes: &[u8]) {
        deframer.buffer().extend_from_slice(bytes);
    }

    fn all(deframer: &mut Deframer) -> Vec<Vec<u8>> {
        std::iter::from_fn(|| deframer.next_frame().unwrap().map(<[u8]>::to_vec)).collect()
    }

    #[test]
    fn an_empty_frame_is_a_tick() {
        let mut deframer = Deframer::new(100);
        feed(&mut deframer, &[0, 0, 0, 0, 0, 0, 0, 1, 112, 0, 0, 0, 0]);
        assert_eq!(all(&mut deframer), [vec![], vec![112], vec![]]);
    }

    #[test]
    fn d1_a_frame_that_claims_4_gib_is_an_error_before_any_memory_is_taken() {
        let mut deframer = Deframer::new(MAX_MESSAGE);
        feed(&mut deframer, &[0xff, 0xff, 0xff, 0xff, 0x70]);
        let error = FrameError::TooLong { claimed: u32::MAX, limit: MAX_MESSAGE };
        assert_eq!(deframer.next_frame(), Err(error));
        assert_eq!(deframer.next_frame(), Err(error));
        assert!(deframer.buffer().capacity() <= LARGE);
    }

    #[test]
    fn a_frame_may_be_as_long_as_allowed_and_no_longer() {
        let mut deframer = Deframer::new(3);
        feed(&mut deframer, &[0, 0, 0, 3, 1, 2, 3, 0, 0, 0, 4]);
        assert_eq!(deframer.next_frame(), Ok(Some(&[1, 2, 3][..])));
        assert!(deframer.next_frame().is_err());
    }

    #[test]
    fn memory_follows_the_bytes_that_came_not_the_length_they_claim() {
        let mut deframer = Deframer::new(MAX_MESSAGE);
        feed(&mut deframer, &(MAX_MESSAGE as u32).to_be_bytes());
        let mut came = 0;
        while came < 4 << 20 {
            feed(&mut deframer, &[7; 4096]);
            came += 4096;
            assert_eq!(deframer.next_frame(), Ok(None));
            assert!(deframer.buffer.capacity() <= 2 * (came + LARGE), "after {came} bytes");
        }
    }

    #[test]
    fn after_a_huge_frame_the_buffer_is_small_again() {
        let mut deframer = Deframer::new(MAX_MESSAGE);
        let huge = vec![9; 8 << 20];
        feed(&mut deframer, &(huge.len() as u32).to_be_bytes());
        for piece in huge.chunks(CHUNK) {
            feed(&mut deframer, piece);
        }
        feed(&mut deframer, &[0, 0, 0, 1, 5]);

        assert_eq!(deframer.next_frame().unwrap().map(<[u8]>::len), Some(8 << 20));
        assert!(deframer.buffer().capacity() <= LARGE);
        assert_eq!(all(&mut deframer), [vec![5]]);
        assert!(deframer.buffer().capacity() <= LARGE);
    }

    #[test]
    fn d4_a_read_that_is_cancelled_loses_no_byte() {
        let mut deframer = Deframer::new(100);
        feed(&mut deframer, &[0, 0, 0, 10, 0x70, 0x83]);
        // A reader that gives up here drops nothing: all state is the buffer.
        assert_eq!(deframer.next_frame(), Ok(None));
        feed(&mut deframer, &[1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0]);
        assert_eq!(all(&mut deframer), [vec![0x70, 0x83, 1, 2, 3, 4, 5, 6, 7, 8], vec![]]);
    }

    proptest! {
        #[test]
        fn frames_come_out_the_same_however_the_bytes_are_split(
            frames in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 0..20),
            splits in proptest::collection::vec(1..300_usize, 1..50),
        ) {
            let mut bytes = Vec::new();
            for frame in &frames {
                bytes.extend_from_slice(&(frame.len() as u32).to_be_bytes());
                bytes.extend_from_slice(frame);
            }
            let mut deframer = Deframer::new(200);
            let (mut taken, mut rest) = (Vec::new(), &bytes[..]);
            for split in splits.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (now, later) = rest.split_at((*split).min(rest.len()));
                feed(&mut deframer, now);
                rest = later;
                while let Some(frame) = deframer.next_frame().unwrap() {
                    taken.push(frame.to_vec());
                }
            }
            prop_assert_eq!(&taken, &frames);
            prop_assert_eq!(deframer.waiting_bytes(), 0);
        }
    }
}
