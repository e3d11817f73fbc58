//! Instruction sets: detection, the token that proves it, and the vector operations kernels are written in.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod portable;

use crate::batch_norm::{self, Mask};
use crate::conv::{Elements, Epilogue, Run, WeightsRun};
use crate::elementwise::{ChannelSlice, Subsample, apply_function, copy_channels_backward_of};
use crate::pool::{PoolShape, global_avg_pool_backward_of, global_avg_pool_of, max_pool_of, max_pool_with_index_of};
use crate::rows::column_sums_of;
use half::bf16;
use residual_threads::Pool;

/// Proof that this machine has an instruction set. Only detection makes one, so holding it is reason enough to run
/// the set's instructions.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Isa(Kind);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

/// An instruction set that this machine does not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IsaError {
    /// There is no set of that name.
    #[error("instruction set: expected portable, avx2 or avx512, got \"{0}\"")]
    Unknown(String),
    /// This machine lacks it.
    #[error("instruction set: expected one that this machine has, got \"{0}\"")]
    Missing(String),
}

impl Isa {
    /// The widest set of this machine.
    pub fn detect() -> Self {
        *Self::available().last().expect("the portable set is always there")
    }

    /// Every set of this machine, narrowest first.
    pub fn available() -> Vec<Self> {
        #[allow(unused_mut, reason = "only some targets have more than the portable set")]
        let mut sets = vec![Isa(Kind::Portable)];
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                sets.push(Isa(Kind::Avx2));
                let avx512 = is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vl");
                if avx512 && is_x86_feature_detected!("avx512bw") && is_x86_feature_detected!("avx512dq") {
                    sets.push(Isa(Kind::Avx512));
                }
            }
        }
        sets
    }

    /// The set called `name`: `portable`, `avx2` (with FMA) or `avx512` (F, VL, BW, DQ).
    ///
    /// # Errors
    /// If there is no such set or this machine lacks it.
    pub fn from_name(name: &str) -> Result<Self, IsaError> {
        if let Some(isa) = Self::available().into_iter().find(|isa| isa.name() == name) {
            return Ok(isa);
        }
        match name {
            "avx2" | "avx512" => Err(IsaError::Missing(name.into())),
            _ => Err(IsaError::Unknown(name.into())),
        }
    }

    /// The name that [`Isa::from_name`] takes.
    pub fn name(self) -> &'static str {
        match self.0 {
            Kind::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => "avx512",
        }
    }

    /// Whether the set has AVX2 and FMA.
    pub(crate) fn has_avx2(self) -> bool {
        self.0 != Kind::Portable
    }

    /// Floats in a vector.
    pub(crate) fn lanes(self) -> usize {
        struct Lanes;
        impl Kernel for Lanes {
            type Output = usize;
            fn run<S: Simd>(self, _: S) -> usize {
                S::LANES
            }
        }
        self.run(Lanes)
    }

    /// Vector registers.
    pub(crate) fn registers(self) -> usize {
        struct Registers;
        impl Kernel for Registers {
            type Output = usize;
            fn run<S: Simd>(self, _: S) -> usize {
                S::REGISTERS
            }
        }
        self.run(Registers)
    }

    /// Runs `kernel` compiled for this set.
    #[inline]
    pub(crate) fn run<K: Kernel>(self, kernel: K) -> K::Output {
        match self.0 {
            Kind::Portable => kernel.run(portable::Portable),
            // SAFETY: `Isa` was made by detection, so the machine has the instructions.
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => unsafe { avx2::enter(kernel) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => unsafe { avx512::enter(kernel) },
        }
    }
}

