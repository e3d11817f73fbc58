//! Autotuning: measures the fastest algorithm of each convolution on this machine.

use crate::plan::expected;
use crate::{EngineError, Memory, Mode, Options};
use residual_kernels::conv::{Algorithm, Algorithms, Conv, ConvShape, Direction, Epilogue};
use residual_tensor::AlignedBuffer;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Floats written between two runs to evict the weights from cache, as in a network: larger than most caches.
const FLUSH_LEN: usize = 12 << 20;
/// Minimum and maximum number of runs of a candidate, and its time limit.
const RUNS: [usize; 2] = [3, 9];
const AT_MOST: Duration = Duration::from_millis(60);
/// Another algorithm replaces the expected one only if it takes less than this fraction of its time.
const MARGIN: f64 = 0.97;

/// A pass of a convolution whose algorithm was measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tuned {
    /// The convolution.
    pub shape: ConvShape,
    /// Batch size.
    pub images: usize,
    /// Which pass.
    pub direction: Direction,
    /// Whether weights are packed once (inference) or for every run (training, and inference that packs on use).
    pub packed_once: bool,
}

/// The measured algorithm of each pass of some convolutions. Results are reproducible with the same tuning; with different
/// tunings they differ by rounding.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tuning {
    choices: Vec<(Tuned, Algorithm)>,
    /// The index of each choice.
    places: HashMap<Tuned, usize>,
}

impl Tuning {
    /// The choice for a pass, if there is one.
    pub fn get(&self, tuned: &Tuned) -> Option<Algorithm> {
        self.places.get(tuned).map(|&place| self.choices[place].1)
    }

    /// Sets the choice for a pass.
    pub fn insert(&mut self, tuned: Tuned, algorithm: Algorithm) {
        let place = *self.places.entry(tuned).or_insert(self.choices.len());
        match self.choices.get_mut(place) {
            Some((_, choice)) => *choice = algorithm,
            None => self.choices.push((tuned, algorithm)),
        }
    }

    /// All choices, in insertion order.
    pub fn iter(&self) -> impl Iterator<Item = &(Tuned, Algorithm)> {
        self.choices.iter()
    }

    /// The algorithms of a convolution in a plan for `mode`: the measured ones, or `expected` where nothing was measured.
    pub(crate) fn algorithms(
        &self,
        shape: ConvShape,
        images: usize,
        mode: Mode,
        packed_once: bool,
        expected: Algorithms,
    ) -> Algorithms {
        let mut algorithms = expected;
        for tuned in passes(shape, images, mode, packed_once) {
            if let Some(algorithm) = self.get(&tuned) {
                *pass_mut(&mut algorithms, tuned.direction) = algorithm;
            }
        }
        algorithms
    }

    /// Measures every pass of a convolution that a plan for `mode` needs and that is not known yet.
    pub(crate) fn measure(
        &mut self,
        shape: ConvShape,
        images: usize,
        mode: Mode,
        options: &Options,
    ) -> Result<(), EngineError> {
        let packed_once = options.packs_ahead(mode);
        let mut expected = expected(options, mode, &shape, images);
        for tuned in passes(shape, images, mode, packed_once) {
            if self.get(&tuned).is_none() {
                let first = *pass_mut(&mut expected, tuned.direction);
                self.insert(tuned, fastest(&tuned, first, options)?);
            }
        }
        Ok(())
    }
}

/// The passes of a convolution that a plan for `mode` needs.
fn passes(shape: ConvShape, images: usize, mode: Mode, packed_once: bool) -> Vec<Tuned> {
    let pass = |direction| Tuned { shape, images, direction, packed_once };
    match mode {
        Mode::Infer => vec![pass(Direction::Forward)],
        _ => [Direction::Forward, Direction::BackwardData, Direction::BackwardWeights].map(pass).to_vec(),
    }
}

fn pass_mut(algorithms: &mut Algorithms, direction: Direction) -> &mut Algorithm {
    match direction {
        Direction::Forward => &mut algorithms.forward,
        Direction::BackwardData => &mut algorithms.backward_data,
        Direction::BackwardWeights => &mut algorithms.backward_weights,
    }
}

