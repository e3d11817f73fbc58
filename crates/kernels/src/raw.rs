//! Pointers that tasks on several threads share because each touches its own part.

/// A slice that tasks write disjoint parts of. The borrow lasts as long as the value does.
#[derive(Clone, Copy)]
pub(crate) struct SharedMut<'a, T = f32> {
    start: *mut T,
    len: usize,
    slice: std::marker::PhantomData<&'a mut [T]>,
}

// SAFETY: the methods are unsafe, and their callers promise that parts used at the same time do not overlap.
unsafe impl<T: Send> Send for SharedMut<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for SharedMut<'_, T> {}

impl<'a, T: Copy> SharedMut<'a, T> {
    /// Shares `slice` out.
    pub(crate) fn new(slice: &'a mut [T]) -> Self {
        Self { start: slice.as_mut_ptr(), len: slice.len(), slice: std::marker::PhantomData }
    }

    /// The address of element `index`, which may be one past the end.
    #[inline(always)]
    pub(crate) fn at(self, index: usize) -> *mut T {
        debug_assert!(index <= self.len, "index {index} of a slice of {}", self.len);
        self.start.wrapping_add(index)
    }

    /// The slice from element `start` on.
    #[inline(always)]
    pub(crate) fn offset(self, start: usize) -> Self {
        assert!(start <= self.len, "offset {start} of a slice of {}", self.len);
        Self { start: self.start.wrapping_add(start), len: self.len - start, slice: self.slice }
    }

    /// The elements of `range`.
    ///
    /// # Safety
    /// No one else uses them while the result lives.
    #[inline(always)]
    pub(crate) unsafe fn part(self, range: std::ops::Range<usize>) -> &'a mut [T] {
        assert!(range.start <= range.end && range.end <= self.len, "{range:?} of a slice of {}", self.len);
        // SAFETY: inside the slice; exclusive by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(range.start), range.len()) }
    }
}

/// Bytes from which on a tensor is evicted from the caches before it is read again.
const LARGE: usize = 12 << 20;

/// Whether kernels store `y`, pixels of `channels`, with non-temporal stores: no cache line is read before it is
/// written. For tensors larger than the caches, of whole cache lines.
pub(crate) fn is_non_temporal<T>(y: &[T], channels: usize) -> bool {
    size_of_val(y) >= LARGE && channels.is_multiple_of(16) && y.as_ptr().addr().is_multiple_of(64)
}
