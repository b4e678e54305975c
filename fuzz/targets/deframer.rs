//! A stream cut into frames: the same ones however its bytes come, as a plain reading of it says.

use data_publisher::wire::{Deframer, FrameError, MAX_MESSAGE};

use super::script::{Script, Splits};

pub(super) fn run(input: &[u8]) {
    let mut script = Script(input);
    let max_frame = [16, 300, 64 << 10, MAX_MESSAGE][usize::from(script.byte() % 4)];
    let mut splits = Splits::new(script.byte());
    let asks_again = script.byte() & 1 == 1;
    let stream = script.0;

    let (expected, rest, ends_in_error) = reference(stream, max_frame);
    let mut deframer = Deframer::new(max_frame);
    let (mut unread, mut taken) = (stream, 0);
    let mut error = None;
    while !unread.is_empty() && error.is_none() {
        let (now, later) = unread.split_at(splits.next().min(unread.len()));
        let buffer = deframer.buffer();
        assert!(buffer.capacity() - buffer.len() >= 16 << 10, "no room to read");
        assert!(buffer.capacity() <= 2 * (stream.len() + (256 << 10)), "room by claim");
        buffer.extend_from_slice(now);
        unread = later;
        loop {
            match deframer.next_frame() {
                Ok(None) => {
                    if asks_again {
                        assert_eq!(deframer.next_frame(), Ok(None), "a frame from nothing");
                    }
                    break;
                }
                Ok(Some(frame)) => {
                    assert_eq!(Some(&frame), expected.get(taken), "frame {taken}");
                    taken += 1;
                }
                Err(found) => {
                    assert_eq!(deframer.next_frame(), Err(found), "an error that heals");
                    error = Some(found);
                    break;
                }
            }
        }
    }
    assert_eq!(taken, expected.len());
    assert_eq!(error.is_some(), ends_in_error);
    match error {
        None => assert_eq!(deframer.waiting_bytes(), rest),
        Some(FrameError::TooLong { claimed, limit }) => assert!(claimed as usize > limit),
        Some(other) => panic!("{other}"),
    }
}

/// The frames, the bytes left over, and whether a frame is too long.
fn reference(mut stream: &[u8], max_frame: usize) -> (Vec<&[u8]>, usize, bool) {
    let mut frames = Vec::new();
    while let Some((length, rest)) = stream.split_first_chunk::<4>() {
        let length = u32::from_be_bytes(*length) as usize;
        if length > max_frame {
            return (frames, stream.len(), true);
        }
        let Some((frame, rest)) = rest.split_at_checked(length) else { break };
        frames.push(frame);
        stream = rest;
    }
    (frames, stream.len(), false)
}
