//! AVX2 with FMA: vectors of eight floats.

use super::{ByteKernel, ByteProduct, Kernel, Product, Simd};
use half::bf16;
use std::arch::x86_64::*;

/// Made only inside [`enter`], where the machine is known to have AVX2 and FMA.
#[derive(Clone, Copy)]
pub(crate) struct Avx2(());

/// Runs `kernel` in a function that has the features.
///
/// # Safety
/// The machine has AVX2 and FMA.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn enter<K: Kernel>(kernel: K) -> K::Output {
    kernel.run(Avx2(()))
}

/// `MASKS[8 - n..]` begins with n lanes of ones.
static MASKS: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];

#[inline(always)]
fn mask(n: usize) -> __m256i {
    debug_assert!(n < 8);
    // SAFETY: a token exists, so the machine has AVX2; 8 − n + 8 is at most 16, the table's length.
    unsafe { _mm256_loadu_si256(MASKS.as_ptr().add(8 - n).cast()) }
}

// SAFETY of every block below: `self` exists, so the machine has AVX2 and FMA; memory accesses are covered by the
// caller's promise in the trait.
impl Simd for Avx2 {
    const LANES: usize = 8;
    const REGISTERS: usize = 16;
    type Reg = __m256;
    type Lanes = __m256i;

    #[inline(always)]
    fn splat(self, x: f32) -> __m256 {
        // SAFETY: see the impl.
        unsafe { _mm256_set1_ps(x) }
    }

    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> __m256 {
        // SAFETY: see the impl.
        unsafe { _mm256_loadu_ps(p) }
    }

    #[inline(always)]
    unsafe fn load_first(self, p: *const f32, n: usize) -> __m256 {
        // SAFETY: see the impl; masked lanes are not read.
        unsafe { _mm256_maskload_ps(p, mask(n)) }
    }

    #[inline(always)]
    unsafe fn store(self, p: *mut f32, x: __m256) {
        // SAFETY: see the impl.
        unsafe { _mm256_storeu_ps(p, x) }
    }

    #[inline(always)]
    unsafe fn store_non_temporal(self, p: *mut f32, x: __m256) {
        // SAFETY: see the impl; the caller promises alignment, and to call `store_fence`.
        unsafe { _mm256_stream_ps(p, x) }
    }

    #[inline(always)]
    fn store_fence(self) {
        // SAFETY: every x86-64 machine has the instruction.
        unsafe { _mm_sfence() }
    }

    #[inline(always)]
    unsafe fn store_first(self, p: *mut f32, n: usize, x: __m256) {
        // SAFETY: see the impl; masked lanes are not written.
        unsafe { _mm256_maskstore_ps(p, mask(n), x) }
    }

    #[inline(always)]
    fn add(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: see the impl.
        unsafe { _mm256_add_ps(a, b) }
    }

    #[inline(always)]
    fn sub(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: see the impl.
        unsafe { _mm256_sub_ps(a, b) }
    }

    #[inline(always)]
    fn mul(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: see the impl.
        unsafe { _mm256_mul_ps(a, b) }
    }

