//! The implicit im2col matrix: the pixel of the source that each tap of each target pixel reads.

use super::ConvShape;
use crate::isa::Simd;

/// Most rows of a block; [`positions`] fills a table of this size on the stack.
pub(super) const MAX_ROWS: usize = 192;

/// Most runs of floats per row for the fast path of [`Im2col::fill`]: a 7×7 window of separate pixels has this many.
const MAX_RUNS: usize = 49;

/// An implicit matrix with one row for every pixel of a grid and one column for every (tap row, tap column, channel).
///
/// Grid pixel (i, j) reads source pixel `(i, j) · source_step + (rows[a], columns[b])`, zero outside the source, and
/// belongs to target pixel `target_origin + (i, j) · target_step`. The forward pass has `target_step` 1; the
/// backward-data pass has `source_step` 1 and one im2col for each phase of the stride.
#[derive(Clone, Debug)]
pub(super) struct Im2col {
    /// Grid height and width.
    pub(super) grid: [usize; 2],
    /// Source height and width.
    pub(super) source: [usize; 2],
    /// Channels of a source pixel, all groups.
    pub(super) source_channels: usize,
    /// Channels of one group in the source.
    pub(super) channels: usize,
    pub(super) source_step: [usize; 2],
    /// Offsets of the tap rows, ascending.
    pub(super) rows: Vec<isize>,
    /// Offsets of the tap columns, ascending.
    pub(super) columns: Vec<isize>,
    /// The kernel tap (row · width + column) of each (rows, columns) pair.
    pub(super) taps: Vec<usize>,
    /// Target height and width.
    pub(super) target: [usize; 2],
    /// Channels of a target pixel, all groups.
    pub(super) target_channels: usize,
    /// Channels of one group in the target.
    pub(super) outputs: usize,
    pub(super) target_origin: [usize; 2],
    pub(super) target_step: [usize; 2],
    pub(super) groups: usize,
}

/// A grid pixel.
#[derive(Clone, Copy, Default)]
pub(super) struct Position {
    pub(super) image: u32,
    pub(super) i: u32,
    pub(super) j: u32,
}

impl Im2col {
    /// The same matrix in lanes of `group` elements; channels that a lane lacks are padding between pixels.
    pub(super) fn in_lanes(self, group: usize) -> Self {
        if group == 1 {
            return self;
        }
        assert_eq!(self.groups, 1, "lanes of several elements are of dense convolutions");
        let lanes = self.channels.div_ceil(group);
        Self { source_channels: lanes, channels: lanes, ..self }
    }

    /// The im2col of the forward pass: x to y.
    pub(super) fn forward(shape: &ConvShape) -> Self {
        let taps = |axis: usize| -> Vec<isize> {
            (0..shape.kernel[axis])
                .map(|tap| (tap * shape.dilation[axis]) as isize - shape.padding[axis] as isize)
                .collect()
        };
        Self {
            grid: shape.output(),
            source: shape.input,
            source_channels: shape.in_channels,
            channels: shape.in_channels / shape.groups,
            source_step: shape.stride,
            rows: taps(0),
            columns: taps(1),
            taps: (0..shape.kernel[0] * shape.kernel[1]).collect(),
            target: shape.output(),
            target_channels: shape.out_channels,
            outputs: shape.out_channels / shape.groups,
            target_origin: [0; 2],
            target_step: [1; 2],
            groups: shape.groups,
        }
    }

    /// The im2cols of the backward-data pass, dy to dx, one for each phase: the input pixels whose coordinates have the
    /// same remainders by the stride, and so see the same taps.
    pub(super) fn backward(shape: &ConvShape) -> Vec<Self> {
        let mut phases = Vec::new();
        for row in 0..shape.stride[0].min(shape.input[0]) {
            for column in 0..shape.stride[1].min(shape.input[1]) {
                let (rows, columns) = (phase_taps(shape, 0, row), phase_taps(shape, 1, column));
                let taps = rows.iter().flat_map(|(_, r)| columns.iter().map(move |(_, c)| r * shape.kernel[1] + c));
                phases.push(Self {
                    grid: [
                        (shape.input[0] - row).div_ceil(shape.stride[0]),
                        (shape.input[1] - column).div_ceil(shape.stride[1]),
                    ],
                    source: shape.output(),
                    source_channels: shape.out_channels,
                    channels: shape.out_channels / shape.groups,
                    source_step: [1; 2],
                    taps: taps.collect(),
                    rows: rows.iter().map(|&(offset, _)| offset).collect(),
                    columns: columns.iter().map(|&(offset, _)| offset).collect(),
                    target: shape.input,
                    target_channels: shape.in_channels,
                    outputs: shape.in_channels / shape.groups,
                    target_origin: [row, column],
                    target_step: shape.stride,
                    groups: shape.groups,
                });
            }
        }
        phases
    }

