//! Ops that treat every element, or every channel of a pixel, alike.

use crate::activation::{Gelu, GeluSlope, Sigmoid, SigmoidSlope};
use crate::isa::{Element, ElementKernel, ElementProduct, Function, Isa, Simd};
use crate::raw::SharedMut;
use residual_threads::Pool;
use std::ops::Range;

/// Elements of one task.
const GRAIN: usize = 16 << 10;

/// Calls `body` with ranges of `y` that together cover it.
pub(crate) fn for_ranges<T: Copy + Send>(pool: &Pool, y: &mut [T], body: impl Fn(Range<usize>, &mut [T]) + Sync) {
    let len = y.len();
    let y = SharedMut::new(y);
    pool.run(len.div_ceil(GRAIN), |task, _| {
        let range = task * GRAIN..((task + 1) * GRAIN).min(len);
        // SAFETY: every task has its own range.
        let part = unsafe { y.part(range.clone()) };
        body(range, part);
    });
}

/// A function of one or two vectors, applied along slices.
pub(crate) trait Map: Copy + Sync {
    fn map<S: Simd>(self, s: S, x: S::Reg, y: S::Reg) -> S::Reg;
}

/// y = map(x, y), element by element.
struct Apply<'a, M, E> {
    map: M,
    x: &'a [E],
    y: &'a mut [E],
}

impl<M: Map, E: Element> ElementKernel<E> for Apply<'_, M, E> {
    type Output = ();

    #[inline(always)]
    fn run<P: ElementProduct<Element = E>>(self, product: P) {
        let mut i = 0;
        while i < self.y.len() {
            let n = self.y.len() - i;
            // SAFETY: `n` elements are left in both slices, whose lengths `apply` has compared.
            unsafe {
                let to = self.y.as_mut_ptr().add(i);
                let (x, y) = (product.load_up_to(self.x.as_ptr().add(i), n), product.load_up_to(to, n));
                product.store_up_to(to, n, self.map.map(product.simd(), x, y));
            }
            i += P::Simd::LANES;
        }
    }
}

/// y = map(x, y), in parts.
pub(crate) fn apply<M: Map, E: Element>(isa: Isa, pool: &Pool, map: M, x: &[E], y: &mut [E]) {
    assert_eq!(x.len(), y.len());
    for_ranges(pool, y, |range, y| E::run(isa, Apply { map, x: &x[range], y }));
}

/// y = function(x, y), element by element.
pub(crate) fn apply_function<E: Element>(isa: Isa, pool: &Pool, function: Function, x: &[E], y: &mut [E]) {
    match function {
        Function::Relu => apply(isa, pool, Relu, x, y),
        Function::Mask => apply(isa, pool, Mask, x, y),
        Function::Accumulate => apply(isa, pool, Accumulate, x, y),
        Function::AccumulateRelu => apply(isa, pool, AccumulateRelu, x, y),
        Function::Gelu => apply(isa, pool, Gelu, x, y),
        Function::GeluSlope => apply(isa, pool, GeluSlope, x, y),
        Function::Sigmoid => apply(isa, pool, Sigmoid, x, y),
        Function::SigmoidSlope => apply(isa, pool, SigmoidSlope, x, y),
    }
}

#[derive(Clone, Copy)]
struct Relu;
impl Map for Relu {
    #[inline(always)]
    fn map<S: Simd>(self, s: S, x: S::Reg, _: S::Reg) -> S::Reg {
        s.max(x, s.zero())
    }
}

/// y = max(x, 0).
///
/// # Panics
/// If the lengths differ.
pub fn relu<E: Element>(isa: Isa, pool: &Pool, x: &[E], y: &mut [E]) {
    E::apply(isa, pool, Function::Relu, x, y);
}

#[derive(Clone, Copy)]
struct Mask;
impl Map for Mask {
    #[inline(always)]
    fn map<S: Simd>(self, s: S, x: S::Reg, y: S::Reg) -> S::Reg {
        s.where_positive(x, y)
    }
}

/// dy = 0 where `y`, the result of a ReLU, is not positive: the gradient of ReLU, in place.
///
/// # Panics
/// If the lengths differ.
pub fn relu_backward<E: Element>(isa: Isa, pool: &Pool, y: &[E], dy: &mut [E]) {
    E::apply(isa, pool, Function::Mask, y, dy);
}

