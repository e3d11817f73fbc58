//! The perceptual hash (pHash) of an image, and all pairs of similar hashes.

use std::sync::OnceLock;

/// The side of the grey square that is hashed.
pub(crate) const SIDE: usize = 32;
/// The side of the square of low frequencies whose signs are the hash.
const LOW: usize = 8;
/// Bits of a part of a hash; equal or similar parts find similar hashes.
const PART: usize = 16;
const PARTS: usize = 64 / PART;

/// The hash of a grey square: for each of the 64 lowest frequencies of its discrete cosine transform but the mean, whether it is above
/// their median. Similar images have hashes that differ in few bits.
pub(crate) fn perceptual_hash(square: &[u8]) -> u64 {
    let cosines = cosines();
    let mut rows = [[0.0f32; LOW]; SIDE];
    for (row, values) in rows.iter_mut().zip(square.chunks_exact(SIDE)) {
        for (coefficient, cosines) in row.iter_mut().zip(cosines) {
            *coefficient = values.iter().zip(cosines).map(|(&value, cosine)| f32::from(value) * cosine).sum();
        }
    }
    let coefficient = |index: usize| -> f32 {
        let cosines = &cosines[index / LOW];
        rows.iter().zip(cosines).map(|(row, cosine)| row[index % LOW] * cosine).sum()
    };
    let coefficients: [f32; LOW * LOW] = std::array::from_fn(coefficient);
    let mut sorted: [f32; LOW * LOW - 1] = std::array::from_fn(|index| coefficients[index + 1]);
    sorted.sort_unstable_by(f32::total_cmp);
    let median = sorted[sorted.len() / 2];
    (1..LOW * LOW).filter(|&index| coefficients[index] > median).map(|index| 1 << index).sum()
}

/// The cosines of the lowest frequencies.
fn cosines() -> &'static [[f32; SIDE]; LOW] {
    static TABLE: OnceLock<[[f32; SIDE]; LOW]> = OnceLock::new();
    TABLE.get_or_init(|| {
        std::array::from_fn(|frequency| {
            std::array::from_fn(|at| {
                let phase = std::f64::consts::PI * (2 * at + 1) as f64 * frequency as f64 / (2 * SIDE) as f64;
                phase.cos() as f32
            })
        })
    })
}

/// Hashes, indexed by each of their four parts of 16 bits (multi-index hashing: Norouzi, Punjani and Fleet, "Fast search in Hamming
/// space with multi-index hashing", 2012). Two hashes that differ in `n` bits differ in at most `n / 4` bits of one part.
pub(crate) struct HashIndex<'a> {
    hashes: &'a [u64],
    /// For each part and value, where its hashes begin in `members`.
    starts: [Vec<u32>; PARTS],
    members: [Vec<u32>; PARTS],
}

impl<'a> HashIndex<'a> {
    pub(crate) fn new(hashes: &'a [u64]) -> Self {
        let mut index = Self { hashes, starts: Default::default(), members: Default::default() };
        for part in 0..PARTS {
            let mut starts = vec![0u32; (1 << PART) + 1];
            hashes.iter().for_each(|&hash| starts[value(hash, part) + 1] += 1);
            for at in 1..starts.len() {
                starts[at] += starts[at - 1];
            }
            let mut next = starts.clone();
            let mut members = vec![0; hashes.len()];
            for (member, &hash) in (0..).zip(hashes) {
                let place = &mut next[value(hash, part)];
                members[*place as usize] = member;
                *place += 1;
            }
            (index.starts[part], index.members[part]) = (starts, members);
        }
        index
    }

    /// Those before hash `number` that differ from it in at most `distance` bits, each with the number of bits, in order.
    pub(crate) fn similar_before(&self, number: usize, distance: u32, found: &mut Vec<(usize, u32)>) {
        found.clear();
        let hash = self.hashes[number];
        for part in 0..PARTS {
            let own = value(hash, part);
            for mask in masks(distance as usize / PARTS) {
                let other = own ^ usize::from(*mask);
                let range = self.starts[part][other] as usize..self.starts[part][other + 1] as usize;
                // The members of a value are in order.
                for &member in self.members[part][range].iter().take_while(|&&member| (member as usize) < number) {
                    let differing = (self.hashes[member as usize] ^ hash).count_ones();
                    if differing <= distance {
                        found.push((member as usize, differing));
                    }
                }
            }
        }
        found.sort_unstable();
        found.dedup();
    }
}

fn value(hash: u64, part: usize) -> usize {
    (hash >> (PART * part)) as usize & ((1 << PART) - 1)
}

/// All values of 16 bits with at most so many ones.
fn masks(ones: usize) -> &'static [u16] {
    static MASKS: OnceLock<Vec<u16>> = OnceLock::new();
    let sorted = MASKS.get_or_init(|| {
        let mut masks: Vec<u16> = (0..=u16::MAX).collect();
        masks.sort_by_key(|mask| mask.count_ones());
        masks
    });
    &sorted[..sorted.partition_point(|mask| mask.count_ones() as usize <= ones)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use residual_tensor::Stream;

    #[test]
    fn the_index_finds_what_comparing_all_pairs_finds() {
        let mut random = Stream::new(1, &[]);
        let centres: Vec<u64> = (0..20).map(|_| random.next_u64()).collect();
        let hashes: Vec<u64> = (0..400)
            .map(|number| (0..random.below(9)).fold(centres[number % 20], |hash, _| hash ^ 1 << random.below(64)))
            .collect();
        let index = HashIndex::new(&hashes);
        for distance in [0, 3, 4, 8, 11, 16] {
            let mut found = Vec::new();
            for number in 0..hashes.len() {
                index.similar_before(number, distance, &mut found);
                let differing = |other: usize| (hashes[other] ^ hashes[number]).count_ones();
                let all: Vec<(usize, u32)> =
                    (0..number).map(|other| (other, differing(other))).filter(|pair| pair.1 <= distance).collect();
                assert_eq!(found, all);
            }
        }
    }
}