    /// Columns of the matrix: taps × channels of one group.
    pub(super) fn depth(&self) -> usize {
        self.taps.len() * self.channels
    }

    /// Rows of the matrix for one image.
    pub(super) fn rows_per_image(&self) -> usize {
        self.grid[0] * self.grid[1]
    }

    /// Whether the rows are already contiguous in the source, so that no panel is needed.
    pub(super) fn is_direct(&self) -> bool {
        self.rows == [0] && self.columns == [0] && self.source_step == [1; 2] && self.grid == self.source
    }

    /// The pixel index within the target tensor of a grid pixel.
    #[inline(always)]
    pub(super) fn target_pixel(&self, at: Position) -> usize {
        let row = self.target_origin[0] + at.i as usize * self.target_step[0];
        let column = self.target_origin[1] + at.j as usize * self.target_step[1];
        (at.image as usize * self.target[0] + row) * self.target[1] + column
    }

    /// The grid pixels of matrix rows `first..`, as many as `table` holds.
    #[inline(always)]
    pub(super) fn positions(&self, first: usize, table: &mut [Position]) {
        let [height, width] = self.grid;
        let (image, rest) = (first / (height * width), first % (height * width));
        let mut at = Position { image: image as u32, i: (rest / width) as u32, j: (rest % width) as u32 };
        for entry in table {
            *entry = at;
            at.j += 1;
            if at.j as usize == width {
                at = Position { image: at.image, i: at.i + 1, j: 0 };
                if at.i as usize == height {
                    at = Position { image: at.image + 1, i: 0, j: 0 };
                }
            }
        }
    }

    /// As [`Im2col::positions`] for matrix rows in another order, of `images` images: the first row of all, then the second.
    #[inline(always)]
    pub(super) fn positions_row_by_row(&self, images: usize, first: usize, table: &mut [Position]) {
        let [_, width] = self.grid;
        let (i, rest) = (first / (images * width), first % (images * width));
        let mut at = Position { image: (rest / width) as u32, i: i as u32, j: (rest % width) as u32 };
        for entry in table {
            *entry = at;
            at.j += 1;
            if at.j as usize == width {
                at = Position { image: at.image + 1, i: at.i, j: 0 };
                if at.image as usize == images {
                    at = Position { image: 0, i: at.i + 1, j: 0 };
                }
            }
        }
    }

    /// The columns of the matrix that can be other than padding for grid pixels of rows `first` to `last`: those of the tap rows that
    /// one of them has inside the source.
    #[inline(always)]
    pub(super) fn columns_inside(&self, first: u32, last: u32) -> std::ops::Range<usize> {
        let at = |i: u32, tap: isize| (i as usize * self.source_step[0]) as isize + tap;
        let above = self.rows.iter().take_while(|&&tap| at(last, tap) < 0).count();
        let below = self.rows.iter().rev().take_while(|&&tap| at(first, tap) >= self.source[0] as isize).count();
        let row = self.columns.len() * self.channels;
        // A window that is padding alone has all its columns.
        if above + below >= self.rows.len() { 0..self.depth() } else { above * row..(self.rows.len() - below) * row }
    }

    /// Whether neighbouring tap columns read neighbouring pixels with all their channels, so that a tap row is one
    /// run of floats.
    fn columns_touch(&self) -> bool {
        self.channels == self.source_channels && self.columns.windows(2).all(|pair| pair[1] == pair[0] + 1)
    }

