//! Types of elements in memory, f32 and bf16: their vectors, their products, and the kernels that are compiled for each.

use super::{Floats, Isa, Kernel, MAX_LANES, Product, Simd};
use crate::batch_norm::{self, Mask};
use crate::conv::{Elements, Epilogue, Run, WeightsRun};
use crate::elementwise::{ChannelSlice, Subsample, apply_function, copy_channels_backward_of};
use crate::pool::{PoolShape, global_avg_pool_backward_of, global_avg_pool_of, max_pool_of, max_pool_with_index_of};
use crate::rows::column_sums_of;
use half::bf16;
use residual_threads::Pool;

/// A type of values in memory that convolutions read and write: f32 or bf16. Sums are floats.
pub trait Element: Sealed + Copy + Default + Into<f32> + Send + Sync + std::fmt::Debug + 'static {}

impl Element for f32 {}
impl Element for bf16 {}

/// The functions of one or two elements that have kernels.
#[derive(Clone, Copy, Debug)]
pub enum Function {
    /// max(x, 0)
    Relu,
    /// y where x is positive, else 0
    Mask,
    /// y + x
    Accumulate,
    /// max(y + x, 0)
    AccumulateRelu,
    /// [`crate::activation::gelu`]
    Gelu,
    /// [`crate::activation::gelu_backward`]
    GeluSlope,
    /// [`crate::activation::sigmoid`]
    Sigmoid,
    /// [`crate::activation::sigmoid_backward`]
    SigmoidSlope,
}