impl Isa {
    /// Runs `kernel` compiled for this set, with VNNI where the machine has it for vectors of this set.
    #[inline]
    pub(crate) fn run_bytes<K: ByteKernel>(self, kernel: K) -> K::Output {
        match self.0 {
            // SAFETY: detected here, and by `Isa` the rest.
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 if is_x86_feature_detected!("avxvnni") => unsafe { avx2::enter_vnni(kernel) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 if is_x86_feature_detected!("avx512vnni") => unsafe { avx512::enter_vnni(kernel) },
            _ => self.run(OnPairs(kernel)),
        }
    }

    /// Runs `kernel` on bf16 compiled for this set, with its products of bf16 where the machine has them.
    #[inline]
    fn run_bf16<K: ElementKernel<bf16>>(self, kernel: K) -> K::Output {
        match self.0 {
            // SAFETY: detected here, and by `Isa` the rest.
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 if is_x86_feature_detected!("avx512bf16") => unsafe { avx512::enter_bf16(kernel) },
            _ => self.run(OnWidened(kernel)),
        }
    }

    /// Whether this machine multiplies bf16 faster than floats of the same vectors.
    pub fn multiplies_bf16(self) -> bool {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => is_x86_feature_detected!("avx512bf16"),
            _ => false,
        }
    }

    /// Numbers of a lane of 32 bits in products of bytes.
    pub(crate) fn byte_group(self) -> usize {
        struct Group;
        impl ByteKernel for Group {
            type Output = usize;
            fn run<P: ByteProduct>(self, _: P) -> usize {
                P::GROUP
            }
        }
        self.run_bytes(Group)
    }
}

impl std::fmt::Debug for Isa {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Isa({})", self.name())
    }
}

/// Work that is compiled once for every instruction set. Everything `run` calls must be `#[inline(always)]`, so that
/// it ends up in a function that has the set's features.
pub(crate) trait Kernel {
    /// The result.
    type Output;
    /// The work.
    fn run<S: Simd>(self, s: S) -> Self::Output;
}

/// What a micro-kernel sums: products of lanes of 32 bits, each a float or a group of smaller numbers.
pub trait Product: Copy {
    /// The vectors.
    type Simd: Simd;
    /// Their operations.
    fn simd(self) -> Self::Simd;
    /// acc + a · b
    fn multiply_add(
        self,
        a: <Self::Simd as Simd>::Reg,
        b: <Self::Simd as Simd>::Reg,
        acc: <Self::Simd as Simd>::Reg,
    ) -> <Self::Simd as Simd>::Reg;
}

/// Products of floats.
#[derive(Clone, Copy)]
pub(crate) struct Floats<S>(pub(crate) S);

impl<S: Simd> Product for Floats<S> {
    type Simd = S;

    #[inline(always)]
    fn simd(self) -> S {
        self.0
    }

    #[inline(always)]
    fn multiply_add(self, a: S::Reg, b: S::Reg, acc: S::Reg) -> S::Reg {
        self.0.mul_add(a, b, acc)
    }
}

/// Sums, in 32-bit integers, of products of unsigned bytes (`a`) and signed bytes (`b`). They are exact: every instruction set
/// computes the same integers.
pub(crate) trait ByteProduct: Product {
    /// Numbers in a lane of 32 bits: four bytes, or two as 16-bit integers. `vpmaddubsw`, which multiplies bytes on sets without
    /// VNNI, saturates; the sum of two products of 16-bit integers does not.
    const GROUP: usize;
}

/// Pairs of 16-bit integers.
#[derive(Clone, Copy)]
pub(crate) struct Pairs<S>(S);

impl<S: Simd> Product for Pairs<S> {
    type Simd = S;

    #[inline(always)]
    fn simd(self) -> S {
        self.0
    }

    #[inline(always)]
    fn multiply_add(self, a: S::Reg, b: S::Reg, acc: S::Reg) -> S::Reg {
        self.0.multiply_add_pairs(a, b, acc)
    }
}

impl<S: Simd> ByteProduct for Pairs<S> {
    const GROUP: usize = 2;
}

/// As [`Kernel`], for products of bytes.
pub(crate) trait ByteKernel {
    /// The result.
    type Output;
    /// The work.
    fn run<P: ByteProduct>(self, product: P) -> Self::Output;
}

