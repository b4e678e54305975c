//! Inputs made of a corpus: changed here and there, two put together, words put in, lengths made
//! extreme.

use crate::corpus::Corpus;
use crate::random::Random;

/// Longest input; the largest files of the corpus are shorter.
const LONGEST: usize = 64 << 10;

pub(crate) struct Mutator<'a> {
    corpus: &'a Corpus,
}

impl<'a> Mutator<'a> {
    pub(crate) fn new(corpus: &'a Corpus) -> Self {
        Self { corpus }
    }

    /// The input of this number.
    pub(crate) fn input(&self, number: u64) -> Vec<u8> {
        let mut random = Random::new(number);
        let mut input = self.file(&mut random).to_vec();
        // Mostly one or two changes: what is wrong at three places is refused at the first.
        let most = 1 << random.below(5);
        let changes = 1 + random.below(most);
        for _ in 0..changes {
            self.change(&mut input, &mut random);
        }
        input.truncate(LONGEST);
        input
    }

    fn file(&self, random: &mut Random) -> &'a [u8] {
        &self.corpus.files[random.below(self.corpus.files.len())].1
    }

    fn change(&self, input: &mut Vec<u8>, random: &mut Random) {
        let at = random.below(input.len() + 1);
        let len = |random: &mut Random| {
            let bits = random.below(9);
            random.below(1 << bits).min(input.len() - at)
        };
        match random.below(13) {
            0 => change_byte(input, at, |byte| byte ^ 1 << random.below(8)),
            1 => change_byte(input, at, |_| random.next() as u8),
            2 => change_byte(input, at, |byte| byte.wrapping_add(1)),
            3 => change_byte(input, at, |byte| byte.wrapping_sub(1)),
            // Lengths and counts have 1, 2, 4 or 8 bytes, the largest first.
            4 | 5 => {
                let width = 1 << random.below(4);
                let low = random.below(256) as u64;
                let value =
                    [0, 1, low, 0x7f, 0x80, 0xff, 0xffff, 0x7fff_ffff, u64::MAX][random.below(9)];
                let value = value.to_be_bytes();
                for (byte, new) in input.iter_mut().skip(at).zip(&value[8 - width..]) {
                    *byte = *new;
                }
            }
            6 => {
                let len = len(random);
                input.drain(at..at + len);
            }
            7 => {
                let len = len(random);
                let part = input[at..at + len].to_vec();
                let to = random.below(input.len() + 1);
                let most = 1 << random.below(7);
                let times = 1 + random.below(most);
                input.splice(to..to, part.repeat(times));
            }
            8 | 9 if !self.corpus.words.is_empty() => {
                let word = &self.corpus.words[random.below(self.corpus.words.len())];
                let replaced = if random.chance(50) { word.len().min(input.len() - at) } else { 0 };
                input.splice(at..at + replaced, word.iter().copied());
            }
            10 => {
                let other = self.file(random);
                let from = random.below(other.len() + 1);
                input.truncate(at);
                input.extend_from_slice(&other[from..]);
            }
            11 => {
                let other = self.file(random);
                let from = random.below(other.len() + 1);
                let to = from + random.below(64).min(other.len() - from);
                input.splice(at..at, other[from..to].iter().copied());
            }
            _ => {
                let count = random.below(16);
                input.splice(at..at, (0..count).map(|_| random.next() as u8));
            }
        }
        input.truncate(LONGEST);
    }
}

fn change_byte(input: &mut [u8], at: usize, change: impl FnOnce(u8) -> u8) {
    if let Some(byte) = input.get_mut(at) {
        *byte = change(*byte);
    }
}