/// What [`Element`] has for this crate alone.
pub trait Sealed: Sized {
    /// Elements of a lane of 32 bits.
    const GROUP: usize;
    /// This type.
    const ELEMENTS: Elements;
    /// The nearest value, of two the even one.
    fn rounded(x: f32) -> Self;
    /// Values that are known to be floats.
    fn floats<'a>(
        x: &'a [Self],
        epilogue: Epilogue<'a, Self>,
        y: &'a mut [Self],
    ) -> (&'a [f32], Epilogue<'a>, &'a mut [f32]);
    /// Values that are known to be floats.
    fn only_floats(x: &[Self]) -> &[f32];
    /// Runs `kernel` compiled for `isa`.
    fn run<K: ElementKernel<Self>>(isa: Isa, kernel: K) -> K::Output;

    // What is generic is compiled with the crate that calls it, and without optimisation if that crate is: so the kernels that
    // others call are methods that are not.

    /// One run of a pass of a convolution.
    fn convolve(run: Run<'_, Self>);
    /// [`crate::pool::max_pool`].
    fn max_pool(isa: Isa, pool: &Pool, shape: &PoolShape, x: &[Self], y: &mut [Self]);
    /// [`crate::pool::global_avg_pool`].
    fn global_avg_pool(pool: &Pool, pixels: usize, channels: usize, x: &[Self], y: &mut [f32]);
    /// [`crate::pool::max_pool_with_index`].
    fn max_pool_with_index(isa: Isa, pool: &Pool, shape: &PoolShape, x: &[Self], y: &mut [Self], index: &mut [u8]);
    /// [`crate::pool::global_avg_pool_backward`].
    fn global_avg_pool_backward(
        pool: &Pool,
        pixels: usize,
        channels: usize,
        dy: &[f32],
        accumulate: bool,
        dx: &mut [Self],
    );
    /// The gradient of a convolution's weights.
    fn convolve_weights(run: WeightsRun<'_, Self>);
    /// A function of each element.
    fn apply(isa: Isa, pool: &Pool, function: Function, x: &[Self], y: &mut [Self]);
    /// [`crate::elementwise::copy_channels_backward`].
    fn copy_channels_backward(
        pool: &Pool,
        pixels: Subsample,
        dy: &[Self],
        to: ChannelSlice,
        dx: &mut [Self],
        from: ChannelSlice,
    );
    /// [`crate::rows::column_sums`].
    fn column_sums(isa: Isa, pool: &Pool, x: &[Self], sums: &mut [f32], workspace: &mut [f32]);
    /// [`crate::batch_norm::statistics`].
    fn statistics(isa: Isa, pool: &Pool, x: &[Self], mean: &mut [f32], variance: &mut [f32], workspace: &mut [f32]);
    /// [`crate::batch_norm::affine`], with scale and shift.
    fn affine(
        isa: Isa,
        pool: &Pool,
        x: &[Self],
        factors: [&[f32]; 2],
        add: Option<&[Self]>,
        relu: bool,
        y: &mut [Self],
    );
    /// [`crate::batch_norm::backward_sums`].
    fn backward_sums(
        isa: Isa,
        pool: &Pool,
        dy: &mut [Self],
        mask: Mask<'_, Self>,
        x: &[Self],
        mean: &[f32],
        sums: [&mut [f32]; 2],
        workspace: &mut [f32],
    );
    /// [`crate::batch_norm::backward_apply`].
    fn backward_apply(
        isa: Isa,
        pool: &Pool,
        dy: Option<&[Self]>,
        x: &[Self],
        coefficients: [&[f32]; 3],
        mask: Option<[&[f32]; 2]>,
        accumulate: bool,
        dx: &mut [Self],
    );
}

/// The kernels of a type of elements.
macro_rules! kernels {
    ($element:ty) => {
        #[inline(never)]
        fn convolve(run: Run<'_, $element>) {
            run.run();
        }

        #[inline(never)]
        fn max_pool(isa: Isa, pool: &Pool, shape: &PoolShape, x: &[$element], y: &mut [$element]) {
            max_pool_of(isa, pool, shape, x, y);
        }

        #[inline(never)]
        fn global_avg_pool(pool: &Pool, pixels: usize, channels: usize, x: &[$element], y: &mut [f32]) {
            global_avg_pool_of(pool, pixels, channels, x, y);
        }

        #[inline(never)]
        fn max_pool_with_index(
            isa: Isa,
            pool: &Pool,
            shape: &PoolShape,
            x: &[$element],
            y: &mut [$element],
            index: &mut [u8],
        ) {
            max_pool_with_index_of(isa, pool, shape, x, y, index);
        }

        #[inline(never)]
        fn global_avg_pool_backward(
            pool: &Pool,
            pixels: usize,
            channels: usize,
            dy: &[f32],
            accumulate: bool,
            dx: &mut [$element],
        ) {
            global_avg_pool_backward_of(pool, pixels, channels, dy, accumulate, dx);
        }

        #[inline(never)]
        fn convolve_weights(run: WeightsRun<'_, $element>) {
            run.run();
        }

        #[inline(never)]
        fn apply(isa: Isa, pool: &Pool, function: Function, x: &[$element], y: &mut [$element]) {
            apply_function(isa, pool, function, x, y);
        }

        #[inline(never)]
        fn copy_channels_backward(
            pool: &Pool,
            pixels: Subsample,
            dy: &[$element],
            to: ChannelSlice,
            dx: &mut [$element],
            from: ChannelSlice,
        ) {
            copy_channels_backward_of(pool, pixels, dy, to, dx, from);
        }

        #[inline(never)]
        fn column_sums(isa: Isa, pool: &Pool, x: &[$element], sums: &mut [f32], workspace: &mut [f32]) {
            column_sums_of(isa, pool, x, sums, workspace);
        }

        #[inline(never)]
        fn statistics(
            isa: Isa,
            pool: &Pool,
            x: &[$element],
            mean: &mut [f32],
            variance: &mut [f32],
            workspace: &mut [f32],
        ) {
            batch_norm::statistics_of(isa, pool, x, mean, variance, workspace);
        }

        #[inline(never)]
        fn affine(
            isa: Isa,
            pool: &Pool,
            x: &[$element],
            factors: [&[f32]; 2],
            add: Option<&[$element]>,
            relu: bool,
            y: &mut [$element],
        ) {
            batch_norm::affine_of(isa, pool, x, factors, add, relu, y);
        }

        #[inline(never)]
        fn backward_sums(
            isa: Isa,
            pool: &Pool,
            dy: &mut [$element],
            mask: Mask<'_, $element>,
            x: &[$element],
            mean: &[f32],
            sums: [&mut [f32]; 2],
            workspace: &mut [f32],
        ) {
            batch_norm::backward_sums_of(isa, pool, dy, mask, x, mean, sums, workspace);
        }

        #[inline(never)]
        fn backward_apply(
            isa: Isa,
            pool: &Pool,
            dy: Option<&[$element]>,
            x: &[$element],
            coefficients: [&[f32]; 3],
            mask: Option<[&[f32]; 2]>,
            accumulate: bool,
            dx: &mut [$element],
        ) {
            batch_norm::backward_apply_of(isa, pool, dy, x, coefficients, mask, accumulate, dx);
        }
    };
}

impl Sealed for f32 {
    const GROUP: usize = 1;
    const ELEMENTS: Elements = Elements::F32;

    #[inline(always)]
    fn rounded(x: f32) -> f32 {
        x
    }

    fn floats<'a>(x: &'a [f32], epilogue: Epilogue<'a>, y: &'a mut [f32]) -> (&'a [f32], Epilogue<'a>, &'a mut [f32]) {
        (x, epilogue, y)
    }

    fn only_floats(x: &[f32]) -> &[f32] {
        x
    }

    #[inline]
    fn run<K: ElementKernel<f32>>(isa: Isa, kernel: K) -> K::Output {
        isa.run(OnFloats(kernel))
    }

    kernels!(f32);
}

impl Sealed for bf16 {
    const GROUP: usize = 2;
    const ELEMENTS: Elements = Elements::Bf16;

    #[inline(always)]
    fn rounded(x: f32) -> bf16 {
        bf16::from_f32(x)
    }

    fn floats<'a>(_: &'a [bf16], _: Epilogue<'a, bf16>, _: &'a mut [bf16]) -> (&'a [f32], Epilogue<'a>, &'a mut [f32]) {
        unreachable!("convolutions of bf16 are dense")
    }

    fn only_floats(_: &[bf16]) -> &[f32] {
        unreachable!("convolutions of bf16 are dense")
    }

    #[inline]
    fn run<K: ElementKernel<bf16>>(isa: Isa, kernel: K) -> K::Output {
        isa.run_bf16(kernel)
    }

    kernels!(bf16);
}