    #[inline(always)]
    fn mul_add(self, a: __m256, b: __m256, c: __m256) -> __m256 {
        // SAFETY: see the impl.
        unsafe { _mm256_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    fn max(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: see the impl. The instruction returns its second operand when either is NaN.
        unsafe { _mm256_max_ps(b, a) }
    }

    #[inline(always)]
    fn min(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: see the impl. The instruction returns its second operand when either is NaN.
        unsafe { _mm256_min_ps(a, b) }
    }

    #[inline(always)]
    fn max_or_nan(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: see the impl.
        unsafe { _mm256_blendv_ps(_mm256_max_ps(b, a), b, _mm256_cmp_ps::<_CMP_UNORD_Q>(b, b)) }
    }

    #[inline(always)]
    fn where_positive(self, mask: __m256, x: __m256) -> __m256 {
        // SAFETY: see the impl.
        unsafe { _mm256_and_ps(_mm256_cmp_ps::<_CMP_GT_OQ>(mask, _mm256_setzero_ps()), x) }
    }
    #[inline(always)]
    fn div(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: see the impl.
        unsafe { _mm256_div_ps(a, b) }
    }

    #[inline(always)]
    fn sqrt(self, a: __m256) -> __m256 {
        // SAFETY: see the impl.
        unsafe { _mm256_sqrt_ps(a) }
    }

    #[inline(always)]
    fn pow2(self, n: __m256) -> __m256 {
        // SAFETY: see the impl.
        unsafe {
            let exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
            _mm256_castsi256_ps(_mm256_slli_epi32::<23>(exponent))
        }
    }

    #[inline(always)]
    fn where_above(self, a: __m256, b: __m256, x: __m256, y: __m256) -> __m256 {
        // SAFETY: see the impl.
        unsafe {
            let above = _mm256_or_ps(_mm256_cmp_ps::<_CMP_GT_OQ>(a, b), _mm256_cmp_ps::<_CMP_UNORD_Q>(a, a));
            _mm256_blendv_ps(y, x, above)
        }
    }

    #[inline(always)]
    fn lanes_of_runs(self, size: usize, k: usize) -> __m256i {
        // SAFETY: see the impl.
        unsafe {
            let lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
            let run = _mm256_and_si256(lane, _mm256_set1_epi32(-(size as i32)));
            _mm256_add_epi32(run, _mm256_set1_epi32(k as i32))
        }
    }

    #[inline(always)]
    fn lanes(self, of: impl Fn(usize) -> usize) -> __m256i {
        let lanes: [i32; 8] = std::array::from_fn(|lane| of(lane) as i32);
        // SAFETY: see the impl; the array is a vector long.
        unsafe { _mm256_loadu_si256(lanes.as_ptr().cast()) }
    }

    #[inline(always)]
    fn pick(self, x: __m256, lanes: __m256i) -> __m256 {
        // SAFETY: see the impl.
        unsafe { _mm256_permutevar8x32_ps(x, lanes) }
    }

    #[inline(always)]
    unsafe fn store_bytes(self, p: *mut u8, n: usize, x: __m256) {
        // SAFETY: see the impl; as many bytes are written as the caller lets be.
        unsafe {
            let integers = _mm256_cvtps_epi32(x);
            let words = _mm_packs_epi32(_mm256_castsi256_si128(integers), _mm256_extracti128_si256::<1>(integers));
            let bytes = _mm_cvtsi128_si64(_mm_packus_epi16(words, words)).to_le_bytes();
            if n >= 8 {
                p.cast::<[u8; 8]>().write(bytes);
            } else {
                std::ptr::copy_nonoverlapping(bytes.as_ptr(), p, n);
            }
        }
    }

    #[inline(always)]
    unsafe fn load_bytes(self, p: *const u8, n: usize) -> __m256 {
        let mut bytes = [0; 8];
        // SAFETY: see the impl; as many bytes are read as the caller lets be.
        unsafe {
            if n >= 8 {
                bytes = p.cast::<[u8; 8]>().read();
            } else {
                std::ptr::copy_nonoverlapping(p, bytes.as_mut_ptr(), n);
            }
            _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_cvtsi64_si128(i64::from_le_bytes(bytes))))
        }
    }

    #[inline(always)]
    fn integers_to_floats(self, x: __m256) -> __m256 {
        // SAFETY: see the impl.
        unsafe { _mm256_cvtepi32_ps(_mm256_castps_si256(x)) }
    }

