//! The promises of the loader.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use residual_data::{
    Augmentation, ColorJitter, DataError, Dataset, ErasingMode, Format, GaussianBlur, Grayscale, HorizontalFlip,
    Loader, LoaderOptions, Mix, Operation, PadAndCrop, Padding, RandomErasing, RandomResizedCrop, Rotation, Sample,
    Sampler, Shapes, Split, Subset, Targets, TrainInterpolation, Transform, VerticalFlip,
};
use residual_files::FileError;
use residual_preprocess::{Image, Preprocessing, Views};

/// Images of one pixel whose value is their index; some cannot be read and some panic.
struct Numbers {
    len: usize,
    bad: Vec<usize>,
    panics: Vec<usize>,
    /// What the system answers to every read.
    broken: Option<std::io::ErrorKind>,
    pause: Duration,
    reads: AtomicUsize,
    names: Vec<String>,
    format: Format,
}

impl Numbers {
    fn new(len: usize) -> Self {
        let format =
            Format { image_size: Some([1, 1]), channels: 1, normalized: true, mean: vec![0.0], std: vec![1.0] };
        let names = (0..10).map(|name| name.to_string()).collect();
        let (pause, reads) = (Duration::ZERO, AtomicUsize::new(0));
        Self { len, bad: vec![], panics: vec![], broken: None, pause, reads, names, format }
    }
}

impl Dataset for Numbers {
    fn len(&self) -> usize {
        self.len
    }
    fn label(&self, index: usize) -> u32 {
        (index % 10) as u32
    }
    fn class_names(&self) -> &[String] {
        &self.names
    }
    fn sample(&self, index: usize) -> Result<Sample, DataError> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        std::thread::sleep(self.pause);
        if let Some(kind) = self.broken {
            return Err(FileError::read("a file".as_ref())(kind.into()).into());
        }
        assert!(!self.panics.contains(&index), "number {index}\nis cursed");
        if self.bad.contains(&index) {
            let (place, expected) = (self.describe(index), "a good number".into());
            return Err(DataError::Invalid { place, expected, got: "a bad one".into() });
        }
        Ok(Sample::Normalized { height: 1, width: 1, channels: 1, values: vec![index as f32] })
    }
    fn describe(&self, index: usize) -> String {
        format!("number {index}")
    }
    fn format(&self) -> &Format {
        &self.format
    }
}

fn one_pixel() -> Transform {
    Transform::evaluation(Preprocessing::unscaled([1, 1], &[0.0], &[1.0])).unwrap()
}

/// The augmentation of small images in He et al. (2015).
fn small_images() -> Augmentation {
    let crop = Operation::PadAndCrop(PadAndCrop { padding: 4, mode: Padding::Zero });
    Augmentation::new([crop, Operation::HorizontalFlip(HorizontalFlip::new(0.5))])
}

/// Every kind of operation.
fn all_operations() -> Augmentation {
    Augmentation {
        interpolation: Some(TrainInterpolation::Random),
        ..Augmentation::new([
            Operation::RandomResizedCrop(RandomResizedCrop { scale: [0.3, 1.0], ratio: [0.75, 1.33] }),
            Operation::HorizontalFlip(HorizontalFlip { probability: 0.5, alternating: true }),
            Operation::VerticalFlip(VerticalFlip { probability: 0.5 }),
            Operation::Rotation(Rotation { degrees: 20.0 }),
            Operation::AutoAugment("rand-m9-n3-p0.8-mstd0.5-inc1".parse().unwrap()),
            Operation::ColorJitter(ColorJitter::new(&[0.4, 0.4, 0.4, 0.1], 0.8).unwrap()),
            Operation::Grayscale(Grayscale { probability: 0.2 }),
            Operation::GaussianBlur(GaussianBlur { probability: 0.3 }),
            Operation::RandomErasing(RandomErasing { probability: 0.5, mode: ErasingMode::Pixel, count: 2 }),
        ])
    }
}

type Everything = Vec<(Vec<f32>, Vec<u32>, Vec<usize>)>;

fn all(dataset: Arc<dyn Dataset>, transform: &Transform, options: &LoaderOptions) -> Everything {
    let loader = Loader::new(dataset, transform.clone(), options.clone()).unwrap();
    let content = |batch: Result<residual_data::Batch, DataError>| {
        let batch = batch.unwrap();
        (batch.images().to_vec(), batch.labels().to_vec(), batch.indices().to_vec())
    };
    loader.map(content).collect()
}

