//! Kernels of 8-bit images against their naive twins, to the bit. `crates/preprocess` compares images with Pillow's.

use crate::stamp;
use residual_kernels::image::{self, Normalization, PRECISION, Taps};
use residual_kernels::{Isa, reference};
use residual_tensor::Stream;

stamp!(
    cosine_transforms_are_the_naive_ones,
    absurd_coefficients_wrap_around_alike,
    rows_are_widened_by_the_definition,
    every_colour_is_converted_by_the_definition,
    resampling_is_the_definition,
    bytes_are_normalised_by_the_definition,
);

fn bytes(seed: u64, len: usize) -> Vec<u8> {
    let mut stream = Stream::new(seed, &[]);
    (0..len).map(|_| stream.below(256) as u8).collect()
}

fn transformed(isa: Isa, blocks: &[[i16; 64]], table: &[u16; 64]) -> [Vec<u8>; 2] {
    let stride = 8 * blocks.len() + 3;
    let [mut got, mut expected] = [0, 1].map(|_| vec![7; 8 * stride]);
    image::inverse_cosine(isa, blocks, table, &mut got, stride);
    reference::inverse_cosine(blocks, table, &mut expected, stride);
    [got, expected]
}

fn cosine_transforms_are_the_naive_ones(isa: Isa) {
    let mut random = Stream::new(1, &[]);
    for count in [0, 1, 2, 5, 200] {
        let block = |number: u32| {
            let mut block = [0; 64];
            // From none to all coefficients, those of low frequencies above all.
            for _ in 0..number % 70 {
                let most = 1 + random.below(64);
                block[random.below(most) as usize] = random.below(801) as i16 - 400;
            }
            block
        };
        let blocks: Vec<[i16; 64]> = (0..count).map(block).collect();
        let table = std::array::from_fn(|at| 1 + at as u16 / 2);
        let [got, expected] = transformed(isa, &blocks, &table);
        assert!(got == expected, "{count} blocks");
    }
}

fn absurd_coefficients_wrap_around_alike(isa: Isa) {
    let mut random = Stream::new(2, &[]);
    let mut blocks = vec![[i16::MIN; 64], [i16::MAX; 64]];
    blocks.extend((0..64).map(|place| std::array::from_fn(|at| if at == place { i16::MAX } else { 0 })));
    blocks.extend((0..200).map(|_| std::array::from_fn(|_| random.below(1 << 16) as u16 as i16)));
    for table in [[u16::MAX; 64], std::array::from_fn(|at| (at * 1021) as u16)] {
        let [got, expected] = transformed(isa, &blocks, &table);
        assert!(got == expected);
    }
}

fn rows_are_widened_by_the_definition(isa: Isa) {
    for len in [1, 2, 3, 4, 15, 16, 17, 18, 33, 250] {
        let (near, far) = (bytes(len as u64, len), bytes(99, len));
        let [mut got, mut expected] = [0, 1].map(|_| vec![0; 2 * len]);
        image::widen(isa, &near, &mut got);
        reference::widen(&near, &mut expected);
        assert_eq!(got, expected, "{len} samples");
        image::widen_between(isa, &near, &far, &mut vec![0; len], &mut got);
        reference::widen_between(&near, &far, &mut expected);
        assert_eq!(got, expected, "{len} samples between two rows");
    }
}

fn every_colour_is_converted_by_the_definition(isa: Isa) {
    let chroma: Vec<[u8; 2]> = (0..=255).flat_map(|cb| (0..=255).map(move |cr| [cb, cr])).collect();
    let [cb, cr] = [0, 1].map(|part| chroma.iter().map(|chroma| chroma[part]).collect::<Vec<u8>>());
    // The first steps are all pairs of chroma; lengths that fill no vector follow.
    for (luma, len) in
        [0, 1, 127, 128, 200, 255].map(|luma| (luma, chroma.len())).into_iter().chain([(90, 1), (90, 47)])
    {
        let y = vec![luma; len];
        let [mut got, mut expected] = [0, 1].map(|_| vec![0; 3 * len]);
        image::ycc_to_rgb(isa, &y, &cb[..len], &cr[..len], &mut got);
        reference::ycc_to_rgb(&y, &cb[..len], &cr[..len], &mut expected);
        assert!(got == expected, "{len} pixels of luma {luma}");
    }
}

