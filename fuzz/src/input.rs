//! Fuzz input as choices. Every byte string means something, so that no mutation is wasted.

/// Reads bytes from the front; beyond the end all of them are zero.
#[derive(Debug, Clone)]
pub struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Input(bytes)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn byte(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or(0)
    }

    /// Up to `n` bytes, as many as there are.
    pub fn take(&mut self, n: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(n.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// A number below `limit` (0 if that is 0), from no more bytes than it takes.
    pub fn below(&mut self, limit: usize) -> usize {
        let bytes = (usize::BITS - limit.saturating_sub(1).leading_zeros()).div_ceil(8);
        self.little_endian(bytes as usize) as usize % limit.max(1)
    }

    pub fn pick<'t, T>(&mut self, from: &'t [T]) -> &'t T {
        &from[self.below(from.len())]
    }

    /// A number as a header may hold one: near an edge, near `now`, or any.
    pub fn number(&mut self, now: u64) -> u64 {
        let small = |byte: u8| u64::from(byte % 32);
        match self.byte() {
            near @ 0..64 => now.wrapping_add(small(near)),
            near @ 64..96 => now.wrapping_sub(small(near)),
            low @ 96..160 => small(low),
            high @ 160..192 => u64::MAX - small(high),
            bit @ 192..224 => now ^ (1 << (bit % 64)),
            _ => self.little_endian(8),
        }
    }

    fn little_endian(&mut self, bytes: usize) -> u64 {
        let mut number = [0; 8];
        let taken = self.take(bytes);
        number[..taken.len()].copy_from_slice(taken);
        u64::from_le_bytes(number)
    }
}
