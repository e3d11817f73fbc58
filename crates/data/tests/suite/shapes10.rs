//! The promises of the built-in dataset.

use residual_data::{Dataset, Sample, Shapes, Split};

fn pixels(set: &Shapes, index: usize) -> Vec<u8> {
    let Sample::Pixels(image) = set.sample(index).unwrap() else { panic!("shapes10 has pixels") };
    assert_eq!((image.height(), image.width(), image.channels()), (32, 32, 3));
    image.into_pixels()
}

#[test]
fn an_image_depends_on_seed_split_and_index_alone() {
    let set = Shapes::with_len(0, Split::Train, 50);
    let backwards = Shapes::with_len(0, Split::Train, 1000);
    for index in (0..50).rev() {
        assert_eq!(pixels(&set, index), pixels(&backwards, index));
    }
    assert_ne!(pixels(&set, 0), pixels(&Shapes::with_len(1, Split::Train, 1), 0));
    assert_ne!(pixels(&set, 0), pixels(&Shapes::with_len(0, Split::Test, 1), 0));
    assert_ne!(pixels(&set, 0), pixels(&set, 10), "two images of one class");
}

/// Fails when the drawing changes: scores and statistics in docs/datasets.md would no longer hold.
#[test]
fn the_pixels_are_the_recorded_ones() {
    let hash = |set: &Shapes| {
        let bytes = (0..100).flat_map(|index| pixels(set, index));
        bytes.fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
    };
    let hashes = [Split::Train, Split::Test].map(|split| hash(&Shapes::new(0, split)));
    assert_eq!(hashes, RECORDED, "got {hashes:#x?}");
}

#[test]
fn labels_are_balanced_and_named() {
    let set = Shapes::new(0, Split::Test);
    assert_eq!((set.len(), Shapes::new(0, Split::Train).len(), set.class_names().len()), (2_000, 10_000, 10));
    let mut counts = [0; 10];
    (0..set.len()).for_each(|index| counts[set.label(index) as usize] += 1);
    assert_eq!(counts, [200; 10]);
}

#[test]
fn the_usual_statistics_are_those_of_the_training_images() {
    let set = Shapes::new(0, Split::Train);
    let (mut sums, mut squares) = ([0.0f64; 3], [0.0f64; 3]);
    let start = std::time::Instant::now();
    for index in 0..set.len() {
        for (at, value) in pixels(&set, index).into_iter().enumerate() {
            sums[at % 3] += f64::from(value) / 255.0;
            squares[at % 3] += (f64::from(value) / 255.0).powi(2);
        }
    }
    eprintln!("10,000 images in {:.2?}", start.elapsed());
    let count = (set.len() * 1024) as f64;
    for channel in 0..3 {
        let mean = sums[channel] / count;
        let std = (squares[channel] / count - mean * mean).sqrt();
        eprintln!("channel {channel}: mean {mean:.4} std {std:.4}");
        assert!((mean - f64::from(set.format().mean[channel])).abs() < 1e-4);
        assert!((std - f64::from(set.format().std[channel])).abs() < 1e-4);
    }
}

/// FNV-1a of the first hundred images of the training and of the test split.
const RECORDED: [u64; 2] = [0x3cae_2be1_c600_e0af, 0xdbfe_b71e_5d8e_04f1];