/// The vectors of a product.
pub(crate) type Reg<P> = <<P as Product>::Simd as Simd>::Reg;

/// Products of lanes of [`Sealed::GROUP`] elements, and how vectors of elements are loaded as floats and stored.
pub trait ElementProduct: Product {
    /// The elements.
    type Element: Element;
    /// # Safety
    /// `min(n, LANES)` elements can be read at `p`.
    unsafe fn load_up_to(self, p: *const Self::Element, n: usize) -> Reg<Self>;
    /// Rounds to the nearest, halves to the even one.
    ///
    /// # Safety
    /// `min(n, LANES)` elements can be written at `p`.
    unsafe fn store_up_to(self, p: *mut Self::Element, n: usize, x: Reg<Self>);
    /// As [`Simd::store_non_temporal`], where elements are as large as lanes; else an ordinary store.
    ///
    /// # Safety
    /// `LANES` elements can be written at `p`, which is aligned to a vector, and are not read before `store_fence`.
    unsafe fn store_non_temporal(self, p: *mut Self::Element, x: Reg<Self>) {
        // SAFETY: the caller's promise.
        unsafe { self.store_up_to(p, Self::Simd::LANES, x) }
    }
    /// One vector of lanes with the elements of `GROUP` vectors of floats, in their order.
    fn group(self, vectors: [Reg<Self>; 2]) -> Reg<Self>;
    /// Lanes of `GROUP` numbers, each from another of as many vectors of floats, which are rounded.
    fn zip(self, vectors: [Reg<Self>; 2]) -> Reg<Self>;
    /// [`ElementProduct::zip`] of the elements at `GROUP` places.
    ///
    /// # Safety
    /// `min(n, LANES)` elements can be read at each.
    #[inline(always)]
    unsafe fn load_zipped(self, [first, second]: [*const Self::Element; 2], n: usize) -> Reg<Self> {
        // SAFETY: the caller's promise.
        unsafe {
            let first = self.load_up_to(first, n);
            let second = if Self::Element::GROUP == 1 { first } else { self.load_up_to(second, n) };
            self.zip([first, second])
        }
    }
}

