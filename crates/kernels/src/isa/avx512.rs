//! AVX-512 (F, VL, BW, DQ): vectors of sixteen floats.

use super::{ByteKernel, ByteProduct, ElementKernel, ElementProduct, Kernel, Product, Simd};
use half::bf16;
use std::arch::x86_64::*;

/// Made only inside [`enter`], where the machine is known to have AVX-512.
#[derive(Clone, Copy)]
pub(crate) struct Avx512(());

/// Runs `kernel` in a function that has the features.
///
/// # Safety
/// The machine has AVX-512 F, VL, BW and DQ, AVX2 and FMA.
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma")]
pub(super) unsafe fn enter<K: Kernel>(kernel: K) -> K::Output {
    kernel.run(Avx512(()))
}

#[inline(always)]
fn mask(n: usize) -> __mmask16 {
    debug_assert!(n < 16);
    (1u16 << n) - 1
}

// SAFETY of every block below: `self` exists, so the machine has AVX-512; memory accesses are covered by the
// caller's promise in the trait.
impl Simd for Avx512 {
    const LANES: usize = 16;
    const REGISTERS: usize = 32;
    type Reg = __m512;
    type Lanes = __m512i;

    #[inline(always)]
    fn splat(self, x: f32) -> __m512 {
        // SAFETY: see the impl.
        unsafe { _mm512_set1_ps(x) }
    }

    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> __m512 {
        // SAFETY: see the impl.
        unsafe { _mm512_loadu_ps(p) }
    }

    #[inline(always)]
    unsafe fn load_first(self, p: *const f32, n: usize) -> __m512 {
        // SAFETY: see the impl; masked lanes are not read.
        unsafe { _mm512_maskz_loadu_ps(mask(n), p) }
    }

    #[inline(always)]
    unsafe fn store(self, p: *mut f32, x: __m512) {
        // SAFETY: see the impl.
        unsafe { _mm512_storeu_ps(p, x) }
    }

    #[inline(always)]
    unsafe fn store_non_temporal(self, p: *mut f32, x: __m512) {
        // SAFETY: see the impl; the caller promises alignment, and to call `store_fence`.
        unsafe { _mm512_stream_ps(p, x) }
    }

    #[inline(always)]
    fn store_fence(self) {
        // SAFETY: every x86-64 machine has the instruction.
        unsafe { _mm_sfence() }
    }