#[test]
fn batches_are_the_same_for_any_number_of_workers() {
    let dataset: Arc<dyn Dataset> = Arc::new(Shapes::with_len(0, Split::Train, 300));
    let preprocessing = dataset.format().preprocessing().unwrap();
    for augmentation in [small_images(), all_operations()] {
        let transform = Transform::training(preprocessing.clone(), augmentation).unwrap();
        let options =
            LoaderOptions { batch_size: 32, sampler: Sampler::Shuffle, seed: 5, epoch: 2, ..LoaderOptions::default() };
        let alone = all(dataset.clone(), &transform, &options);
        assert_eq!(alone.len(), 10);
        for workers in [1, 2, 3, 8] {
            let options = LoaderOptions { workers, ..options.clone() };
            assert!(all(dataset.clone(), &transform, &options) == alone, "{workers} workers");
        }
        let later = all(dataset.clone(), &transform, &LoaderOptions { epoch: 3, ..options });
        assert!(later != alone, "another epoch has another order and other variations");
    }
}

#[test]
fn an_epoch_that_goes_on_in_the_middle_is_the_rest_of_it() {
    let options = LoaderOptions { batch_size: 7, sampler: Sampler::Shuffle, workers: 2, ..LoaderOptions::default() };
    let whole = all(Arc::new(Numbers::new(100)), &one_pixel(), &options);
    for start_batch in [1, 6, 14, 15, 99] {
        let rest = all(Arc::new(Numbers::new(100)), &one_pixel(), &LoaderOptions { start_batch, ..options.clone() });
        assert_eq!(rest, whole[start_batch.min(15)..]);
    }
}

/// The dataset index of every sample, and its augmented value in a set of one-pixel images.
fn draws(dataset: &Arc<dyn Dataset>, options: &LoaderOptions) -> Vec<usize> {
    all(dataset.clone(), &one_pixel(), options).into_iter().flat_map(|(_, _, indices)| indices).collect()
}

/// Ten classes of which class k has 10 (k + 1) of 550 samples.
fn unequal() -> Arc<dyn Dataset> {
    let indices = (0..10).flat_map(|class| (0..10 * (class + 1)).map(move |number| class + 10 * number)).collect();
    Arc::new(Subset::new(Arc::new(Numbers::new(1000)), indices))
}

#[test]
fn a_balanced_sampler_draws_every_class_equally_often() {
    let set = unequal();
    for (sampler, expected) in [
        (Sampler::Balanced, [55.0; 10]),
        // 550 √(10 k) / Σ √(10 k)
        (Sampler::SquareRoot, [24.5, 34.6, 42.4, 49.0, 54.7, 60.0, 64.8, 69.2, 73.4, 77.4]),
    ] {
        let mut counts = [0f64; 10];
        for epoch in 0..40 {
            let options = LoaderOptions { sampler, seed: 4, epoch, batch_size: 50, ..LoaderOptions::default() };
            let drawn = draws(&set, &options);
            assert_eq!(drawn.len(), 550, "as many samples as without weights");
            drawn.iter().for_each(|&index| counts[set.label(index) as usize] += 1.0 / 40.0);
        }
        for (class, (count, expected)) in counts.iter().zip(expected).enumerate() {
            assert!((count - expected).abs() < 4.0, "{sampler:?}, class {class}: {count}, not {expected}");
        }
    }
}

#[test]
fn a_weighted_order_is_the_same_for_any_workers_and_from_any_batch_on() {
    let options = LoaderOptions { sampler: Sampler::Balanced, batch_size: 50, workers: 3, ..LoaderOptions::default() };
    let whole = all(unequal(), &one_pixel(), &options);
    assert_eq!(all(unequal(), &one_pixel(), &LoaderOptions { workers: 0, ..options.clone() }), whole);
    assert_eq!(all(unequal(), &one_pixel(), &LoaderOptions { start_batch: 4, ..options.clone() }), whole[4..]);
    assert_ne!(all(unequal(), &one_pixel(), &LoaderOptions { epoch: 1, ..options }), whole);
}