/// A kernel on pairs.
struct OnPairs<K>(K);

impl<K: ByteKernel> Kernel for OnPairs<K> {
    type Output = K::Output;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> K::Output {
        self.0.run(Pairs(s))
    }
}

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
pub(crate) struct Widened<S>(S);

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
struct OnWidened<K>(K);

impl<K: ElementKernel<bf16>> Kernel for OnWidened<K> {
    type Output = K::Output;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> K::Output {
        self.0.run(Widened(s))
    }
}

/// Floats of the widest vector.
pub(crate) const MAX_LANES: usize = 16;

/// Vector operations. A value of an implementing type proves that the machine has the instructions.
pub trait Simd: Copy + Send + Sync + 'static {
    /// Floats in a register.
    const LANES: usize;
    /// Registers that a micro-kernel may count on.
    const REGISTERS: usize;
    /// A vector.
    type Reg: Copy;
    /// Which lane each lane of a vector is taken from.
    type Lanes: Copy;

    /// All lanes `x`.
    fn splat(self, x: f32) -> Self::Reg;
    /// # Safety
    /// `LANES` floats can be read at `p`.
    unsafe fn load(self, p: *const f32) -> Self::Reg;
    /// The first `n < LANES` floats at `p`, zeros above.
    ///
    /// # Safety
    /// `n` floats can be read at `p`.
    unsafe fn load_first(self, p: *const f32, n: usize) -> Self::Reg;
    /// # Safety
    /// `LANES` floats can be written at `p`.
    unsafe fn store(self, p: *mut f32, x: Self::Reg);
    /// A non-temporal store, past the caches, where the set has one; [`Simd::store_fence`] has to follow before anyone
    /// reads there.
    ///
    /// # Safety
    /// `LANES` floats can be written at `p`, which is aligned to a vector, and are not read before `store_fence`.
    #[inline(always)]
    unsafe fn store_non_temporal(self, p: *mut f32, x: Self::Reg) {
        // SAFETY: the caller's promise.
        unsafe { self.store(p, x) }
    }

    /// A store fence: non-temporal stores are seen by other threads before what is stored from now on.
    #[inline(always)]
    fn store_fence(self) {}

    /// Stores the first `n < LANES` lanes.
    ///
    /// # Safety
    /// `n` floats can be written at `p`.
    unsafe fn store_first(self, p: *mut f32, n: usize, x: Self::Reg);
    /// a + b
    fn add(self, a: Self::Reg, b: Self::Reg) -> Self::Reg;
    /// a − b
    fn sub(self, a: Self::Reg, b: Self::Reg) -> Self::Reg;
    /// a · b
    fn mul(self, a: Self::Reg, b: Self::Reg) -> Self::Reg;
    /// a · b + c, fused where the set has it.
    fn mul_add(self, a: Self::Reg, b: Self::Reg, c: Self::Reg) -> Self::Reg;
    /// The larger of each pair; a NaN in `a` stays NaN, as in torch, and one in `b` gives `a`.
    fn max(self, a: Self::Reg, b: Self::Reg) -> Self::Reg;
    /// The smaller of each pair; `b` where either is NaN.
    fn min(self, a: Self::Reg, b: Self::Reg) -> Self::Reg;
    /// The larger of each pair; a NaN in either stays NaN.
    fn max_or_nan(self, a: Self::Reg, b: Self::Reg) -> Self::Reg;
    /// `x` where `mask` is above zero, zero elsewhere.
    fn where_positive(self, mask: Self::Reg, x: Self::Reg) -> Self::Reg;
    /// a / b
    fn div(self, a: Self::Reg, b: Self::Reg) -> Self::Reg;
    /// √a
    fn sqrt(self, a: Self::Reg) -> Self::Reg;
    /// 2ⁿ for whole numbers from −126 to 127; anything else gives anything.
    fn pow2(self, n: Self::Reg) -> Self::Reg;
    /// `x` where `a` is above `b` or NaN, `y` elsewhere.
    fn where_above(self, a: Self::Reg, b: Self::Reg, x: Self::Reg, y: Self::Reg) -> Self::Reg;
    /// Lane `k` of each run of `size` lanes for all lanes of the run; `size` is a power of two and `k` below it.
    fn lanes_of_runs(self, size: usize, k: usize) -> Self::Lanes;
    /// Lane `of(i)`, below `LANES`, for lane i.
    fn lanes(self, of: impl Fn(usize) -> usize) -> Self::Lanes;
    /// The lanes of `x` that `lanes` names.
    fn pick(self, x: Self::Reg, lanes: Self::Lanes) -> Self::Reg;

    /// Prefetches the cache line at `p`, which need not be readable.
    #[inline(always)]
    fn prefetch(self, p: *const f32) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a prefetch is a hint and never faults; every x86-64 machine has it.
        unsafe {
            std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(p.cast());
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = p;
    }

    /// As [`Simd::prefetch`], into the second-level cache.
    #[inline(always)]
    fn prefetch_for_later(self, p: *const f32) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as for `prefetch`.
        unsafe {
            std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T1 }>(p.cast());
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = p;
    }

    /// Prefetches the cache line at `p`, which need not be writable, to write to it.
    #[inline(always)]
    fn prefetch_to_write(self, p: *const f32) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as for `prefetch`; a processor without this hint takes it as none.
        unsafe {
            std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_ET0 }>(p.cast());
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = p;
    }

    /// The sum of all lanes, halves first.
    #[inline(always)]
    fn sum(self, x: Self::Reg) -> f32 {
        let mut lanes = [0.0; MAX_LANES];
        // SAFETY: there is room for the widest vector.
        unsafe { self.store(lanes.as_mut_ptr(), x) };
        let mut half = Self::LANES / 2;
        while half > 0 {
            for lane in 0..half {
                lanes[lane] += lanes[lane + half];
            }
            half /= 2;
        }
        lanes[0]
    }

    /// The first `min(n, LANES)` lanes `x`, zeros above.
    #[inline(always)]
    fn splat_up_to(self, x: f32, n: usize) -> Self::Reg {
        if n >= Self::LANES {
            return self.splat(x);
        }
        // SAFETY: the array has as many floats as the widest vector.
        unsafe { self.load_first([x; MAX_LANES].as_ptr(), n) }
    }

    /// Stores the first `min(n, LANES)` lanes, numbers from 0 to 255, as bytes: rounded to the nearest, halves to the even one.
    ///
    /// # Safety
    /// As many bytes can be written at `p`.
    #[inline(always)]
    unsafe fn store_bytes(self, p: *mut u8, n: usize, x: Self::Reg) {
        let mut lanes = [0.0; MAX_LANES];
        // SAFETY: there is room for the widest vector, and at `p` for the bytes.
        unsafe {
            self.store(lanes.as_mut_ptr(), x);
            let bytes = lanes.map(|lane: f32| lane.round_ties_even() as u8);
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), p, n.min(Self::LANES));
        }
    }

    /// Stores all lanes of `x`, vector after vector, as [`Simd::store_bytes`] does.
    ///
    /// # Safety
    /// `NV · LANES` bytes can be written at `p`.
    #[inline(always)]
    unsafe fn store_vectors_as_bytes<const NV: usize>(self, p: *mut u8, x: [Self::Reg; NV]) {
        for (v, x) in x.into_iter().enumerate() {
            // SAFETY: the caller's promise.
            unsafe { self.store_bytes(p.add(v * Self::LANES), Self::LANES, x) }
        }
    }

    /// The first `min(n, LANES)` bytes at `p` as floats, zeros above.
    ///
    /// # Safety
    /// As many bytes can be read at `p`.
    #[inline(always)]
    unsafe fn load_bytes(self, p: *const u8, n: usize) -> Self::Reg {
        let mut lanes = [0.0; MAX_LANES];
        for (lane, float) in lanes.iter_mut().enumerate().take(n.min(Self::LANES)) {
            // SAFETY: the caller lets as many bytes be read.
            *float = f32::from(unsafe { *p.add(lane) });
        }
        // SAFETY: the array has as many floats as the widest vector.
        unsafe { self.load(lanes.as_ptr()) }
    }

    /// Lanes that are 32-bit integers, as the nearest floats.
    fn integers_to_floats(self, x: Self::Reg) -> Self::Reg;

    /// acc + a · b in lanes of 32-bit integers, where each lane of `a` and `b` is a pair of 16-bit integers: the sum of both
    /// products. Sums wrap.
    fn multiply_add_pairs(self, a: Self::Reg, b: Self::Reg, acc: Self::Reg) -> Self::Reg;

    /// Writes `n` bytes as 16-bit integers.
    ///
    /// # Safety
    /// `n` bytes can be read at `from`, and as many 16-bit integers written at `to`.
    #[inline(always)]
    unsafe fn widen_bytes(self, from: *const u8, to: *mut i16, n: usize) {
        for index in 0..n {
            // SAFETY: the caller's promise.
            unsafe { *to.add(index) = i16::from(*from.add(index)) }
        }
    }

    /// The lower half of each lane as a float: a bf16 is the upper half of one.
    fn low_halves(self, x: Self::Reg) -> Self::Reg;
    /// The upper half of each lane as a float.
    fn high_halves(self, x: Self::Reg) -> Self::Reg;

    /// `min(n, LANES)` numbers at `p` as floats, zeros above.
    ///
    /// # Safety
    /// As many can be read at `p`.
    #[inline(always)]
    unsafe fn load_halves(self, p: *const bf16, n: usize) -> Self::Reg {
        let mut lanes = [0.0; MAX_LANES];
        for (lane, float) in lanes.iter_mut().enumerate().take(n.min(Self::LANES)) {
            // SAFETY: the caller lets as many be read.
            *float = unsafe { *p.add(lane) }.to_f32();
        }
        // SAFETY: the array has as many floats as the widest vector.
        unsafe { self.load(lanes.as_ptr()) }
    }

    /// Stores the first `min(n, LANES)` lanes: rounded to the nearest, halves to the even one.
    ///
    /// # Safety
    /// As many can be written at `p`.
    #[inline(always)]
    unsafe fn store_halves(self, p: *mut bf16, n: usize, x: Self::Reg) {
        let mut lanes = [0.0; MAX_LANES];
        // SAFETY: there is room for the widest vector, and at `p` for the numbers.
        unsafe {
            self.store(lanes.as_mut_ptr(), x);
            for (lane, &float) in lanes.iter().enumerate().take(n.min(Self::LANES)) {
                p.add(lane).write(bf16::from_f32(float));
            }
        }
    }

    /// All lanes zero.
    #[inline(always)]
    fn zero(self) -> Self::Reg {
        self.splat(0.0)
    }

    /// `LANES` floats if `n` is at least that, else the first `n`.
    ///
    /// # Safety
    /// `min(n, LANES)` floats can be read at `p`.
    #[inline(always)]
    unsafe fn load_up_to(self, p: *const f32, n: usize) -> Self::Reg {
        // SAFETY: the caller's promise covers either branch.
        unsafe { if n >= Self::LANES { self.load(p) } else { self.load_first(p, n) } }
    }

    /// Stores `LANES` floats if `n` is at least that, else the first `n`.
    ///
    /// # Safety
    /// `min(n, LANES)` floats can be written at `p`.
    #[inline(always)]
    unsafe fn store_up_to(self, p: *mut f32, n: usize, x: Self::Reg) {
        // SAFETY: the caller's promise covers either branch.
        unsafe { if n >= Self::LANES { self.store(p, x) } else { self.store_first(p, n, x) } }
    }
}