    #[inline(always)]
    unsafe fn store_first(self, p: *mut f32, n: usize, x: __m512) {
        // SAFETY: see the impl; masked lanes are not written.
        unsafe { _mm512_mask_storeu_ps(p, mask(n), x) }
    }

    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: see the impl.
        unsafe { _mm512_add_ps(a, b) }
    }

    #[inline(always)]
    fn sub(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: see the impl.
        unsafe { _mm512_sub_ps(a, b) }
    }

    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: see the impl.
        unsafe { _mm512_mul_ps(a, b) }
    }

    #[inline(always)]
    fn mul_add(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: see the impl.
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    fn max(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: see the impl. The instruction returns its second operand when either is NaN.
        unsafe { _mm512_max_ps(b, a) }
    }

    #[inline(always)]
    fn min(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: see the impl. The instruction returns its second operand when either is NaN.
        unsafe { _mm512_min_ps(a, b) }
    }

    #[inline(always)]
    fn max_or_nan(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: see the impl.
        unsafe { _mm512_mask_mov_ps(_mm512_max_ps(b, a), _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(b, b), b) }
    }

    #[inline(always)]
    fn where_positive(self, mask: __m512, x: __m512) -> __m512 {
        // SAFETY: see the impl.
        unsafe { _mm512_maskz_mov_ps(_mm512_cmp_ps_mask::<_CMP_GT_OQ>(mask, _mm512_setzero_ps()), x) }
    }
    #[inline(always)]
    fn div(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: see the impl.
        unsafe { _mm512_div_ps(a, b) }
    }

    #[inline(always)]
    fn sqrt(self, a: __m512) -> __m512 {
        // SAFETY: see the impl.
        unsafe { _mm512_sqrt_ps(a) }
    }

    #[inline(always)]
    fn pow2(self, n: __m512) -> __m512 {
        // SAFETY: see the impl.
        unsafe {
            let exponent = _mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127));
            _mm512_castsi512_ps(_mm512_slli_epi32::<23>(exponent))
        }
    }

    #[inline(always)]
    fn where_above(self, a: __m512, b: __m512, x: __m512, y: __m512) -> __m512 {
        // SAFETY: see the impl.
        unsafe {
            let above = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(a, b) | _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(a, a);
            _mm512_mask_mov_ps(y, above, x)
        }
    }

    #[inline(always)]
    unsafe fn store_bytes(self, p: *mut u8, n: usize, x: __m512) {
        // SAFETY: see the impl; masked bytes are not written. Conversions that store are slow.
        unsafe {
            let bytes = _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(x));
            match n {
                ..16 => _mm_mask_storeu_epi8(p.cast(), mask(n), bytes),
                _ => _mm_storeu_si128(p.cast(), bytes),
            }
        }
    }

    #[inline(always)]
    unsafe fn store_vectors_as_bytes<const NV: usize>(self, p: *mut u8, x: [__m512; NV]) {
        if let [a, b, c, d] = x[..] {
            // SAFETY: see the impl. Packing takes 128 bits of each vector in turn, which the permutation undoes.
            unsafe {
                let [a, b, c, d] = [a, b, c, d].map(|x| _mm512_cvtps_epi32(x));
                let bytes = _mm512_packus_epi16(_mm512_packs_epi32(a, b), _mm512_packs_epi32(c, d));
                let order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
                _mm512_storeu_si512(p.cast(), _mm512_permutexvar_epi32(order, bytes));
            }
        } else {
            for (v, x) in x.into_iter().enumerate() {
                // SAFETY: the caller's promise.
                unsafe { self.store_bytes(p.add(16 * v), 16, x) }
            }
        }
    }

    #[inline(always)]
    fn lanes_of_runs(self, size: usize, k: usize) -> __m512i {
        // SAFETY: see the impl.
        unsafe {
            let lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
            let run = _mm512_and_epi32(lane, _mm512_set1_epi32(-(size as i32)));
            _mm512_add_epi32(run, _mm512_set1_epi32(k as i32))
        }
    }

    #[inline(always)]
    fn lanes(self, of: impl Fn(usize) -> usize) -> __m512i {
        let lanes: [i32; 16] = std::array::from_fn(|lane| of(lane) as i32);
        // SAFETY: see the impl; the array is a vector long.
        unsafe { _mm512_loadu_si512(lanes.as_ptr().cast()) }
    }

    #[inline(always)]
    fn pick(self, x: __m512, lanes: __m512i) -> __m512 {
        // SAFETY: see the impl.
        unsafe { _mm512_permutexvar_ps(lanes, x) }
    }

    #[inline(always)]
    unsafe fn load_bytes(self, p: *const u8, n: usize) -> __m512 {
        let lanes = if n >= 16 { !0 } else { mask(n) };
        // SAFETY: see the impl; masked bytes are not read.
        unsafe { _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(lanes, p.cast()))) }
    }

    #[inline(always)]
    fn integers_to_floats(self, x: __m512) -> __m512 {
        // SAFETY: see the impl.
        unsafe { _mm512_cvtepi32_ps(_mm512_castps_si512(x)) }
    }

    #[inline(always)]
    fn multiply_add_pairs(self, a: __m512, b: __m512, acc: __m512) -> __m512 {
        // SAFETY: see the impl.
        unsafe {
            let products = _mm512_madd_epi16(_mm512_castps_si512(a), _mm512_castps_si512(b));
            _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(acc), products))
        }
    }

    #[inline(always)]
    fn low_halves(self, x: __m512) -> __m512 {
        // SAFETY: see the impl.
        unsafe { _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_castps_si512(x))) }
    }

    #[inline(always)]
    fn high_halves(self, x: __m512) -> __m512 {
        // SAFETY: see the impl.
        unsafe { _mm512_and_ps(x, _mm512_castsi512_ps(_mm512_set1_epi32(0xffff_0000_u32 as i32))) }
    }

    #[inline(always)]
    unsafe fn load_halves(self, p: *const bf16, n: usize) -> __m512 {
        // SAFETY: see the impl; masked halves are not read.
        unsafe {
            let halves =
                if n >= 16 { _mm256_loadu_si256(p.cast()) } else { _mm256_maskz_loadu_epi16(mask(n), p.cast()) };
            self.low_halves(_mm512_castsi512_ps(_mm512_cvtepu16_epi32(halves)))
        }
    }

    #[inline(always)]
    unsafe fn store_halves(self, p: *mut bf16, n: usize, x: __m512) {
        // SAFETY: see the impl; masked halves are not written.
        unsafe {
            let bits = _mm512_castps_si512(x);
            let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
            let rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
            // A NaN must not be rounded to infinity.
            let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(x, x);
            let rounded = _mm512_mask_or_epi32(rounded, nan, bits, _mm512_set1_epi32(0x0040_0000));
            store_halves(p, n, _mm512_cvtepi32_epi16(_mm512_srli_epi32::<16>(rounded)));
        }
    }

    #[inline(always)]
    unsafe fn widen_bytes(self, from: *const u8, to: *mut i16, n: usize) {
        let mut i = 0;
        // SAFETY: see the impl; what is masked is neither read nor written.
        unsafe {
            while i < n {
                let lanes = if n - i >= 32 { !0 } else { (1u32 << (n - i)) - 1 };
                let wide = _mm512_cvtepu8_epi16(_mm256_maskz_loadu_epi8(lanes, from.add(i).cast()));
                _mm512_mask_storeu_epi16(to.add(i), lanes, wide);
                i += 32;
            }
        }
    }
}

