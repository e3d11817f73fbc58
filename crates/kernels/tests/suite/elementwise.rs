//! Element-wise ops against their naive twins; dropout against its promises.

use crate::{close, dot, same_on_any_pool, stamp, uniform};
use residual_kernels::elementwise::{self, ChannelSlice, Subsample};
use residual_kernels::{Isa, reference};
use residual_threads::Pool;

stamp!(maps_are_the_definitions, nan_passes_relu);

/// Lengths that fill no vector, one task, and several.
const LENS: [usize; 12] = [0, 1, 3, 15, 16, 17, 33, 64, 70, 16 << 10, (16 << 10) + 1, 50_001];

fn maps_are_the_definitions(isa: Isa) {
    type Op = fn(Isa, &Pool, &[f32], &mut [f32]);
    type Twin = fn(&[f32], &[f32]) -> Vec<f32>;
    let ops: [(&str, Op, Twin); 6] = [
        ("relu", elementwise::relu, |x, _| reference::relu(x)),
        ("relu_backward", elementwise::relu_backward, reference::relu_backward),
        ("accumulate", elementwise::accumulate, reference::accumulate),
        ("accumulate_relu", elementwise::accumulate_relu, reference::accumulate_relu),
        ("copy", |isa, pool, x, y| elementwise::copy(isa, pool, x, false, y), |x, _| x.to_vec()),
        ("accumulating copy", |isa, pool, x, y| elementwise::copy(isa, pool, x, true, y), reference::accumulate),
    ];
    for (name, op, twin) in ops {
        for len in LENS {
            let (mut x, y) = (uniform(1, len), uniform(2, len));
            x.iter_mut().step_by(5).for_each(|x| *x = 0.0);
            let what = format!("{name} of {len}");
            let got = same_on_any_pool(&what, |pool| {
                let mut y = y.clone();
                op(isa, pool, &x, &mut y);
                y
            });
            assert_eq!(got, twin(&x, &y), "{what}");
        }
    }
}

fn nan_passes_relu(isa: Isa) {
    let pool = Pool::new(1);
    for at in 0..19 {
        let mut x = uniform(1, 19);
        x[at] = f32::NAN;
        let (mut y, mut sum) = (vec![0.0; 19], uniform(2, 19));
        elementwise::relu(isa, &pool, &x, &mut y);
        elementwise::accumulate_relu(isa, &pool, &x, &mut sum);
        for y in [y, sum] {
            let nans: Vec<usize> = (0..19).filter(|&index| y[index].is_nan()).collect();
            assert_eq!(nans, [at]);
        }
    }
}

#[test]
fn zeros_and_bytes_overwrite_all() {
    for len in LENS {
        let (mut y, mut bytes) = (vec![f32::NAN; len], vec![1; len]);
        elementwise::zero(&Pool::new(2), &mut y);
        assert_eq!(y, vec![0.0; len]);
        elementwise::fill(&Pool::new(2), &mut bytes, 200u8);
        assert_eq!(bytes, vec![200; len]);
    }
}

fn dropout(pool: &Pool, x: &[f32], p: f32, seed: u64) -> Vec<f32> {
    let mut y = vec![f32::NAN; x.len()];
    elementwise::dropout(pool, x, p, seed, false, &mut y);
    y
}

#[test]
fn dropout_drops_its_share_and_scales_the_rest() {
    let x: Vec<f32> = uniform(1, 200_001).iter().map(|x| x + 2.0).collect();
    for (seed, p) in [(1, 0.1), (2, 0.3), (3, 0.5), (4, 0.9)] {
        let y = same_on_any_pool("dropout", |pool| dropout(pool, &x, p, seed));
        let dropped = y.iter().filter(|y| **y == 0.0).count() as f64;
        let (p, n) = (f64::from(p), x.len() as f64);
        let deviation = (n * p * (1.0 - p)).sqrt();
        assert!((dropped - n * p).abs() < 4.0 * deviation, "p {p}: {dropped} of {n}");
        let kept: Vec<(f32, f32)> = x.iter().zip(&y).filter(|(_, y)| **y != 0.0).map(|(x, y)| (*x, *y)).collect();
        let expected: Vec<f32> = kept.iter().map(|(x, _)| (f64::from(*x) / (1.0 - p)) as f32).collect();
        close(&kept.iter().map(|(_, y)| *y).collect::<Vec<f32>>(), &expected, 1e-6, "kept");
    }
}