    #[inline(always)]
    fn multiply_add_pairs(self, a: __m256, b: __m256, acc: __m256) -> __m256 {
        // SAFETY: see the impl.
        unsafe {
            let products = _mm256_madd_epi16(_mm256_castps_si256(a), _mm256_castps_si256(b));
            _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(acc), products))
        }
    }

    #[inline(always)]
    fn low_halves(self, x: __m256) -> __m256 {
        // SAFETY: see the impl.
        unsafe { _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_castps_si256(x))) }
    }

    #[inline(always)]
    fn high_halves(self, x: __m256) -> __m256 {
        // SAFETY: see the impl.
        unsafe { _mm256_and_ps(x, _mm256_castsi256_ps(_mm256_set1_epi32(0xffff_0000_u32 as i32))) }
    }

    #[inline(always)]
    unsafe fn load_halves(self, p: *const bf16, n: usize) -> __m256 {
        let mut halves = [bf16::ZERO; 8];
        // SAFETY: see the impl; as many are read as the caller lets be.
        unsafe {
            let p = if n >= 8 {
                p
            } else {
                std::ptr::copy_nonoverlapping(p, halves.as_mut_ptr(), n);
                halves.as_ptr()
            };
            self.low_halves(_mm256_castsi256_ps(_mm256_cvtepu16_epi32(_mm_loadu_si128(p.cast()))))
        }
    }

    #[inline(always)]
    unsafe fn store_halves(self, p: *mut bf16, n: usize, x: __m256) {
        // SAFETY: see the impl; as many are written as the caller lets be.
        unsafe {
            let bits = _mm256_castps_si256(x);
            let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
            let rounded = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
            // A NaN must not be rounded to infinity.
            let quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x0040_0000));
            let nan = _mm256_castps_si256(_mm256_cmp_ps::<_CMP_UNORD_Q>(x, x));
            let halves = _mm256_srli_epi32::<16>(_mm256_blendv_epi8(rounded, quiet, nan));
            let halves = _mm_packus_epi32(_mm256_castsi256_si128(halves), _mm256_extracti128_si256::<1>(halves));
            if n >= 8 {
                _mm_storeu_si128(p.cast(), halves);
            } else {
                let mut lanes = [bf16::ZERO; 8];
                _mm_storeu_si128(lanes.as_mut_ptr().cast(), halves);
                std::ptr::copy_nonoverlapping(lanes.as_ptr(), p, n);
            }
        }
    }

    #[inline(always)]
    unsafe fn widen_bytes(self, from: *const u8, to: *mut i16, n: usize) {
        let mut i = 0;
        // SAFETY: see the impl; whole vectors end at n at the latest.
        unsafe {
            while i + 16 <= n {
                let wide = _mm256_cvtepu8_epi16(_mm_loadu_si128(from.add(i).cast()));
                _mm256_storeu_si256(to.add(i).cast(), wide);
                i += 16;
            }
            if i + 8 <= n {
                _mm_storeu_si128(to.add(i).cast(), _mm_cvtepu8_epi16(_mm_loadl_epi64(from.add(i).cast())));
                i += 8;
            }
            while i < n {
                *to.add(i) = i16::from(*from.add(i));
                i += 1;
            }
        }
    }
}

/// AVX2 with VNNI: sums of four products of bytes.
#[derive(Clone, Copy)]
pub(crate) struct Vnni(Avx2);

/// Runs `kernel` in a function that has the features.
///
/// # Safety
/// The machine has AVX-VNNI, AVX2 and FMA.
#[target_feature(enable = "avxvnni,avx2,fma")]
pub(super) unsafe fn enter_vnni<K: ByteKernel>(kernel: K) -> K::Output {
    kernel.run(Vnni(Avx2(())))
}

impl Product for Vnni {
    type Simd = Avx2;

    #[inline(always)]
    fn simd(self) -> Avx2 {
        self.0
    }

    #[inline(always)]
    fn multiply_add(self, a: __m256, b: __m256, acc: __m256) -> __m256 {
        // SAFETY: `self` exists, so the machine has VNNI.
        unsafe {
            let [a, b, acc] = [a, b, acc].map(|x| _mm256_castps_si256(x));
            _mm256_castsi256_ps(_mm256_dpbusd_avx_epi32(acc, a, b))
        }
    }
}

impl ByteProduct for Vnni {
    const GROUP: usize = 4;
}
