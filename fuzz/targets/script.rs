//! Input bytes read as instructions.

/// What is left of an input. Where it ends, zeros go on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Script<'a>(pub(super) &'a [u8]);

impl<'a> Script<'a> {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn byte(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or(0)
    }

    pub(super) fn u16(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    /// So many bytes, or as many as there are.
    pub(super) fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// Bytes led by their count, of 16 bits.
    pub(super) fn counted(&mut self) -> &'a [u8] {
        let count = self.u16();
        self.take(count.into())
    }
}

/// Sizes of the pieces in which a stream's bytes come, out of one byte: all at once, one by one, or
/// any.
#[derive(Clone, Copy, Debug)]
pub(super) struct Splits(u32);

impl Splits {
    pub(super) fn new(seed: u8) -> Self {
        Self(seed.into())
    }

    pub(super) fn next(&mut self) -> usize {
        match self.0 {
            0 => usize::MAX,
            1 => 1,
            _ => {
                self.0 = (self.0 ^ 0x9e37).wrapping_mul(0x0019_660d).wrapping_add(0x3c6e_f35f) | 2;
                let random = self.0 >> 16;
                // Often around the size of a length or a head, at times a whole read.
                1 + (if random & 0x700 == 0 { random & 0x3fff } else { random & 0xf }) as usize
            }
        }
    }
}