/// As [`Kernel`], for values of a type.
pub trait ElementKernel<E> {
    /// The result.
    type Output;
    /// The work.
    fn run<P: ElementProduct<Element = E>>(self, product: P) -> Self::Output;
}

/// A kernel on floats.
struct OnFloats<K>(K);

impl<K: ElementKernel<f32>> Kernel for OnFloats<K> {
    type Output = K::Output;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> K::Output {
        self.0.run(Floats(s))
    }
}

impl<S: Simd> ElementProduct for Floats<S> {
    type Element = f32;

    #[inline(always)]
    unsafe fn load_up_to(self, p: *const f32, n: usize) -> S::Reg {
        // SAFETY: the caller's promise.
        unsafe { self.0.load_up_to(p, n) }
    }

    #[inline(always)]
    unsafe fn store_up_to(self, p: *mut f32, n: usize, x: S::Reg) {
        // SAFETY: the caller's promise.
        unsafe { self.0.store_up_to(p, n, x) }
    }

    #[inline(always)]
    unsafe fn store_non_temporal(self, p: *mut f32, x: S::Reg) {
        // SAFETY: the caller's promise.
        unsafe { self.0.store_non_temporal(p, x) }
    }

    #[inline(always)]
    fn group(self, [only, _]: [S::Reg; 2]) -> S::Reg {
        only
    }

    #[inline(always)]
    fn zip(self, [only, _]: [S::Reg; 2]) -> S::Reg {
        only
    }
}

/// Pairs of bf16, widened to floats for their products.
#[derive(Clone, Copy)]
pub(crate) struct Widened<S>(pub(super) S);

impl<S: Simd> Product for Widened<S> {
    type Simd = S;

    #[inline(always)]
    fn simd(self) -> S {
        self.0
    }

    #[inline(always)]
    fn multiply_add(self, a: S::Reg, b: S::Reg, acc: S::Reg) -> S::Reg {
        let s = self.0;
        let acc = s.mul_add(s.low_halves(a), s.low_halves(b), acc);
        s.mul_add(s.high_halves(a), s.high_halves(b), acc)
    }
}

impl<S: Simd> ElementProduct for Widened<S> {
    type Element = bf16;

    #[inline(always)]
    unsafe fn load_up_to(self, p: *const bf16, n: usize) -> S::Reg {
        // SAFETY: the caller's promise.
        unsafe { self.0.load_halves(p, n) }
    }

    #[inline(always)]
    unsafe fn store_up_to(self, p: *mut bf16, n: usize, x: S::Reg) {
        // SAFETY: the caller's promise.
        unsafe { self.0.store_halves(p, n, x) }
    }

    #[inline(always)]
    fn group(self, [first, second]: [S::Reg; 2]) -> S::Reg {
        let mut halves = [bf16::ZERO; 2 * MAX_LANES];
        // SAFETY: there is room for two of the widest vectors.
        unsafe {
            self.0.store_halves(halves.as_mut_ptr(), S::LANES, first);
            self.0.store_halves(halves.as_mut_ptr().add(S::LANES), S::LANES, second);
            self.0.load(halves.as_ptr().cast())
        }
    }

    #[inline(always)]
    fn zip(self, vectors: [S::Reg; 2]) -> S::Reg {
        let mut lanes = [bf16::ZERO; 2 * MAX_LANES];
        for (half, vector) in vectors.into_iter().enumerate() {
            let mut halves = [bf16::ZERO; MAX_LANES];
            // SAFETY: there is room for the widest vector.
            unsafe { self.0.store_halves(halves.as_mut_ptr(), S::LANES, vector) };
            lanes[half..].iter_mut().step_by(2).zip(halves).for_each(|(lane, half)| *lane = half);
        }
        // SAFETY: as above.
        unsafe { self.0.load(lanes.as_ptr().cast()) }
    }
}

/// A kernel on widened pairs.
pub(super) struct OnWidened<K>(pub(super) K);

impl<K: ElementKernel<bf16>> Kernel for OnWidened<K> {
    type Output = K::Output;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> K::Output {
        self.0.run(Widened(s))
    }
}