/// The fastest algorithm; in case of a tie, the expected one.
fn fastest(tuned: &Tuned, expected: Algorithm, options: &Options) -> Result<Algorithm, EngineError> {
    // Candidates that cannot compute this convolution, or are equivalent to another, are skipped.
    let mut plans: Vec<(Algorithm, Conv)> = Vec::new();
    for candidate in [expected].into_iter().chain(Algorithm::ALL) {
        let mut algorithms = Algorithms::DIRECT;
        *pass_mut(&mut algorithms, tuned.direction) = candidate;
        let conv = Conv::with_algorithms(options.isa, tuned.shape, algorithms);
        let algorithm = *pass_mut(&mut conv.algorithms(), tuned.direction);
        if plans.iter().all(|(known, _)| *known != algorithm) {
            plans.push((algorithm, conv));
        }
    }
    if plans.len() == 1 {
        return Ok(expected);
    }
    let mut bench = Bench::new(tuned, options)?;
    let mut best = (expected, bench.time(&plans[0].1)? * MARGIN);
    for (algorithm, conv) in &plans[1..] {
        let time = bench.time(conv)?;
        if time < best.1 {
            best = (*algorithm, time);
        }
    }
    Ok(best.0)
}

fn zeros(len: usize) -> Result<AlignedBuffer, EngineError> {
    let memory = Memory { workspace: len.saturating_mul(size_of::<f32>()), ..Memory::default() };
    AlignedBuffer::try_zeros(len).ok_or_else(|| memory.refused())
}

/// The buffers of a pass.
struct Bench<'a> {
    tuned: &'a Tuned,
    options: &'a Options,
    x: AlignedBuffer,
    y: AlignedBuffer,
    weights: AlignedBuffer,
    gradient: AlignedBuffer,
    flush: AlignedBuffer,
}

impl<'a> Bench<'a> {
    fn new(tuned: &'a Tuned, options: &'a Options) -> Result<Self, EngineError> {
        let filled = |len: usize| -> Result<AlignedBuffer, EngineError> {
            let mut buffer = zeros(len)?;
            buffer.iter_mut().enumerate().for_each(|(index, value)| *value = (index % 13) as f32 / 16.0 - 0.375);
            Ok(buffer)
        };
        let Tuned { shape, images, .. } = tuned;
        Ok(Self {
            x: filled(images * shape.input_len())?,
            y: filled(images * shape.output_len())?,
            weights: filled(shape.weight_len())?,
            gradient: zeros(shape.weight_len())?,
            flush: zeros(FLUSH_LEN)?,
            tuned,
            options,
        })
    }

    /// The minimum time of one run in seconds. Weights are read from memory; the input was just written and may be in
    /// cache.
    fn time(&mut self, conv: &Conv) -> Result<f64, EngineError> {
        let Self { tuned, options, x, y, weights, gradient, flush } = self;
        let Tuned { images, direction, packed_once, .. } = **tuned;
        let pool = &*options.pool;
        let packed_len = conv.packed_forward_len().max(conv.packed_backward_len());
        let mut packed = zeros(packed_len)?;
        let len = conv.workspace_len(pool.threads()).max(conv.weights_workspace_len(images, pool.threads()));
        let mut workspace = zeros(len)?;
        conv.pack_forward(pool, weights, &mut packed[..conv.packed_forward_len()]);
        let mut least = f64::INFINITY;
        let begin = Instant::now();
        for run in 0..RUNS[1] {
            if run >= RUNS[0] && begin.elapsed() > AT_MOST {
                break;
            }
            flush.fill(run as f32);
            let read = if direction == Direction::BackwardData { &mut *y } else { &mut *x };
            read.iter_mut().for_each(|value| *value = -*value);
            let start = Instant::now();
            match direction {
                Direction::Forward => {
                    let packed = &mut packed[..conv.packed_forward_len()];
                    if !packed_once {
                        conv.pack_forward(pool, weights, packed);
                    }
                    conv.forward(pool, images, x, packed, Epilogue::default(), y, &mut workspace);
                }
                Direction::BackwardData => {
                    let packed = &mut packed[..conv.packed_backward_len()];
                    conv.pack_backward(pool, weights, packed);
                    conv.backward_data(pool, images, y, packed, false, x, &mut workspace);
                }
                Direction::BackwardWeights => conv.backward_weights(pool, images, x, y, gradient, &mut workspace),
            }
            least = least.min(start.elapsed().as_secs_f64());
        }
        Ok(least)
    }
}
