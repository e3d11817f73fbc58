//! The nearest orthogonal matrix, roughly: the Newton–Schulz iteration of Muon.

use super::{BucketOrder, sum_of_squares};
use crate::conv::{Algorithms, Conv, ConvShape, Epilogue};
use crate::elementwise::for_ranges;
use crate::isa::Isa;
use crate::raw::SharedMut;
use residual_threads::Pool;

/// Iterations, and the coefficients of their polynomial (Jordan 2024, "Muon: an optimizer for hidden layers in neural networks";
/// the defaults of torch's `Muon`).
pub(crate) const ITERATIONS: usize = 5;
pub(crate) const COEFFICIENTS: [f64; 3] = [3.4445, -4.7750, 2.0315];
/// The least norm that a matrix is divided by.
pub(crate) const LEAST_NORM: f64 = 1e-7;

/// Floats of a task's part of a copy.
const GRAIN: usize = 16 << 10;

/// The orthogonalisation of one weight of a convolution or linear layer, as a matrix of its outputs × the rest.
///
/// The iteration runs on the matrix or its transpose, whichever has not more columns than rows. Its products are convolutions
/// with 1×1 kernels whose pixels are the rows.
#[derive(Clone, Debug)]
pub struct Orthogonalisation {
    isa: Isa,
    order: BucketOrder,
    rows: usize,
    columns: usize,
    /// Rows × columns times columns × columns.
    tall: Conv,
    /// Columns × columns, squared.
    square: Conv,
}

impl Orthogonalisation {
    /// Plans it.
    ///
    /// # Panics
    /// If an extent is zero.
    pub fn new(isa: Isa, order: BucketOrder) -> Self {
        let outputs = order.groups * order.outputs;
        let (rows, columns) = (outputs.max(order.rows), outputs.min(order.rows));
        assert!(columns > 0, "{order:?}: expected no extent of zero");
        let product = |rows: usize| {
            let shape = ConvShape {
                input: [rows, 1],
                in_channels: columns,
                out_channels: columns,
                kernel: [1; 2],
                stride: [1; 2],
                padding: [0; 2],
                dilation: [1; 2],
                groups: 1,
            };
            Conv::with_algorithms(isa, shape, Algorithms::DIRECT)
        };
        Self { isa, order, rows, columns, tall: product(rows), square: product(columns) }
    }

    /// Floats of workspace that [`Orthogonalisation::run`] needs on `threads` threads.
    pub fn workspace_len(&self, threads: usize) -> usize {
        let (matrix, square) = (self.rows * self.columns, self.columns * self.columns);
        2 * matrix + 2 * square + self.tall.packed_forward_len() + self.products_len(threads)
    }

    fn products_len(&self, threads: usize) -> usize {
        let forward = self.tall.workspace_len(threads).max(self.square.workspace_len(threads));
        forward.max(self.tall.weights_workspace_len(1, threads))
    }

    /// Replaces the singular values of `x`, a tensor in the order of the plan, by values near one, as torch's `Muon` does: `x` is
    /// divided by its norm, and five times becomes `a x + (b A + c A²) x` with `A = x xᵀ`. Torch computes in bfloat16, this in f32.
    ///
    /// # Panics
    /// If a slice is shorter than the plan states.
    pub fn run(&self, pool: &Pool, x: &mut [f32], workspace: &mut [f32]) {
        let Self { isa, rows, columns, .. } = *self;
        assert_eq!(x.len(), rows * columns, "{:?}", self.order);
        assert!(workspace.len() >= self.workspace_len(pool.threads()), "workspace of {}", workspace.len());
        let (mut matrix, rest) = workspace.split_at_mut(rows * columns);
        let (mut next, rest) = rest.split_at_mut(rows * columns);
        let (gram, rest) = rest.split_at_mut(columns * columns);
        let (factor, rest) = rest.split_at_mut(columns * columns);
        let (packed, products) = rest.split_at_mut(self.tall.packed_forward_len());
        let norm = sum_of_squares(isa, pool, x).sqrt();
        // A NaN stays one.
        let norm = if norm < LEAST_NORM { LEAST_NORM } else { norm };
        self.gather(pool, x, norm.recip() as f32, matrix);
        for _ in 0..ITERATIONS {
            self.tall.backward_weights(pool, 1, matrix, matrix, gram, products);
            self.square.pack_forward(pool, gram, packed);
            self.square.forward(pool, 1, gram, packed, Epilogue::default(), factor, products);
            polynomial(pool, gram, columns, factor);
            self.tall.pack_forward(pool, factor, packed);
            self.tall.forward(pool, 1, matrix, packed, Epilogue::default(), next, products);
            std::mem::swap(&mut matrix, &mut next);
        }
        self.scatter(pool, matrix, x);
    }

    /// The index in a tensor of the element in `row` and `column` of the matrix.
    fn index(&self, row: usize, column: usize) -> usize {
        let is_transposed = self.order.rows == self.rows;
        let (output, input) = if is_transposed { (column, row) } else { (row, column) };
        self.order.index(output, input)
    }

    /// The matrix, whose elements are those of `x` times `factor`.
    fn gather(&self, pool: &Pool, x: &[f32], factor: f32, matrix: &mut [f32]) {
        self.for_blocks(
            pool,
            |block, matrix: SharedMut<'_>| {
                for row in block {
                    // SAFETY: every task has its own rows.
                    let to = unsafe { matrix.part(row * self.columns..(row + 1) * self.columns) };
                    to.iter_mut().enumerate().for_each(|(column, to)| *to = x[self.index(row, column)] * factor);
                }
            },
            matrix,
        );
    }

    fn scatter(&self, pool: &Pool, matrix: &[f32], x: &mut [f32]) {
        self.for_blocks(
            pool,
            |block, x: SharedMut<'_>| {
                for row in block {
                    for column in 0..self.columns {
                        let at = self.index(row, column);
                        // SAFETY: every element of the matrix has its own place in `x`.
                        unsafe { x.part(at..at + 1)[0] = matrix[row * self.columns + column] };
                    }
                }
            },
            x,
        );
    }

    /// Calls `body` with blocks of rows that together are all, and with `shared`.
    fn for_blocks(&self, pool: &Pool, body: impl Fn(std::ops::Range<usize>, SharedMut<'_>) + Sync, shared: &mut [f32]) {
        let block = GRAIN.div_ceil(self.columns);
        let shared = SharedMut::new(shared);
        pool.run(self.rows.div_ceil(block), |task, _| {
            body(task * block..((task + 1) * block).min(self.rows), shared);
        });
    }
}

/// factor = a · identity + b · gram + c · factor.
fn polynomial(pool: &Pool, gram: &[f32], columns: usize, factor: &mut [f32]) {
    let [a, b, c] = COEFFICIENTS.map(|coefficient| coefficient as f32);
    for_ranges(pool, factor, |range, factor| {
        for ((at, gram), factor) in range.clone().zip(&gram[range]).zip(factor) {
            let identity = if at % (columns + 1) == 0 { a } else { 0.0 };
            *factor = identity + b * gram + c * *factor;
        }
    });
}