/// timm: `RepeatAugSampler(dataset, num_replicas=1, rank=0, num_repeats=3)`.
#[test]
fn repeated_samples_follow_one_another_with_other_augmentations() {
    let set: Arc<dyn Dataset> = Arc::new(Numbers::new(600));
    let options = LoaderOptions { sampler: Sampler::Shuffle, repeats: 3, batch_size: 64, ..LoaderOptions::default() };
    let drawn = draws(&set, &options);
    assert_eq!(drawn.len(), 512, "600 // 256 * 256");
    assert!(drawn.chunks(3).all(|chunk| chunk.iter().all(|&index| index == chunk[0])));
    let distinct: BTreeSet<_> = drawn.iter().collect();
    assert_eq!(distinct.len(), 171);
    let shuffled = draws(&set, &LoaderOptions { repeats: 1, ..options.clone() });
    assert!(drawn.iter().step_by(3).eq(shuffled.iter().take(171)), "in the order of a shuffle");
    assert_eq!(draws(&(Arc::new(Numbers::new(200)) as Arc<dyn Dataset>), &options).len(), 200, "below 256 images");

    let shapes: Arc<dyn Dataset> = Arc::new(Shapes::with_len(0, Split::Train, 300));
    let transform = Transform::training(shapes.format().preprocessing().unwrap(), all_operations()).unwrap();
    let (images, _, indices) = &all(shapes.clone(), &transform, &options)[0];
    let (first, len) = (indices[0], 32 * 32 * 3);
    assert!(images[..len] != images[len..2 * len] && images[len..2 * len] != images[2 * len..3 * len]);
    let once = all(shapes, &transform, &LoaderOptions { repeats: 1, ..options });
    let (single, _, _) = once.iter().find(|(_, _, indices)| indices[0] == first).unwrap();
    assert!(single[..len] == images[..len], "the first one is augmented as without repetition");
}

#[test]
fn every_view_of_an_image_is_in_its_batch() {
    let dataset: Arc<dyn Dataset> = Arc::new(Shapes::with_len(0, Split::Test, 5));
    let preprocessing = Preprocessing { crop_pct: 0.8, ..dataset.format().preprocessing().unwrap() };
    let plain = Transform::evaluation(preprocessing.clone()).unwrap();
    let options = LoaderOptions { batch_size: 5, ..LoaderOptions::default() };
    let (single, ..) = &all(dataset.clone(), &plain, &options)[0];
    for (views, centre, mirrored) in [(Views::Flip, 0, 1), (Views::TenCrop, 4, 9)] {
        let transform = plain.clone().with_views(views).unwrap();
        let (images, labels, _) = &all(dataset.clone(), &transform, &options)[0];
        assert_eq!((images.len(), labels.len()), (views.count() * single.len(), 5));
        let len = single.len() / 5;
        for (views, single) in images.chunks(views.count() * len).zip(single.chunks(len)) {
            assert_eq!(&views[centre * len..][..len], single);
            let rows = single.chunks(32 * 3).flat_map(|row| row.chunks(3).rev().flatten());
            assert!(views[mirrored * len..][..len].iter().eq(rows));
        }
    }
    let values = plain.clone().with_views(Views::FiveCrop).unwrap().check(&Numbers::new(3)).unwrap_err().to_string();
    assert!(values.starts_with("dataset: "), "{values}");
    let training = Transform::training(preprocessing, small_images()).unwrap().with_views(Views::Flip);
    assert!(training.unwrap_err().to_string().starts_with("views: expected the transform of evaluation"));
}

#[test]
fn normalised_images_have_a_mirror_image_but_no_crops() {
    let numbers: Arc<dyn Dataset> = Arc::new(Numbers::new(3));
    let flipped = one_pixel().with_views(Views::Flip).unwrap();
    assert_eq!(all(numbers.clone(), &flipped, &LoaderOptions::default())[0].0, [0.0, 0.0, 1.0, 1.0, 2.0, 2.0]);
    let crops = one_pixel().with_views(Views::FiveCrop).unwrap().check(&*numbers).unwrap_err().to_string();
    assert!(crops.starts_with("augmentation: expected 8-bit images for several crops"), "{crops}");
}

/// A batch as whoever trains on it sees it: images, classes, and the classes mixed in with their weight.
type Mixed = (Vec<f32>, Vec<u32>, Option<(Vec<u32>, f32)>);

fn mixed(options: &LoaderOptions) -> Vec<Mixed> {
    let dataset: Arc<dyn Dataset> = Arc::new(Shapes::with_len(0, Split::Train, 300));
    let mix = Mix { mixup: 0.8, cutmix: 1.0, probability: 0.8, switch_probability: 0.5, ..Mix::default() };
    let augmentation = Augmentation { mix, ..small_images() };
    let transform = Transform::training(dataset.format().preprocessing().unwrap(), augmentation).unwrap();
    let content = |batch: Result<residual_data::Batch, DataError>| {
        let batch = batch.unwrap();
        let partners = match batch.targets() {
            Targets::Hard(labels) => {
                assert_eq!(labels, batch.labels());
                None
            }
            Targets::Mixed { a, b, lambda } => {
                assert_eq!(a, batch.labels());
                Some((b.to_vec(), lambda))
            }
            Targets::Soft { .. } => panic!("the set has classes only"),
        };
        (batch.images().to_vec(), batch.labels().to_vec(), partners)
    };
    Loader::new(dataset, transform, options.clone()).unwrap().map(content).collect()
}

