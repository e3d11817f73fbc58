//! One block of memory (arena) for all values, which share memory where their lifetimes do not overlap.

mod occupied;

use bytemuck::Pod;
use occupied::Occupied;
use residual_tensor::AlignedBuffer;
use std::ops::Range;

/// Identifies a value's buffer in the arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct BufferId(pub(crate) usize);

/// Buffers start at multiples of this many bytes: a cache line.
const ALIGNMENT: usize = 64;

/// The size and lifetime of a buffer.
#[derive(Clone, Debug)]
pub(crate) struct Buffer {
    /// Bytes per image.
    pub(crate) len: usize,
    /// Its lifetime: the instructions from the first to the last that uses it.
    pub(crate) alive: Range<usize>,
    /// Its capacity in images, if that is not the whole batch.
    pub(crate) images: Option<usize>,
}

/// The offset of each buffer.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    list: Vec<Place>,
    len: usize,
}

/// The offset of a buffer.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// Offset of its first byte.
    start: usize,
    /// Bytes for one image.
    len: usize,
    /// Whether it holds the whole batch.
    is_whole: bool,
}

impl Places {
    /// Places `buffers`, each for `batch` images: largest first, at the lowest offset that is free during their lifetime.
    pub(crate) fn new(buffers: &[Buffer], batch: usize) -> Self {
        let size = |buffer: &Buffer| (buffer.len * buffer.images.unwrap_or(batch)).next_multiple_of(ALIGNMENT);
        let mut order: Vec<usize> = (0..buffers.len()).collect();
        order.sort_by_key(|&index| (std::cmp::Reverse(size(&buffers[index])), index));
        let mut list = vec![Place { start: 0, len: 0, is_whole: true }; buffers.len()];
        let end = buffers.iter().map(|buffer| buffer.alive.end).max().unwrap_or(0);
        let mut occupied = Occupied::new(end);
        let mut len = 0;
        for index in order {
            let buffer = &buffers[index];
            let start = occupied.take(&buffer.alive, size(buffer));
            list[index] = Place { start, len: buffer.len, is_whole: buffer.images.is_none() };
            len = len.max(start + size(buffer));
        }
        Self { list, len }
    }

    /// Bytes in total.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Bytes per image of the value of `id`.
    pub(crate) fn len_of(&self, id: BufferId) -> usize {
        self.list[id.0].len
    }
}

/// The placed buffers.
#[derive(Debug)]
pub(crate) struct Arena {
    memory: AlignedBuffer,
    places: Places,
    /// The first image of the current part of the batch.
    first: usize,
}

impl Arena {
    /// Memory for placed buffers, or `None` if the system has none.
    pub(crate) fn new(places: &Places) -> Option<Self> {
        Some(Self {
            memory: AlignedBuffer::try_zeros(places.len / size_of::<f32>())?,
            places: places.clone(),
            first: 0,
        })
    }

    /// Elements per image of the value of `id`.
    pub(crate) fn len_of<T: Pod>(&self, id: BufferId) -> usize {
        self.places.len_of(id) / size_of::<T>()
    }

    /// Makes later calls return the values of the batch from image `first` on.
    pub(crate) fn begin_at(&mut self, first: usize) {
        self.first = first;
    }

    fn range(&self, id: BufferId, images: usize) -> Range<usize> {
        let Place { start, len, is_whole } = self.places.list[id.0];
        let start = if is_whole { start + self.first * len } else { start };
        start..start + len * images
    }

    /// The value of `id` for `images` images, as the elements that its plan keeps in it.
    pub(crate) fn get<T: Pod>(&self, id: BufferId, images: usize) -> &[T] {
        bytemuck::cast_slice(&self.memory.as_bytes()[self.range(id, images)])
    }

    /// The value of `id` for `images` images, to be written.
    pub(crate) fn get_mut<T: Pod>(&mut self, id: BufferId, images: usize) -> &mut [T] {
        let range = self.range(id, images);
        bytemuck::cast_slice_mut(&mut self.memory.as_bytes_mut()[range])
    }

    /// One buffer to be written and others to be read with it.
    ///
    /// # Panics
    /// If the written buffer overlaps one that is read, which the plan rules out.
    pub(crate) fn write_and_read<W: Pod, R: Pod, const N: usize>(
        &mut self,
        write: BufferId,
        read: [BufferId; N],
        images: usize,
    ) -> (&mut [W], [&[R]; N]) {
        let ([written], reads) = self.write_all_and_read([write], read, images);
        (bytemuck::cast_slice_mut(written), reads.map(bytemuck::cast_slice))
    }