/// AVX-512 with VNNI: sums of four products of bytes.
#[derive(Clone, Copy)]
pub(crate) struct Vnni(Avx512);

/// Runs `kernel` in a function that has the features.
///
/// # Safety
/// The machine has AVX-512 F, VL, BW, DQ and VNNI, AVX2 and FMA.
#[target_feature(enable = "avx512vnni,avx512f,avx512vl,avx512bw,avx512dq,avx2,fma")]
pub(super) unsafe fn enter_vnni<K: ByteKernel>(kernel: K) -> K::Output {
    kernel.run(Vnni(Avx512(())))
}

impl Product for Vnni {
    type Simd = Avx512;

    #[inline(always)]
    fn simd(self) -> Avx512 {
        self.0
    }

    #[inline(always)]
    fn multiply_add(self, a: __m512, b: __m512, acc: __m512) -> __m512 {
        // SAFETY: `self` exists, so the machine has VNNI.
        unsafe {
            let [a, b, acc] = [a, b, acc].map(|x| _mm512_castps_si512(x));
            _mm512_castsi512_ps(_mm512_dpbusd_epi32(acc, a, b))
        }
    }
}

impl ByteProduct for Vnni {
    const GROUP: usize = 4;
}

/// AVX-512 with BF16: sums of two products of bf16. Its products take subnormal numbers for zero.
#[derive(Clone, Copy)]
pub(crate) struct Bf16(Avx512);

/// Runs `kernel` in a function that has the features.
///
/// # Safety
/// The machine has AVX-512 F, VL, BW, DQ and BF16, AVX2 and FMA.
#[target_feature(enable = "avx512bf16,avx512f,avx512vl,avx512bw,avx512dq,avx2,fma")]
pub(super) unsafe fn enter_bf16<K: ElementKernel<bf16>>(kernel: K) -> K::Output {
    kernel.run(Bf16(Avx512(())))
}