#[test]
fn mixed_batches_are_the_same_for_any_number_of_workers_and_from_any_batch_on() {
    let options =
        LoaderOptions { batch_size: 11, sampler: Sampler::Shuffle, seed: 5, epoch: 2, ..LoaderOptions::default() };
    let alone = mixed(&options);
    let kinds: BTreeSet<_> = alone.iter().map(|(_, _, partners)| partners.is_some()).collect();
    assert_eq!((alone.len(), kinds.len()), (28, 2), "some batches are mixed and some are not");
    for workers in [1, 2, 5] {
        for start_batch in [0, 9, 27] {
            let options = LoaderOptions { workers, start_batch, ..options.clone() };
            assert!(mixed(&options) == alone[start_batch..], "{workers} workers from batch {start_batch} on");
        }
    }
    let shares = |batches: &[Mixed]| -> Vec<_> {
        batches.iter().map(|(_, _, partners)| partners.as_ref().map(|(_, lambda)| *lambda)).collect()
    };
    let later = mixed(&LoaderOptions { epoch: 3, ..options.clone() });
    assert_ne!(shares(&later), shares(&alone), "another epoch mixes anew");
    let single = mixed(&LoaderOptions { batch_size: 1, ..options });
    assert!(single.iter().all(|(_, _, partners)| partners.is_none()), "a batch of one image is not mixed");
}