    /// Writes columns `depth` of the matrix rows at `positions` into `panel`, `stride` floats from row to row, as `gather` does.
    ///
    /// # Safety
    /// `source` is a tensor of this im2col's source with every image named in `positions`, `group` is below the
    /// number of groups, `depth` lies within [`Im2col::depth`], and `positions.len() * stride` floats can be
    /// written at `panel`, with `stride` at least the length of `depth` as `gather` writes it.
    #[inline(always)]
    pub(super) unsafe fn fill<S: Simd, G: Gather<S>>(
        &self,
        s: S,
        gather: G,
        source: *const f32,
        group: usize,
        positions: &[Position],
        depth: std::ops::Range<usize>,
        panel: *mut f32,
        stride: usize,
    ) {
        if depth.is_empty() {
            return;
        }
        let run_columns = if self.columns_touch() { self.columns.len() } else { 1 };
        let run = run_columns * self.channels;
        let runs_per_row = self.columns.len() / run_columns;
        let runs = depth.start / run..depth.end.div_ceil(run);
        let [height, width] = self.source;
        // Where the runs of a pixel begin, counted from the pixel; for pixels with all their taps inside the image.
        let mut table = [0; MAX_RUNS];
        let whole_runs = depth.start.is_multiple_of(run) && depth.end.is_multiple_of(run) && runs.len() <= MAX_RUNS;
        let table = &mut table[..if whole_runs { runs.len() } else { 0 }];
        for (number, entry) in runs.clone().zip(table.iter_mut()) {
            let (tap_row, tap_column) = (number / runs_per_row, number % runs_per_row * run_columns);
            let pixel = self.rows[tap_row] * width as isize + self.columns[tap_column];
            *entry = pixel * self.source_channels as isize;
        }
        for (index, at) in positions.iter().enumerate() {
            let row_top = at.i as usize * self.source_step[0];
            let row_left = at.j as usize * self.source_step[1];
            let image = at.image as usize * height * width;
            let offset = |row: isize, column: isize| {
                let pixel = (image + row_top * width + row_left) as isize + row * width as isize + column;
                pixel * self.source_channels as isize + (group * self.channels) as isize
            };
            let to = panel.wrapping_add(index * stride);
            if whole_runs && self.reads_inside(0, row_top) && self.reads_inside(1, row_left) {
                let pixel = source.wrapping_offset(offset(0, 0));
                for (number, &run_offset) in table.iter().enumerate() {
                    // SAFETY: every tap of this pixel lies inside the image, and the run within the row of the panel.
                    unsafe { gather.copy(s, pixel.wrapping_offset(run_offset), to.add(G::WIDTH * number * run), run) };
                }
                continue;
            }
            for number in runs.clone() {
                let (tap_row, tap_column) = (number / runs_per_row, number % runs_per_row * run_columns);
                let y = row_top as isize + self.rows[tap_row];
                let x = row_left as isize + self.columns[tap_column];
                // The part of this run in `depth`, and of that the part inside the image.
                let start = depth.start.max(number * run) - number * run;
                let end = depth.end.min((number + 1) * run) - number * run;
                let inside = y >= 0 && (y as usize) < height;
                let left = (-x).max(0) as usize * self.channels;
                let right = (width as isize - x).clamp(0, run_columns as isize) as usize * self.channels;
                let (from, to_end) =
                    if inside { (left.clamp(start, end), right.clamp(start, end)) } else { (end, end) };
                let to_end = to_end.max(from);
                let base = offset(self.rows[tap_row], self.columns[tap_column]);
                // SAFETY: the target range is within the row of the panel; `from..to_end` covers only pixels inside
                // the image, whose floats the caller lets us read. `base` may lie outside and is not read at.
                unsafe {
                    let row = to.add(G::WIDTH * (number * run + start - depth.start));
                    gather.pad(s, row, from - start);
                    let inside = row.add(G::WIDTH * (from - start));
                    gather.copy(s, source.wrapping_offset(base + from as isize), inside, to_end - from);
                    gather.pad(s, row.add(G::WIDTH * (to_end - start)), end - to_end);
                }
            }
        }
    }

    /// Whether all taps along `axis` of a pixel at `start` in the source lie inside it.
    #[inline(always)]
    fn reads_inside(&self, axis: usize, start: usize) -> bool {
        let taps = if axis == 0 { &self.rows } else { &self.columns };
        // Offsets ascend.
        let (first, last) = (taps[0], taps[taps.len() - 1]);
        start as isize + first >= 0 && start as isize + last < self.source[axis] as isize
    }
}