#[derive(Clone, Copy)]
struct Accumulate;
impl Map for Accumulate {
    #[inline(always)]
    fn map<S: Simd>(self, s: S, x: S::Reg, y: S::Reg) -> S::Reg {
        s.add(y, x)
    }
}

/// y += x.
///
/// # Panics
/// If the lengths differ.
pub fn accumulate<E: Element>(isa: Isa, pool: &Pool, x: &[E], y: &mut [E]) {
    E::apply(isa, pool, Function::Accumulate, x, y);
}

#[derive(Clone, Copy)]
struct AccumulateRelu;
impl Map for AccumulateRelu {
    #[inline(always)]
    fn map<S: Simd>(self, s: S, x: S::Reg, y: S::Reg) -> S::Reg {
        s.max(s.add(y, x), s.zero())
    }
}

/// y = max(y + x, 0).
///
/// # Panics
/// If the lengths differ.
pub fn accumulate_relu<E: Element>(isa: Isa, pool: &Pool, x: &[E], y: &mut [E]) {
    E::apply(isa, pool, Function::AccumulateRelu, x, y);
}

/// y = x, or y += x if `accumulate`.
///
/// # Panics
/// If the lengths differ.
pub fn copy<E: Element>(isa: Isa, pool: &Pool, x: &[E], accumulate: bool, y: &mut [E]) {
    if accumulate {
        self::accumulate(isa, pool, x, y);
    } else {
        assert_eq!(x.len(), y.len());
        for_ranges(pool, y, |range, y| y.copy_from_slice(&x[range]));
    }
}

/// y = x / (1 − `p`) for elements that are kept, which a hash of `seed` and the index decides with probability 1 − `p`,
/// else 0; added to `y` if `accumulate`. With the same seed it is its own gradient.
///
/// # Panics
/// If the lengths differ.
pub fn dropout(pool: &Pool, x: &[f32], p: f32, seed: u64, accumulate: bool, y: &mut [f32]) {
    assert_eq!(x.len(), y.len());
    let threshold = threshold(p);
    let scale = 1.0 / (1.0 - p);
    for_ranges(pool, y, |range, y| {
        for ((index, x), y) in range.clone().zip(&x[range]).zip(y) {
            let value = if is_kept(seed, index, threshold) { x * scale } else { 0.0 };
            *y = if accumulate { *y + value } else { value };
        }
    });
}

/// As [`dropout`], but whole images, of `image` elements each, are kept or dropped (stochastic depth).
///
/// # Panics
/// If the lengths differ, or are not whole images.
pub fn drop_path(pool: &Pool, x: &[f32], image: usize, p: f32, seed: u64, accumulate: bool, y: &mut [f32]) {
    assert!(x.len() == y.len() && x.len().is_multiple_of(image));
    let threshold = threshold(p);
    let scale = 1.0 / (1.0 - p);
    let parts = image.div_ceil(GRAIN);
    let y = SharedMut::new(y);
    pool.run(x.len() / image * parts, |task, _| {
        let (index, part) = (task / parts, task % parts);
        let range = index * image + part * GRAIN..index * image + ((part + 1) * GRAIN).min(image);
        // SAFETY: every task has its own part of an image.
        let y = unsafe { y.part(range.clone()) };
        match (is_kept(seed, index, threshold), accumulate) {
            (true, false) => y.iter_mut().zip(&x[range]).for_each(|(y, x)| *y = x * scale),
            (true, true) => y.iter_mut().zip(&x[range]).for_each(|(y, x)| *y += x * scale),
            (false, false) => y.fill(0.0),
            (false, true) => {}
        }
    });
}

/// The smallest upper half of a hash for which the element is kept.
fn threshold(p: f32) -> u64 {
    (f64::from(p) * 4_294_967_296.0) as u64
}

fn is_kept(seed: u64, index: usize, threshold: u64) -> bool {
    (mix(seed ^ mix(index as u64)) >> 32) >= threshold
}

/// The finaliser of SplitMix64.
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ value >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ value >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ value >> 31
}

/// Channels of one tensor: `count` of them from `offset` on, of `channels` in all.
#[derive(Clone, Copy, Debug)]
pub struct ChannelSlice {
    /// Channels of a pixel.
    pub channels: usize,
    /// The first channel of the slice.
    pub offset: usize,
    /// Channels of the slice.
    pub count: usize,
}

impl ChannelSlice {
    fn of<'a, T>(&self, tensor: &'a [T], pixel: usize) -> &'a [T] {
        &tensor[pixel * self.channels + self.offset..][..self.count]
    }
}