    /// The bytes of some buffers to be written and of others to be read with them.
    ///
    /// # Panics
    /// If a written buffer overlaps another, which the plan rules out.
    pub(crate) fn write_all_and_read<const W: usize, const N: usize>(
        &mut self,
        write: [BufferId; W],
        read: [BufferId; N],
        images: usize,
    ) -> ([&mut [u8]; W], [&[u8]; N]) {
        let ranges = write.map(|id| self.range(id, images));
        let reads = read.map(|id| self.range(id, images));
        let mut order: [usize; W] = std::array::from_fn(|index| index);
        order.sort_by_key(|&index| ranges[index].start);
        let mut written: [&mut [u8]; W] = std::array::from_fn(|_| &mut [][..]);
        // The memory before, between and after the written buffers: gaps[k] ends where the k-th begins.
        let mut gaps: [(usize, &[u8]); W] = std::array::from_fn(|_| (0, &[][..]));
        let (mut rest, mut start) = (self.memory.as_bytes_mut(), 0);
        for (gap, index) in gaps.iter_mut().zip(order) {
            let Range { start: from, end } = ranges[index];
            let before = from.checked_sub(start).expect("written values do not overlap");
            let (free, others) = rest.split_at_mut(before);
            let (own, others) = others.split_at_mut(end - from);
            *gap = (start, free);
            written[index] = own;
            (rest, start) = (others, end);
        }
        let rest: &[u8] = rest;
        let reads = reads.map(|read| {
            let holds = |(from, gap): &(usize, &[u8])| *from <= read.start && read.end <= from + gap.len();
            let mut all = gaps.into_iter().chain([(start, rest)]);
            let (from, gap) = all.find(holds).expect("a written value overlaps no value read with it");
            &gap[read.start - from..read.end - from]
        });
        (written, reads)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use residual_tensor::Stream;

    #[test]
    fn values_alive_together_never_overlap() {
        let mut stream = Stream::new(1, &[]);
        for round in 0..50 {
            let buffers: Vec<Buffer> = (0..40)
                .map(|_| {
                    let start = stream.below(50) as usize;
                    let alive = start..start + 1 + stream.below(20) as usize;
                    Buffer { len: 1 + stream.below(100) as usize, alive, images: None }
                })
                .collect();
            let arena = Arena::new(&Places::new(&buffers, 1 + round % 3)).unwrap();
            let range = |index| arena.range(BufferId(index), 1 + round % 3);
            for a in 0..buffers.len() {
                for b in 0..a {
                    let (x, y) = (&buffers[a].alive, &buffers[b].alive);
                    let together = x.start < y.end && y.start < x.end;
                    let (p, q) = (range(a), range(b));
                    assert!(!together || p.end <= q.start || q.end <= p.start, "{a} and {b}");
                }
            }
        }
    }

    /// Largest first, each at the lowest offset that is free during its lifetime.
    #[test]
    fn places_are_those_of_a_search_through_all_values() {
        let mut stream = Stream::new(2, &[]);
        for round in 0..100 {
            let buffers: Vec<Buffer> = (0..60)
                .map(|index| {
                    // As in training, where values live until they are used in the backward pass, and at random.
                    let start = if round % 2 == 0 { index } else { stream.below(50) as usize };
                    let end = if round % 2 == 0 { 121 - index } else { start + 1 + stream.below(30) as usize };
                    Buffer { len: 1 + stream.below(100) as usize, alive: start..end, images: None }
                })
                .collect();
            let places = Places::new(&buffers, 1);
            let size = |index: usize| buffers[index].len.next_multiple_of(ALIGNMENT);
            let mut order: Vec<usize> = (0..buffers.len()).collect();
            order.sort_by_key(|&index| (std::cmp::Reverse(size(index)), index));
            let mut placed: Vec<(usize, usize)> = Vec::new();
            for index in order {
                let alive = &buffers[index].alive;
                let is_free = |start: usize| {
                    placed.iter().all(|&(other, at)| {
                        let apart = buffers[other].alive.end <= alive.start || alive.end <= buffers[other].alive.start;
                        apart || at + size(other) <= start || start + size(index) <= at
                    })
                };
                let ends = placed.iter().map(|&(other, at)| at + size(other));
                let lowest = ends.chain([0]).filter(|&start| is_free(start)).min().unwrap();
                assert_eq!(places.list[index].start, lowest, "round {round}, buffer {index}");
                placed.push((index, lowest));
            }
        }
    }

    #[test]
    fn several_buffers_are_written_beside_those_that_are_read() {
        let buffers: Vec<Buffer> = (0..5).map(|i| Buffer { len: 64 * (i + 1), alive: 0..1, images: None }).collect();
        let mut arena = Arena::new(&Places::new(&buffers, 1)).unwrap();
        for first in 0..5 {
            let id = |offset: usize| BufferId((first + offset) % 5);
            (0..5).for_each(|offset| arena.get_mut(id(offset), 1).fill(offset as u8));
            let ([a, b], [c, d, again]) = arena.write_all_and_read([id(0), id(1)], [id(2), id(4), id(2)], 1);
            assert!(a.iter().all(|x| *x == 0) && b.iter().all(|x| *x == 1));
            assert!(c.iter().all(|x| *x == 2) && d.iter().all(|x| *x == 4) && c == again);
            a.fill(7);
            let all = |id, value: u8| arena.get::<u8>(id, 1).iter().all(|x| *x == value);
            assert!(all(id(0), 7) && all(id(3), 3));
        }
    }

    #[test]
    fn a_chain_needs_two_places() {
        let buffers: Vec<Buffer> = (0..10).map(|i| Buffer { len: 64, alive: i..i + 2, images: None }).collect();
        assert_eq!(Places::new(&buffers, 1).len(), 128);
    }
}