/// The taps of one axis that pixels with remainder `phase` see, as (offset in dy, tap), by ascending offset.
fn phase_taps(shape: &ConvShape, axis: usize, phase: usize) -> Vec<(isize, usize)> {
    let stride = shape.stride[axis] as isize;
    (0..shape.kernel[axis])
        .rev()
        .filter_map(|tap| {
            let reach = (phase + shape.padding[axis]) as isize - (tap * shape.dilation[axis]) as isize;
            (reach.rem_euclid(stride) == 0).then(|| (reach.div_euclid(stride), tap))
        })
        .collect()
}

/// How elements of a source become those of a panel. Both are in lanes of 32 bits: a float, or four bytes.
pub(super) trait Gather<S: Simd>: Copy {
    /// Lanes of the panel for each of the source.
    const WIDTH: usize;
    /// Writes `n` lanes of the source.
    ///
    /// # Safety
    /// `n` lanes can be read at `from` and `WIDTH · n` written at `to`, and the two do not overlap.
    unsafe fn copy(self, s: S, from: *const f32, to: *mut f32, n: usize);
    /// Writes what stands for `n` lanes outside the source.
    ///
    /// # Safety
    /// `WIDTH · n` lanes can be written at `to`.
    unsafe fn pad(self, s: S, to: *mut f32, n: usize);
}

/// Lanes as they are, floats or bytes, and these bits outside the source.
#[derive(Clone, Copy)]
pub(super) struct CopyLanes(pub(super) u32);

impl CopyLanes {
    /// Floats, and zeros outside the source.
    pub(super) const FLOATS: Self = Self(0);

    /// Bytes, and this number outside the source.
    pub(super) fn bytes(pad: u8) -> Self {
        Self(u32::from_ne_bytes([pad; 4]))
    }
}

impl<S: Simd> Gather<S> for CopyLanes {
    const WIDTH: usize = 1;

    #[inline(always)]
    unsafe fn copy(self, s: S, from: *const f32, to: *mut f32, n: usize) {
        // SAFETY: the caller's promise.
        unsafe { copy(s, from, to, n) }
    }

    #[inline(always)]
    unsafe fn pad(self, s: S, to: *mut f32, n: usize) {
        // SAFETY: the caller's promise.
        unsafe { fill_with(s, s.splat(f32::from_bits(self.0)), to, n) }
    }
}

/// Bytes as 16-bit integers, and a number of their own outside the source.
#[derive(Clone, Copy)]
pub(super) struct WidenBytes(pub(super) u8);

impl<S: Simd> Gather<S> for WidenBytes {
    const WIDTH: usize = 2;

    #[inline(always)]
    unsafe fn copy(self, s: S, from: *const f32, to: *mut f32, n: usize) {
        // SAFETY: the caller's promise: a lane is four bytes.
        unsafe { s.widen_bytes(from.cast(), to.cast(), 4 * n) }
    }

    #[inline(always)]
    unsafe fn pad(self, s: S, to: *mut f32, n: usize) {
        let pair = u32::from(self.0) << 16 | u32::from(self.0);
        // SAFETY: the caller's promise.
        unsafe { fill_with(s, s.splat(f32::from_bits(pair)), to, 2 * n) }
    }
}

/// # Safety
/// `n` floats can be written at `to`.
#[inline(always)]
unsafe fn fill_with<S: Simd>(s: S, x: S::Reg, to: *mut f32, n: usize) {
    let mut i = 0;
    while i < n {
        // SAFETY: i < n, and only n − i floats are touched.
        unsafe { s.store_up_to(to.add(i), n - i, x) };
        i += S::LANES;
    }
}

/// # Safety
/// `n` floats can be read at `from` and written at `to`, and the two do not overlap.
#[inline(always)]
unsafe fn copy<S: Simd>(s: S, from: *const f32, to: *mut f32, n: usize) {
    let mut i = 0;
    while i < n {
        // SAFETY: i < n, and only n − i floats are touched.
        unsafe { s.store_up_to(to.add(i), n - i, s.load_up_to(from.add(i), n - i)) };
        i += S::LANES;
    }
}
