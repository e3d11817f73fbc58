//! Instruction sets: detection, the token that proves it, and the vector operations kernels are written in.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod element;
mod portable;

pub use element::Element;
use element::OnWidened;
pub(crate) use element::{ElementKernel, ElementProduct, Function, Reg, Sealed};

use half::bf16;

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
