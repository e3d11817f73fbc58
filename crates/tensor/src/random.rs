//! Counter-based random numbers: a path determines its stream, regardless of the order of use.

/// A stream of random numbers that is a pure function of a seed and a path, such as `(epoch, sample index)`.
///
/// Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC'11): the seed is the key,
/// the path (hashed) and the position are the counter.
///
/// ```
/// use residual_tensor::Stream;
/// let mut a = Stream::new(7, &[3, 41]);
/// let mut b = Stream::new(7, &[3, 41]);
/// assert_eq!(a.next_u32(), b.next_u32());
/// ```
#[derive(Clone, Debug)]
pub struct Stream {
    key: [u32; 2],
    path: [u32; 2],
    position: u64,
    block: [u32; 4],
    left: usize,
}

impl Stream {
    /// The stream of `path` under `seed`.
    pub fn new(seed: u64, path: &[u64]) -> Self {
        let path = path.iter().fold(path.len() as u64, |hash, &step| mix(hash ^ mix(step)));
        Self { key: halves(seed), path: halves(path), position: 0, block: [0; 4], left: 0 }
    }

    /// 32 uniform bits.
    #[inline]
    pub fn next_u32(&mut self) -> u32 {
        if self.left == 0 {
            let [low, high] = halves(self.position);
            self.block = philox([low, high, self.path[0], self.path[1]], self.key);
            self.position += 1;
            self.left = 4;
        }
        self.left -= 1;
        self.block[3 - self.left]
    }

    /// 64 uniform bits.
    #[inline]
    pub fn next_u64(&mut self) -> u64 {
        u64::from(self.next_u32()) | u64::from(self.next_u32()) << 32
    }

    /// Uniform in `[0, 1)`, a multiple of 2⁻²⁴.
    #[inline]
    pub fn uniform(&mut self) -> f32 {
        (self.next_u32() >> 8) as f32 * (1.0 / (1 << 24) as f32)
    }

    /// Uniform in `[low, high)`.
    #[inline]
    pub fn range(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * self.uniform()
    }

    /// True with `probability`.
    #[inline]
    pub fn chance(&mut self, probability: f32) -> bool {
        self.uniform() < probability
    }

    /// Uniform in `0..bound`, without bias (Lemire's method).
    ///
    /// # Panics
    /// If `bound` is zero.
    #[inline]
    pub fn below(&mut self, bound: u32) -> u32 {
        assert!(bound > 0, "an empty range has no random element");
        let threshold = bound.wrapping_neg() % bound;
        loop {
            let product = u64::from(self.next_u32()) * u64::from(bound);
            if product as u32 >= threshold {
                return (product >> 32) as u32;
            }
        }
    }

    /// Normal with mean 0 and standard deviation 1 (Box–Muller).
    #[inline]
    pub fn normal(&mut self) -> f32 {
        let radius = (f64::from(self.next_u32()) + 1.0) * (1.0 / 4_294_967_296.0);
        let angle = f64::from(self.next_u32()) * (std::f64::consts::TAU / 4_294_967_296.0);
        ((-2.0 * radius.ln()).sqrt() * angle.cos()) as f32
    }

    /// Shuffles `items` uniformly (Fisher–Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last as u32 + 1) as usize);
        }
    }
}

fn halves(value: u64) -> [u32; 2] {
    [value as u32, (value >> 32) as u32]
}

/// The finaliser of SplitMix64.
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ value >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ value >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ value >> 31
}

fn philox(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..10 {
        let [low0, high0] = halves(u64::from(counter[0]) * 0xd251_1f53);
        let [low1, high1] = halves(u64::from(counter[2]) * 0xcd9e_8d57);
        counter = [high1 ^ counter[1] ^ key[0], low1, high0 ^ counter[3] ^ key[1], low0];
        key = [key[0].wrapping_add(0x9e37_79b9), key[1].wrapping_add(0xbb67_ae85)];
    }
    counter
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The known answers of the Random123 distribution (`kat_vectors`, philox4x32-10).
    #[test]
    fn philox_gives_the_published_answers() {
        assert_eq!(philox([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(philox([!0; 4], [!0; 2]), [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
        assert_eq!(
            philox([0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344], [0xa409_3822, 0x299f_31d0]),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
    }

    #[test]
    fn paths_and_seeds_give_different_streams() {
        let first = |seed, path: &[u64]| Stream::new(seed, path).next_u64();
        let draws =
            [first(0, &[]), first(0, &[0]), first(0, &[0, 0]), first(0, &[0, 1]), first(0, &[1, 0]), first(1, &[0])];
        for (index, draw) in draws.iter().enumerate() {
            assert!(!draws[..index].contains(draw));
        }
    }

    #[test]
    fn moments_are_those_of_the_distribution() {
        let mut stream = Stream::new(1, &[]);
        let n = 200_000;
        let (mut sum, mut square, mut uniform) = (0.0f64, 0.0, 0.0);
        let mut below = [0u32; 7];
        for _ in 0..n {
            let x = f64::from(stream.normal());
            sum += x;
            square += x * x;
            uniform += f64::from(stream.uniform());
            below[stream.below(7) as usize] += 1;
        }
        let n = f64::from(n);
        assert!((sum / n).abs() < 0.01 && (square / n - 1.0).abs() < 0.02 && (uniform / n - 0.5).abs() < 0.005);
        assert!(below.iter().all(|&count| (f64::from(count) * 7.0 / n - 1.0).abs() < 0.03));
    }

    #[test]
    fn a_shuffle_is_a_permutation() {
        let mut items: Vec<u32> = (0..100).collect();
        Stream::new(3, &[1]).shuffle(&mut items);
        assert!(items.iter().enumerate().any(|(index, &item)| index != item as usize));
        items.sort_unstable();
        assert_eq!(items, (0..100).collect::<Vec<_>>());
    }
}