fn resampling_is_the_definition(isa: Isa) {
    let mut random = Stream::new(3, &[]);
    for ([height, width], to, size, channels) in [
        ([1, 1], 1, 1, 3),
        ([1, 7], 5, 3, 3),
        ([2, 9], 17, 2, 3),
        ([3, 9], 4, 9, 3),
        ([5, 33], 8, 7, 3),
        ([8, 40], 31, 4, 1),
        ([8, 40], 31, 4, 4),
        ([4, 12], 6, 3, 5),
    ] {
        let pixels = bytes(5, height * width * channels);
        // Weights around a sum of one, with negative ones, so that some sums are clamped.
        let mut taps = |from: usize| {
            let size = size.min(from);
            let starts: Vec<u32> = (0..to).map(|_| random.below((from - size + 1) as u32)).collect();
            let one = 1 << PRECISION;
            let weight = || (random.below(one as u32) as i32 - one / 4) / size as i32;
            let weights: Vec<i32> = std::iter::repeat_with(weight).take(to * size).collect();
            (starts, size, weights)
        };
        let (starts, size, weights) = taps(width);
        let across = Taps { starts: &starts, size, weights: &weights };
        let [mut got, mut expected] = [0, 1].map(|_| vec![0; height * to * channels]);
        image::resample_columns(isa, &pixels, channels, width, across, &mut got);
        reference::resample_columns(&pixels, channels, width, across, &mut expected);
        assert_eq!(got, expected, "{height}x{width}x{channels}, {size} taps across");
        let (starts, size, weights) = taps(height);
        let down = Taps { starts: &starts, size, weights: &weights };
        let [mut got, mut expected] = [0, 1].map(|_| vec![0; to * width * channels]);
        image::resample_rows(isa, &pixels, width * channels, down, &mut got);
        reference::resample_rows(&pixels, width * channels, down, &mut expected);
        assert_eq!(got, expected, "{height}x{width}x{channels}, {size} taps down");
    }
}

fn bytes_are_normalised_by_the_definition(isa: Isa) {
    let imagenet = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);
    let cifar = ([0.4914, 0.4822, 0.4465], [0.247, 0.2435, 0.2616]);
    let mut cases: Vec<(Vec<f32>, Vec<f32>)> = [imagenet, cifar, ([0.0; 3], [1.0; 3]), ([0.5; 3], [1e-30, 0.5, 3.0])]
        .map(|(m, s)| (m.to_vec(), s.to_vec()))
        .into();
    cases.extend([(vec![0.5], vec![0.25]), (vec![0.1, 0.2, 0.3, 0.4], vec![0.4, 0.3, 0.2, 0.1])]);
    let mut random = Stream::new(6, &[]);
    let mut three = |low, high| (0..3).map(|_| random.range(low, high)).collect::<Vec<f32>>();
    cases.extend((0..50).map(|_| (three(0.0, 1.0), three(0.05, 0.5))));
    for (mean, std) in cases {
        let normalization = Normalization::new(&mean, &std);
        for pixels in [0, 1, 7, 8, 9, 256, 300] {
            let values: Vec<u8> =
                (0..pixels * mean.len()).map(|at| (at / mean.len() + at % mean.len()) as u8).collect();
            let [mut got, mut expected] = [0, 1].map(|_| vec![0.0f32; values.len()]);
            image::normalize(isa, &normalization, &values, &mut got);
            reference::normalize(&mean, &std, &values, &mut expected);
            let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&got), bits(&expected), "{mean:?} {std:?}, {pixels} pixels");
        }
    }
}