#[test]
fn dropout_with_probability_zero_or_one_is_certain() {
    let x = uniform(1, 1000);
    assert_eq!(dropout(&Pool::new(1), &x, 0.0, 7), x);
    assert_eq!(dropout(&Pool::new(1), &x, 1.0, 7), vec![0.0; 1000]);
}

/// Coins of two seeds, and of neighbours, agree as often as independent ones do.
#[test]
fn dropout_masks_are_independent() {
    let ones = vec![1.0; 100_000];
    let mask = |seed: u64| -> Vec<bool> { dropout(&Pool::new(1), &ones, 0.5, seed).iter().map(|y| *y > 0.0).collect() };
    let (one, two) = (mask(1), mask(2));
    for (what, a, b) in [("seeds", &one[1..], &two[1..]), ("neighbours", &one[1..], &one[..one.len() - 1])] {
        let agree = a.iter().zip(b).filter(|(a, b)| a == b).count() as f64 / a.len() as f64;
        assert!((agree - 0.5).abs() < 4.0 * (0.25 / a.len() as f64).sqrt(), "{what} agree at {agree}");
    }
}

#[test]
fn dropout_is_its_own_gradient() {
    let (x, dy, before) = (uniform(1, 40_000), uniform(2, 40_000), uniform(3, 40_000));
    let pool = Pool::new(2);
    let (y, dx) = (dropout(&pool, &x, 0.4, 9), dropout(&pool, &dy, 0.4, 9));
    let (forward, backward) = (dot(&y, &dy), dot(&x, &dx));
    assert!((forward - backward).abs() < 1e-3, "{forward} against {backward}");
    let mut sum = before.clone();
    elementwise::dropout(&pool, &dy, 0.4, 9, true, &mut sum);
    assert_eq!(sum, reference::accumulate(&before, &dx));
}

fn drop_path(pool: &Pool, x: &[f32], image: usize, p: f32, seed: u64) -> Vec<f32> {
    let mut y = vec![f32::NAN; x.len()];
    elementwise::drop_path(pool, x, image, p, seed, false, &mut y);
    y
}

#[test]
fn drop_path_drops_its_share_of_whole_images_and_scales_the_rest() {
    for (image, p) in [(1, 0.3_f32), (7, 0.1), (20_000, 0.5)] {
        let images = (40_000 / image).max(40);
        let x: Vec<f32> = uniform(1, images * image).iter().map(|x| x + 2.0).collect();
        let y = same_on_any_pool("drop path", |pool| drop_path(pool, &x, image, p, 3));
        let mut dropped = 0.0;
        for (x, y) in x.chunks(image).zip(y.chunks(image)) {
            if y[0] == 0.0 {
                assert!(y.iter().all(|y| *y == 0.0));
                dropped += 1.0;
            } else {
                let expected: Vec<f32> = x.iter().map(|x| x / (1.0 - p)).collect();
                close(y, &expected, 1e-6, "kept");
            }
        }
        let (p, n) = (f64::from(p), images as f64);
        assert!((dropped - n * p).abs() < 4.0 * (n * p * (1.0 - p)).sqrt(), "p {p}: {dropped} of {n}");
        assert_eq!(drop_path(&Pool::new(2), &x, image, 0.0, 3), x);
        let before = uniform(4, x.len());
        let mut sum = before.clone();
        elementwise::drop_path(&Pool::new(2), &x, image, p as f32, 3, true, &mut sum);
        close(&sum, &reference::accumulate(&before, &y), 1e-6, "accumulated");
    }
}

fn slice(channels: usize, offset: usize, count: usize) -> ChannelSlice {
    ChannelSlice { channels, offset, count }
}

/// Images, pixels, slice of the large tensor, slice of the small one.
fn copies() -> Vec<(usize, Subsample, ChannelSlice, ChannelSlice)> {
    let strided = |height: usize, width: usize, stride: usize| Subsample { size: [height, width], stride };
    vec![
        (1, Subsample::all([1, 1]), slice(1, 0, 1), slice(1, 0, 1)),
        (2, Subsample::all([5, 7]), slice(3, 0, 3), slice(20, 17, 3)),
        (3, Subsample::all([4, 4]), slice(33, 5, 17), slice(17, 0, 17)),
        (2, strided(8, 8, 2), slice(16, 0, 16), slice(32, 8, 16)),
        (2, strided(7, 5, 2), slice(16, 0, 16), slice(33, 8, 16)),
        (5, strided(1, 9, 2), slice(3, 1, 2), slice(4, 0, 2)),
        (2, strided(10, 11, 3), slice(64, 0, 64), slice(70, 6, 64)),
        (1, Subsample::all([100, 100]), slice(7, 0, 7), slice(9, 1, 7)),
    ]
}