/// The pixels that a subsampling keeps: every `stride`-th of each row and column.
#[derive(Clone, Copy, Debug)]
pub struct Subsample {
    /// Height and width of the large image.
    pub size: [usize; 2],
    /// Step between kept pixels.
    pub stride: usize,
}

impl Subsample {
    /// All pixels of images of `size`.
    pub fn all(size: [usize; 2]) -> Self {
        Self { size, stride: 1 }
    }

    fn kept(&self) -> [usize; 2] {
        self.size.map(|side| side.div_ceil(self.stride))
    }

    /// The index in the large tensor of kept pixel `index`.
    fn large(&self, index: usize) -> usize {
        let [height, width] = self.kept();
        let (image, row, column) = (index / (height * width), index / width % height, index % width);
        (image * self.size[0] + row * self.stride) * self.size[1] + column * self.stride
    }
}

/// Copies channels `from` of the kept pixels of `x` to channels `to` of the (smaller) `y`; other channels of `y` are not
/// changed. Concatenation, and the shortcut "A" of the ResNet paper; of floats or of bytes.
///
/// # Panics
/// If the slices do not fit.
pub fn copy_channels<T: Copy + Send + Sync>(
    pool: &Pool,
    pixels: Subsample,
    x: &[T],
    from: ChannelSlice,
    y: &mut [T],
    to: ChannelSlice,
) {
    assert_eq!(from.count, to.count);
    for_pixels(pool, to.channels, y, |range, y| {
        for (pixel, y) in range.zip(y.chunks_exact_mut(to.channels)) {
            y[to.offset..][..to.count].copy_from_slice(from.of(x, pixels.large(pixel)));
        }
    });
}

/// The gradient of [`copy_channels`]: adds channels `to` of `dy` to channels `from` of the kept pixels of `dx`.
///
/// # Panics
/// If the slices do not fit.
pub fn copy_channels_backward<E: Element>(
    pool: &Pool,
    pixels: Subsample,
    dy: &[E],
    to: ChannelSlice,
    dx: &mut [E],
    from: ChannelSlice,
) {
    E::copy_channels_backward(pool, pixels, dy, to, dx, from);
}

pub(crate) fn copy_channels_backward_of<E: Element>(
    pool: &Pool,
    pixels: Subsample,
    dy: &[E],
    to: ChannelSlice,
    dx: &mut [E],
    from: ChannelSlice,
) {
    assert_eq!(from.count, to.count);
    let image = pixels.size[0] * pixels.size[1] * from.channels;
    let kept = pixels.kept().iter().product::<usize>();
    let images = dx.len() / image;
    let dx = SharedMut::new(dx);
    pool.run(images, |task, _| {
        // SAFETY: every task has its own image.
        let dx = unsafe { dx.part(task * image..(task + 1) * image) };
        for pixel in task * kept..(task + 1) * kept {
            let at = (pixels.large(pixel) - task * pixels.size[0] * pixels.size[1]) * from.channels + from.offset;
            let (dx, dy) = (&mut dx[at..][..from.count], to.of(dy, pixel));
            dx.iter_mut().zip(dy).for_each(|(dx, &dy)| *dx = E::rounded((*dx).into() + dy.into()));
        }
    });
}

/// Sets a tensor to zero.
pub fn zero(pool: &Pool, y: &mut [f32]) {
    fill(pool, y, 0.0);
}

/// Sets all elements, floats or bytes.
pub fn fill<T: Copy + Send + Sync>(pool: &Pool, y: &mut [T], value: T) {
    for_ranges(pool, y, |_, y| y.fill(value));
}

/// Calls `body` with ranges of the pixels of `y`, `channels` elements each, that together cover it.
///
/// # Panics
/// If `y` has not whole pixels.
pub(crate) fn for_pixels<T: Copy + Send>(
    pool: &Pool,
    channels: usize,
    y: &mut [T],
    body: impl Fn(Range<usize>, &mut [T]) + Sync,
) {
    assert!(y.len().is_multiple_of(channels), "pixels of {channels} in {}", y.len());
    let step = GRAIN.div_ceil(channels);
    let pixels = y.len() / channels;
    let y = SharedMut::new(y);
    pool.run(pixels.div_ceil(step), |task, _| {
        let range = task * step..((task + 1) * step).min(pixels);
        // SAFETY: every task has its own pixels.
        let part = unsafe { y.part(range.start * channels..range.end * channels) };
        body(range, part);
    });
}