impl Product for Bf16 {
    type Simd = Avx512;

    #[inline(always)]
    fn simd(self) -> Avx512 {
        self.0
    }

    #[inline(always)]
    fn multiply_add(self, a: __m512, b: __m512, acc: __m512) -> __m512 {
        // SAFETY: `self` exists, so the machine has BF16; vectors of 64 bytes are of any type.
        unsafe {
            _mm512_dpbf16_ps(
                acc,
                std::mem::transmute::<__m512, __m512bh>(a),
                std::mem::transmute::<__m512, __m512bh>(b),
            )
        }
    }
}

/// The places of the halves of two vectors, in turns.
#[repr(align(64))]
struct Places([u16; 32]);

static ZIPPED: Places = Places({
    let mut places = [0; 32];
    let mut lane = 0;
    while lane < 16 {
        places[2 * lane] = lane as u16;
        places[2 * lane + 1] = lane as u16 + 16;
        lane += 1;
    }
    places
});

impl ElementProduct for Bf16 {
    type Element = bf16;

    #[inline(always)]
    unsafe fn load_up_to(self, p: *const bf16, n: usize) -> __m512 {
        // SAFETY: the caller's promise.
        unsafe { self.0.load_halves(p, n) }
    }

    #[inline(always)]
    unsafe fn store_up_to(self, p: *mut bf16, n: usize, x: __m512) {
        // SAFETY: `self` exists, so the machine has BF16; the caller's promise.
        unsafe { store_halves(p, n, std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(x))) }
    }

    #[inline(always)]
    fn group(self, [first, second]: [__m512; 2]) -> __m512 {
        // SAFETY: `self` exists, so the machine has BF16; vectors of 64 bytes are of any type.
        unsafe { std::mem::transmute::<__m512bh, __m512>(_mm512_cvtne2ps_pbh(second, first)) }
    }

    #[inline(always)]
    fn zip(self, [first, second]: [__m512; 2]) -> __m512 {
        // SAFETY: `self` exists, so the machine has BF16; vectors of 64 bytes are of any type.
        unsafe {
            let halves = std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(second, first));
            _mm512_castsi512_ps(_mm512_permutexvar_epi16(_mm512_loadu_si512(ZIPPED.0.as_ptr().cast()), halves))
        }
    }

    #[inline(always)]
    unsafe fn load_zipped(self, places: [*const bf16; 2], n: usize) -> __m512 {
        // SAFETY: the caller's promise; masked halves are not read.
        unsafe {
            let [first, second] = places.map(|p| {
                let halves =
                    if n >= 16 { _mm256_loadu_si256(p.cast()) } else { _mm256_maskz_loadu_epi16(mask(n), p.cast()) };
                _mm512_cvtepu16_epi32(halves)
            });
            _mm512_castsi512_ps(_mm512_or_si512(first, _mm512_slli_epi32::<16>(second)))
        }
    }

    #[inline(always)]
    unsafe fn store_non_temporal(self, p: *mut bf16, x: __m512) {
        // SAFETY: `self` exists, so the machine has BF16; the caller promises alignment, and to call `store_fence`.
        unsafe { _mm256_stream_si256(p.cast(), std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(x))) }
    }
}

/// Stores the first `min(n, 16)` halves.
///
/// # Safety
/// The machine has AVX-512 VL and BW, and as many can be written at `p`.
#[inline(always)]
unsafe fn store_halves(p: *mut bf16, n: usize, halves: __m256i) {
    // SAFETY: the caller's promise; masked halves are not written.
    unsafe {
        match n {
            ..16 => _mm256_mask_storeu_epi16(p.cast(), mask(n), halves),
            _ => _mm256_storeu_si256(p.cast(), halves),
        }
    }
}