#[test]
fn partners_are_the_images_before_and_evaluation_never_mixes() {
    let dataset: Arc<dyn Dataset> = Arc::new(Numbers::new(10));
    let preprocessing = Preprocessing::unscaled([1, 1], &[0.0], &[1.0]);
    let mix = Mix { mixup: 1.0, ..Mix::default() };
    let augmentation = Augmentation { mix, ..Augmentation::default() };
    let transform = Transform::training(preprocessing, augmentation).unwrap();
    let batch = Loader::new(dataset.clone(), transform, LoaderOptions::default()).unwrap().next().unwrap().unwrap();
    let Targets::Mixed { a, b, lambda } = batch.targets() else { panic!("a mixed batch") };
    assert_eq!(a, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    assert_eq!(b, [9, 0, 1, 2, 3, 4, 5, 6, 7, 8]);
    for (image, (&a, &b)) in batch.images().iter().zip(a.iter().zip(b)) {
        assert!((image - (lambda * a as f32 + (1.0 - lambda) * b as f32)).abs() < 1e-5);
    }
    let plain = Loader::new(dataset, one_pixel(), LoaderOptions::default()).unwrap().next().unwrap().unwrap();
    assert!(matches!(plain.targets(), Targets::Hard(_)));
}

#[test]
fn shuffling_is_a_permutation_and_evaluation_keeps_the_order() {
    let options = LoaderOptions { batch_size: 30, workers: 2, ..LoaderOptions::default() };
    let indices = |options: &LoaderOptions| -> Vec<usize> {
        all(Arc::new(Numbers::new(100)), &one_pixel(), options)
            .into_iter()
            .flat_map(|(_, _, indices)| indices)
            .collect()
    };
    assert_eq!(indices(&options), (0..100).collect::<Vec<_>>());
    let mut shuffled = indices(&LoaderOptions { sampler: Sampler::Shuffle, ..options });
    assert_ne!(shuffled, (0..100).collect::<Vec<_>>());
    shuffled.sort_unstable();
    assert_eq!(shuffled, (0..100).collect::<Vec<_>>());
}

#[test]
fn the_last_batch_is_kept_or_left_out() {
    let sizes = |drop_last| -> Vec<usize> {
        let options = LoaderOptions { batch_size: 30, drop_last, ..LoaderOptions::default() };
        all(Arc::new(Numbers::new(100)), &one_pixel(), &options).iter().map(|(_, labels, _)| labels.len()).collect()
    };
    assert_eq!(sizes(false), [30, 30, 30, 10]);
    assert_eq!(sizes(true), [30, 30, 30]);
    for (images, labels, indices) in all(Arc::new(Numbers::new(100)), &one_pixel(), &LoaderOptions::default()) {
        assert!(images.iter().zip(&indices).all(|(&image, &index)| image == index as f32));
        assert!(labels.iter().zip(&indices).all(|(&label, &index)| label as usize == index % 10));
    }
}

#[test]
fn a_bad_image_ends_the_run_in_its_turn() {
    for workers in [0, 3] {
        let dataset = Numbers { bad: vec![45], ..Numbers::new(100) };
        let options = LoaderOptions { batch_size: 10, workers, ..LoaderOptions::default() };
        let mut loader = Loader::new(Arc::new(dataset), one_pixel(), options).unwrap();
        for batch in loader.by_ref().take(4) {
            assert_eq!(batch.unwrap().len(), 10);
        }
        let error = loader.next().unwrap().unwrap_err();
        assert_eq!(error.to_string(), "number 45: expected a good number, got a bad one");
        assert!(loader.next().is_none(), "nothing comes after an error");
    }
}

#[test]
fn a_panic_in_a_worker_is_an_error_of_one_line() {
    for workers in [0, 2] {
        let dataset = Numbers { panics: vec![3], ..Numbers::new(10) };
        let options = LoaderOptions { workers, ..LoaderOptions::default() };
        let mut loader = Loader::new(Arc::new(dataset), one_pixel(), options).unwrap();
        let error = loader.next().unwrap().unwrap_err();
        assert_eq!(error.to_string(), "number 3: the dataset failed: number 3 is cursed");
    }
}

#[test]
fn skipped_images_are_listed_and_leave_smaller_batches_in_evaluation() {
    for workers in [0, 3] {
        let dataset = Numbers { bad: vec![0, 5, 10, 11, 12, 13, 14], ..Numbers::new(18) };
        let options = LoaderOptions { batch_size: 5, workers, skip_bad_images: true, ..LoaderOptions::default() };
        let mut loader = Loader::new(Arc::new(dataset), one_pixel(), options).unwrap();
        let batches: Vec<Vec<usize>> = loader.by_ref().map(|batch| batch.unwrap().indices().to_vec()).collect();
        assert_eq!(batches, [vec![1, 2, 3, 4], vec![6, 7, 8, 9], vec![], vec![15, 16, 17]]);
        let skipped: Vec<usize> = loader.skipped().iter().map(|skipped| skipped.index).collect();
        assert_eq!(skipped, [0, 5, 10, 11, 12, 13, 14]);
        assert_eq!(loader.skipped()[1].reason, "number 5: expected a good number, got a bad one");
    }
}

#[test]
fn errors_that_affect_good_images_too_are_never_skipped() {
    for kind in [std::io::ErrorKind::Other, std::io::ErrorKind::OutOfMemory, std::io::ErrorKind::PermissionDenied] {
        for drop_last in [false, true] {
            let dataset = Arc::new(Numbers { broken: Some(kind), ..Numbers::new(10) });
            let options = LoaderOptions { batch_size: 5, drop_last, skip_bad_images: true, ..LoaderOptions::default() };
            let mut loader = Loader::new(dataset, one_pixel(), options).unwrap();
            assert!(matches!(loader.next().unwrap().unwrap_err(), DataError::File(_)), "{kind}");
            assert!(loader.skipped().is_empty() && loader.next().is_none());
        }
    }
    let dataset = Arc::new(Numbers { broken: Some(std::io::ErrorKind::NotFound), ..Numbers::new(10) });
    let options = LoaderOptions { skip_bad_images: true, ..LoaderOptions::default() };
    assert!(Loader::new(dataset, one_pixel(), options).unwrap().next().unwrap().unwrap().is_empty());
}

#[test]
fn a_batch_that_memory_cannot_hold_is_an_error() {
    let transform = Transform::evaluation(Preprocessing::unscaled([16_384; 2], &[0.0; 3], &[1.0; 3])).unwrap();
    let dataset = Arc::new(Shapes::with_len(0, Split::Test, 4));
    let options = LoaderOptions { batch_size: 1 << 40, ..LoaderOptions::default() };
    let error = Loader::new(dataset, transform, options).unwrap().next().unwrap().unwrap_err().to_string();
    let (images, rest) = error.split_once(": expected ").unwrap();
    assert_eq!(images, "a batch of 1099511627776 images");
    assert!(rest.ends_with(" MiB of memory, got less"), "{error}");
}

#[test]
fn training_batches_stay_full_when_images_are_skipped() {
    let options = LoaderOptions {
        batch_size: 8,
        sampler: Sampler::Shuffle,
        drop_last: true,
        skip_bad_images: true,
        ..LoaderOptions::default()
    };
    let run = |workers, start_batch| {
        let dataset = Arc::new(Numbers { bad: (0..20).collect(), ..Numbers::new(40) });
        all(dataset, &one_pixel(), &LoaderOptions { workers, start_batch, ..options.clone() })
    };
    let alone = run(0, 0);
    assert!(alone.iter().all(|(_, _, indices)| indices.len() == 8 && indices.iter().all(|&index| index >= 20)));
    assert_eq!(run(3, 0), alone, "the substitutes do not depend on the workers");
    assert_eq!(run(2, 2), alone[2..], "nor on where the epoch began");
}

#[test]
fn a_set_without_a_good_image_ends_with_an_error() {
    let dataset = Numbers { bad: (0..4).collect(), ..Numbers::new(4) };
    let options = LoaderOptions { batch_size: 2, drop_last: true, skip_bad_images: true, ..LoaderOptions::default() };
    let mut loader = Loader::new(Arc::new(dataset), one_pixel(), options).unwrap();
    assert!(loader.next().unwrap().is_err());
}

#[test]
fn a_loader_that_is_dropped_early_stops_its_threads() {
    let dataset = Arc::new(Numbers { pause: Duration::from_millis(20), ..Numbers::new(10_000) });
    let options = LoaderOptions { batch_size: 1000, workers: 2, ..LoaderOptions::default() };
    let start = Instant::now();
    drop(Loader::new(dataset.clone(), one_pixel(), options).unwrap());
    assert!(start.elapsed() < Duration::from_secs(5), "a batch alone would take 20 s");
    assert_eq!(Arc::strong_count(&dataset), 1, "no thread holds the dataset");
}

#[test]
fn no_more_than_a_few_batches_are_prepared_ahead() {
    let dataset = Arc::new(Numbers::new(1000));
    let options = LoaderOptions { batch_size: 10, workers: 2, ..LoaderOptions::default() };
    let mut loader = Loader::new(dataset.clone(), one_pixel(), options).unwrap();
    let first = loader.next().unwrap().unwrap();
    std::thread::sleep(Duration::from_millis(200));
    assert!(dataset.reads.load(Ordering::Relaxed) <= 50, "{:?} images were read", dataset.reads);
    drop(first);
    let (mut images, mut labels, mut indices) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for batch in loader {
        let batch = batch.unwrap();
        images.insert(batch.images().as_ptr());
        labels.insert(batch.labels().as_ptr());
        indices.insert(batch.indices().as_ptr());
    }
    for places in [images.len(), labels.len(), indices.len()] {
        assert!(places <= 6, "99 batches lay in {places} buffers");
    }
}

#[test]
fn options_that_make_no_sense_are_refused() {
    let refused =
        |len, options| Loader::new(Arc::new(Numbers::new(len)), one_pixel(), options).err().unwrap().to_string();
    let empty = LoaderOptions { batch_size: 0, ..LoaderOptions::default() };
    assert_eq!(refused(3, empty), "batch size: expected at least 1, got 0");
    assert_eq!(refused(0, LoaderOptions::default()), "dataset: expected at least one image, got none");
    let transform = Transform::evaluation(Preprocessing::unscaled([2, 2], &[0.0], &[1.0])).unwrap();
    let error = Loader::new(Arc::new(Numbers::new(3)), transform, LoaderOptions::default()).err().unwrap();
    assert!(error.to_string().contains("expected images of 2x2 with 1 channels, got 1x1 with 1"), "{error}");
}

#[test]
fn pixels_are_normalised_as_torchvision_does_it() {
    let shapes = Shapes::with_len(0, Split::Test, 4);
    let Sample::Pixels(image) = shapes.sample(2).unwrap() else { panic!("shapes10 has pixels") };
    let transform = Transform::evaluation(shapes.format().preprocessing().unwrap()).unwrap();
    let batch = Loader::new(Arc::new(shapes), transform, LoaderOptions::default()).unwrap().next().unwrap().unwrap();
    let got = &batch.images()[2 * 3072..][..3072];
    let expected = |(at, &value): (usize, &u8)| (f32::from(value) / 255.0 - Shapes::MEAN[at % 3]) / Shapes::STD[at % 3];
    let expected: Vec<f32> = Image::pixels(&image).iter().enumerate().map(expected).collect();
    assert_eq!(got, expected);
}
