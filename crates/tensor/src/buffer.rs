//! Float storage aligned to a cache line, in large pages where the system has them.

use bytemuck::{Pod, Zeroable};
use memmap2::MmapMut;
use std::ops::{Deref, DerefMut};

const LANES: usize = 16;
/// Bytes from which a buffer gets pages of its own: two large pages of x86-64 and AArch64.
const MAPPED: usize = 4 << 20;

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
struct Line([f32; LANES]);

/// A slice of floats that starts on a 64-byte boundary, so that no aligned vector load crosses a cache line.
///
/// A large one is mapped from the system, with large pages requested: a network accesses far more memory than the TLB
/// covers with small pages.
pub struct AlignedBuffer {
    storage: Storage,
    len: usize,
}

enum Storage {
    Lines(Vec<Line>),
    Pages(MmapMut),
}

impl AlignedBuffer {
    /// `len` zeros.
    pub fn zeros(len: usize) -> Self {
        let lines = || vec![Line::zeroed(); len.div_ceil(LANES)];
        Self::mapped(len).unwrap_or_else(|| Self { storage: Storage::Lines(lines()), len })
    }

    /// `len` zeros, or `None` if the system has no memory for them.
    pub fn try_zeros(len: usize) -> Option<Self> {
        Self::mapped(len).or_else(|| {
            let mut lines = Vec::new();
            lines.try_reserve_exact(len.div_ceil(LANES)).ok()?;
            lines.resize(len.div_ceil(LANES), Line::zeroed());
            Some(Self { storage: Storage::Lines(lines), len })
        })
    }

    /// The buffer as bytes, in the machine's order.
    pub fn as_bytes(&self) -> &[u8] {
        bytemuck::cast_slice(self)
    }

    /// The buffer as bytes, in the machine's order, to be changed.
    pub fn as_bytes_mut(&mut self) -> &mut [u8] {
        bytemuck::cast_slice_mut(self)
    }

    /// `len` zeros in pages of their own, if they are many enough.
    fn mapped(len: usize) -> Option<Self> {
        let bytes = len.checked_mul(size_of::<f32>()).filter(|&bytes| bytes >= MAPPED)?;
        let pages = MmapMut::map_anon(bytes).ok()?;
        // A system that refuses gives small pages, which work as well, only slower.
        #[cfg(target_os = "linux")]
        let _ = pages.advise(memmap2::Advice::HugePage);
        Some(Self { storage: Storage::Pages(pages), len })
    }
}

impl Deref for AlignedBuffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match &self.storage {
            Storage::Lines(lines) => &bytemuck::cast_slice(lines)[..self.len],
            Storage::Pages(pages) => bytemuck::cast_slice(pages),
        }
    }
}

impl DerefMut for AlignedBuffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        match &mut self.storage {
            Storage::Lines(lines) => &mut bytemuck::cast_slice_mut(lines)[..self.len],
            Storage::Pages(pages) => bytemuck::cast_slice_mut(pages),
        }
    }
}

impl Clone for AlignedBuffer {
    fn clone(&self) -> Self {
        let mut copy = Self::zeros(self.len);
        copy.copy_from_slice(self);
        copy
    }
}

impl std::fmt::Debug for AlignedBuffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AlignedBuffer({} floats)", self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_on_a_cache_line_and_keeps_its_length() {
        for len in [0, 1, 15, 16, 17, 1000, MAPPED / 4 - 1, MAPPED / 4, MAPPED / 4 + 1] {
            let mut buffer = AlignedBuffer::zeros(len);
            assert_eq!(buffer.len(), len);
            assert_eq!(buffer.as_ptr().addr() % 64, 0);
            buffer.fill(2.0);
            assert!(buffer.iter().all(|&x| x == 2.0));
            assert_eq!(AlignedBuffer::try_zeros(len).unwrap().len(), len);
        }
        assert!(AlignedBuffer::try_zeros(usize::MAX).is_none());
    }
}
