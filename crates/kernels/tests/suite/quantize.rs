//! Quantisation is its definition, to the bit, on every instruction set, and that of ONNX.

use crate::{stamp, uniform};
use residual_kernels::conv::QuantizedConv;
use residual_kernels::quantize::{self, Quantization};
use residual_kernels::{Isa, reference};
use residual_threads::Pool;

stamp!(quantized_floats_are_the_definition, dequantized_bytes_are_the_definition, onnx_has_the_same_examples);

/// Pixels and channels: pixels with and without padding, parts of a task and several tasks.
const SIZES: [(usize, usize); 10] =
    [(1, 1), (2, 2), (50, 3), (7, 4), (3, 17), (9, 33), (2, 1000), (20_000, 3), (4097, 8), (700, 66)];

fn quantizations() -> Vec<Quantization> {
    let zeros = [0, 1, 127, 128, 255];
    zeros.into_iter().flat_map(|zero| [0.25, 0.037, 3e-5].map(|scale| Quantization { scale, zero })).collect()
}

/// Numbers that bytes can stand for, halves between two of them, and a few that are none.
fn floats(len: usize, q: Quantization) -> Vec<f32> {
    const ODD: [f32; 10] =
        [0.0, -0.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, f32::MAX, f32::MIN, 1e-45, -3e9, 1e7];
    let mut x: Vec<f32> = uniform(1, len).iter().map(|x| x * 300.0 * q.scale).collect();
    x.iter_mut().step_by(3).for_each(|x| *x = ((*x / q.scale).floor() + 0.5) * q.scale);
    x.iter_mut().skip(len / 20).step_by(17).zip(ODD.iter().cycle()).for_each(|(x, odd)| *x = *odd);
    x
}

fn quantized_floats_are_the_definition(isa: Isa) {
    for q in quantizations() {
        for (pixels, channels) in SIZES {
            let x = floats(pixels * channels, q);
            let expected = reference::quantize(&x, channels, q);
            for threads in [1, 2, 3] {
                let mut y = vec![77; pixels * QuantizedConv::pixel(channels)];
                quantize::quantize(isa, &Pool::new(threads), &x, channels, q, &mut y);
                assert_eq!(y, expected, "{q:?}, {pixels} x {channels}");
            }
        }
    }
}

/// All bytes several times over.
fn bytes(pixels: usize, channels: usize) -> Vec<u8> {
    (0..pixels * QuantizedConv::pixel(channels)).map(|index| (index * 7 + index / 256) as u8).collect()
}

fn dequantized_bytes_are_the_definition(isa: Isa) {
    for q in quantizations() {
        for (pixels, channels) in SIZES {
            let x = bytes(pixels, channels);
            let expected = reference::dequantize(&x, channels, q);
            for threads in [1, 2, 3] {
                let mut y = vec![f32::NAN; pixels * channels];
                quantize::dequantize(isa, &Pool::new(threads), &x, channels, q, &mut y);
                assert_eq!(y, expected, "{q:?}, {pixels} x {channels}");
            }
        }
    }
}

/// The examples of ONNX's operators `QuantizeLinear` and `DequantizeLinear`.
fn onnx_has_the_same_examples(isa: Isa) {
    let (q, pool) = (Quantization { scale: 2.0, zero: 128 }, Pool::new(1));
    let mut bytes = [0; 8];
    quantize::quantize(isa, &pool, &[0.0, 2.0, 3.0, 1000.0, -254.0, -1000.0], 6, q, &mut bytes);
    assert_eq!(bytes, [128, 129, 130, 255, 1, 0, 128, 128]);
    let mut floats = [0.0; 4];
    quantize::dequantize(isa, &pool, &[0, 3, 128, 255], 4, q, &mut floats);
    assert_eq!(floats, [-256.0, -250.0, 0.0, 254.0]);
}

/// Pixels of bytes that are too few, or of another number of channels.
#[test]
fn slices_of_other_sizes_are_refused() {
    let (q, pool) = (Quantization { scale: 1.0, zero: 0 }, Pool::new(1));
    for (floats, channels, bytes) in [(6, 3, 6), (6, 3, 12), (7, 3, 8), (8, 4, 4)] {
        let refused = |run: &mut dyn FnMut()| {
            assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).is_err());
        };
        let (mut x, mut y) = (vec![0.0; floats], vec![0; bytes]);
        refused(&mut || quantize::quantize(Isa::detect(), &pool, &x, channels, q, &mut y));
        refused(&mut || quantize::dequantize(Isa::detect(), &pool, &y, channels, q, &mut x));
    }
}
