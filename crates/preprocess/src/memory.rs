//! The memory of images that are no longer needed, kept by each thread for the next ones: for large blocks, the system would clear new
//! pages every time.

use std::cell::Cell;

thread_local! {
    static SPARE: Cell<[Vec<u8>; 2]> = const { Cell::new([Vec::new(), Vec::new()]) };
}

/// The largest block that is kept, in bytes: photographs of 2 megapixels.
const KEPT: usize = 6 << 20;

/// An empty vector with room for `len` bytes.
pub(crate) fn take(len: usize) -> Vec<u8> {
    let mut spare = SPARE.take();
    // The smaller one, if it is large enough.
    spare.sort_unstable_by_key(Vec::capacity);
    let place = spare.iter().position(|vector| vector.capacity() >= len).unwrap_or(1);
    let mut vector = std::mem::take(&mut spare[place]);
    SPARE.set(spare);
    if vector.capacity() < len {
        vector = Vec::with_capacity(len);
    }
    vector
}

/// Keeps `vector` in place of a smaller one.
pub(crate) fn give(mut vector: Vec<u8>) {
    if vector.capacity() > KEPT {
        return;
    }
    vector.clear();
    let mut spare = SPARE.take();
    spare.sort_unstable_by_key(Vec::capacity);
    if spare[0].capacity() < vector.capacity() {
        spare[0] = vector;
    }
    SPARE.set(spare);
}
