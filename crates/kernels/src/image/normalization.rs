//! The normalisation of bytes.

/// `(x / 255 − mean) / std` for each of the 256 values of each channel: those of torchvision's `ToTensor` and `Normalize`, bit for bit.
#[derive(Clone, Debug)]
pub struct Normalization {
    tables: Vec<[f32; 256]>,
    steps: Option<Box<Steps>>,
}

/// The values of the three channels of eight pixels, one after another.
pub(crate) const PERIOD: usize = 24;

/// The normalisation without tables and divisions: three vectors for the channels of eight pixels.
#[derive(Clone, Debug)]
pub(crate) struct Steps {
    pub(crate) mean: [f32; PERIOD],
    pub(crate) std: [f32; PERIOD],
    /// 1 / std.
    pub(crate) reciprocal: [f32; PERIOD],
}

/// 1 / 255.
pub(crate) const RECIPROCAL: f32 = 1.0 / 255.0;

impl Normalization {
    /// For channels of the given means and standard deviations, on a scale of 0 to 1.
    pub fn new(mean: &[f32], std: &[f32]) -> Self {
        let table = |(&mean, &std): (&f32, &f32)| std::array::from_fn(|x| (x as f32 / 255.0 - mean) / std);
        let tables: Vec<[f32; 256]> = mean.iter().zip(std).map(table).collect();
        let repeated = |values: &[f32]| std::array::from_fn(|at| values[at % 3]);
        let steps = (tables.len() == 3).then(|| {
            let reciprocal: Vec<f32> = std.iter().map(|std| 1.0 / std).collect();
            Box::new(Steps { mean: repeated(mean), std: repeated(std), reciprocal: repeated(&reciprocal) })
        });
        let steps = steps.filter(|steps| {
            let exact = |(channel, table): (usize, &[f32; 256])| {
                (0..256).all(|x| steps.value(channel, x as f32).to_bits() == table[x].to_bits())
            };
            tables.iter().enumerate().all(exact)
        });
        Self { tables, steps }
    }

    /// The number of channels.
    pub fn channels(&self) -> usize {
        self.tables.len()
    }

    /// The values of a channel.
    pub fn table(&self, channel: usize) -> &[f32; 256] {
        &self.tables[channel]
    }

    /// The steps that give the tables' values, if there are such steps for them.
    pub(crate) fn steps(&self) -> Option<&Steps> {
        self.steps.as_deref()
    }

    /// By the tables.
    pub(crate) fn look_up(&self, pixels: &[u8], output: &mut [f32]) {
        if let [red, green, blue] = &self.tables[..] {
            for (output, [r, g, b]) in output.as_chunks_mut::<3>().0.iter_mut().zip(pixels.as_chunks::<3>().0) {
                *output = [red[usize::from(*r)], green[usize::from(*g)], blue[usize::from(*b)]];
            }
            return;
        }
        let channels = self.channels();
        for (pixel, output) in pixels.chunks_exact(channels).zip(output.chunks_exact_mut(channels)) {
            for ((output, &value), table) in output.iter_mut().zip(pixel).zip(&self.tables) {
                *output = table[usize::from(value)];
            }
        }
    }
}

impl Steps {
    /// A quotient from the product with the reciprocal: corrected by its remainder, it is nearly always rounded correctly (Markstein,
    /// "Computation of elementary functions on the IBM RISC System/6000 processor", 1990). [`Normalization::new`] compares all.
    fn value(&self, at: usize, x: f32) -> f32 {
        let quotient = |x: f32, divisor: f32, reciprocal: f32| {
            let near = x * reciprocal;
            (-near).mul_add(divisor, x).mul_add(reciprocal, near)
        };
        quotient(quotient(x, 255.0, RECIPROCAL) - self.mean[at], self.std[at], self.reciprocal[at])
    }
}