fn lens(images: usize, pixels: Subsample, large: ChannelSlice, small: ChannelSlice) -> [usize; 2] {
    let [height, width] = pixels.size;
    let kept = height.div_ceil(pixels.stride) * width.div_ceil(pixels.stride);
    [images * height * width * large.channels, images * kept * small.channels]
}

#[test]
fn copied_channels_are_the_definition() {
    for (images, pixels, from, to) in copies() {
        let what = format!("{images} images, {pixels:?}, {from:?} to {to:?}");
        let [large, small] = lens(images, pixels, from, to);
        let (x, dy) = (uniform(1, large), uniform(2, small));
        let (y_before, dx_before) = (uniform(3, small), uniform(4, large));
        let y = same_on_any_pool(&what, |pool| {
            let mut y = y_before.clone();
            elementwise::copy_channels(pool, pixels, &x, from, &mut y, to);
            y
        });
        let mut expected = y_before;
        reference::copy_channels(pixels, &x, from, &mut expected, to);
        assert_eq!(y, expected, "{what}");
        let dx = same_on_any_pool(&what, |pool| {
            let mut dx = dx_before.clone();
            elementwise::copy_channels_backward(pool, pixels, &dy, to, &mut dx, from);
            dx
        });
        let mut expected = dx_before;
        reference::copy_channels_backward(pixels, &dy, to, &mut expected, from);
        assert_eq!(dx, expected, "{what}");
    }
}

#[test]
fn copied_channels_of_bytes_are_the_definition() {
    for (images, pixels, from, to) in copies() {
        let [large, small] = lens(images, pixels, from, to);
        let x: Vec<u8> = (0..large).map(|index| (index * 7) as u8).collect();
        let mut expected = vec![77; small];
        reference::copy_channels(pixels, &x, from, &mut expected, to);
        for threads in [1, 3] {
            let mut y = vec![77; small];
            elementwise::copy_channels(&Pool::new(threads), pixels, &x, from, &mut y, to);
            assert_eq!(y, expected, "{images} images, {pixels:?}, {from:?} to {to:?}");
        }
    }
}

/// ⟨copy(x), dy⟩ = ⟨x, backward(dy)⟩.
#[test]
fn copied_channels_have_their_transpose_as_gradient() {
    for (images, pixels, from, to) in copies() {
        let [large, small] = lens(images, pixels, from, to);
        let (x, dy) = (uniform(1, large), uniform(2, small));
        let (mut y, mut dx) = (vec![0.0; small], vec![0.0; large]);
        elementwise::copy_channels(&Pool::new(2), pixels, &x, from, &mut y, to);
        elementwise::copy_channels_backward(&Pool::new(2), pixels, &dy, to, &mut dx, from);
        let (forward, backward) = (dot(&y, &dy), dot(&x, &dx));
        assert!((forward - backward).abs() < 1e-9, "{pixels:?}, {from:?} to {to:?}: {forward} against {backward}");
    }
}

/// `torch.cat` along channels, and `F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 1, 1))` on a 3 × 3 image.
#[test]
fn copied_channels_concatenate_and_shortcut_as_torch() {
    let pool = Pool::new(1);
    let mut y = [0.0; 6];
    let all = Subsample::all([1, 2]);
    elementwise::copy_channels(&pool, all, &[1.0, 2.0], slice(1, 0, 1), &mut y, slice(3, 0, 1));
    elementwise::copy_channels(&pool, all, &[3.0, 4.0, 5.0, 6.0], slice(2, 0, 2), &mut y, slice(3, 1, 2));
    assert_eq!(y, [1.0, 3.0, 4.0, 2.0, 5.0, 6.0]);

    let x: Vec<f32> = (1..10).map(|x| x as f32).collect();
    let mut y = [0.0; 12];
    let even = Subsample { size: [3, 3], stride: 2 };
    elementwise::copy_channels(&pool, even, &x, slice(1, 0, 1), &mut y, slice(3, 1, 1));
    assert_eq!(y, [0.0, 1.0, 0.0, 0.0, 3.0, 0.0, 0.0, 7.0, 0.0, 0.0, 9.0, 0.0]);
}
