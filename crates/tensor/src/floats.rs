//! Floats that several tensors may share.

use crate::AlignedBuffer;
use std::ops::{Deref, Range};
use std::sync::Arc;

/// Floats, cheap to clone: clones share them until one is changed, which copies that one's first.
///
/// They are values of their own, or a part of a buffer that many tensors share, such as the bytes of the file that they
/// were read from. The buffer lives as long as any part of it.
#[derive(Clone)]
pub struct Floats(Storage);

#[derive(Clone)]
enum Storage {
    Own(Arc<Vec<f32>>),
    Part { buffer: Arc<AlignedBuffer>, range: Range<usize> },
}

impl Floats {
    /// The floats of `buffer` in `range`.
    ///
    /// # Panics
    /// If `range` is not within the buffer.
    pub fn part(buffer: &Arc<AlignedBuffer>, range: Range<usize>) -> Self {
        assert!(buffer.get(range.clone()).is_some(), "a range within the buffer");
        Self(Storage::Part { buffer: Arc::clone(buffer), range })
    }

    /// The floats, to be changed; copied first if they are shared.
    pub fn to_mut(&mut self) -> &mut [f32] {
        if let Storage::Part { .. } = self.0 {
            *self = self.to_vec().into();
        }
        match &mut self.0 {
            Storage::Own(values) => Arc::make_mut(values).as_mut_slice(),
            Storage::Part { .. } => unreachable!("copied above"),
        }
    }
}

impl From<Vec<f32>> for Floats {
    fn from(values: Vec<f32>) -> Self {
        Self(Storage::Own(Arc::new(values)))
    }
}

impl Deref for Floats {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match &self.0 {
            Storage::Own(values) => values,
            Storage::Part { buffer, range } => &buffer[range.clone()],
        }
    }
}

impl PartialEq for Floats {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl std::fmt::Debug for Floats {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        (**self).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_seen_by_no_other() {
        let mut buffer = AlignedBuffer::zeros(4);
        buffer.copy_from_slice(&[0.0, 1.0, 2.0, 3.0]);
        let buffer = Arc::new(buffer);
        for floats in [Floats::part(&buffer, 1..3), vec![1.0, 2.0].into()] {
            let mut changed = floats.clone();
            assert_eq!(changed.as_ptr(), floats.as_ptr());
            changed.to_mut()[0] = 7.0;
            assert_eq!((&*changed, &*floats, buffer[1]), (&[7.0, 2.0][..], &[1.0, 2.0][..], 1.0));
        }
    }

    #[test]
    #[should_panic(expected = "within the buffer")]
    fn a_part_past_the_buffer_is_refused() {
        Floats::part(&Arc::new(AlignedBuffer::zeros(4)), 3..5);
    }
}
