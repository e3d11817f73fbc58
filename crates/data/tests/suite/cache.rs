//! Decoded images in memory: what a loader makes of them, and their limit.

use std::sync::Arc;

use residual_data::{
    Augmentation, DataError, Dataset, DecodedImages, HorizontalFlip, ImageMemory, Loader, LoaderOptions, Operation,
    RandomResizedCrop, Source, Split, Subset, Transform,
};
use residual_preprocess::Preprocessing;

use crate::support::{png, write};

/// Twelve images of 48×40 pixels, 5,760 bytes each.
fn folder(root: &std::path::Path) -> Arc<dyn Dataset> {
    for number in 0..12u8 {
        let class = ["ants", "bees"][usize::from(number % 2)];
        write(&root.join(format!("{class}/{number}.png")), &png(48, 40, [number, 100, 200 - number]));
    }
    Source::open(root.to_str().unwrap(), None).unwrap().split(Split::Train).unwrap()
}

fn transforms() -> [Transform; 2] {
    let preprocessing = Preprocessing { size: [24, 24], ..Preprocessing::imagenet() };
    let crop = Operation::RandomResizedCrop(RandomResizedCrop { scale: [0.1, 1.0], ratio: [0.75, 1.33] });
    let augmentation = Augmentation::new([crop, Operation::HorizontalFlip(HorizontalFlip::new(0.5))]);
    [Transform::training(preprocessing.clone(), augmentation), Transform::evaluation(preprocessing)].map(Result::unwrap)
}

type Batches = Vec<(Vec<u32>, Vec<u32>)>;

/// The bits of two epochs' images, and their labels.
fn epochs(dataset: &Arc<dyn Dataset>, transform: &Transform, workers: usize) -> Result<Batches, DataError> {
    let mut batches = Vec::new();
    for epoch in 0..2 {
        let options = LoaderOptions { batch_size: 5, epoch, workers, ..LoaderOptions::default() };
        for batch in Loader::new(dataset.clone(), transform.clone(), options)? {
            let batch = batch?;
            let bits = batch.images().iter().map(|value| value.to_bits()).collect();
            batches.push((bits, batch.labels().to_vec()));
        }
    }
    Ok(batches)
}

#[test]
fn kept_images_give_the_same_batches_whether_all_fit_or_some_or_none() {
    let root = tempfile::tempdir().unwrap();
    let plain = folder(root.path());
    for transform in transforms() {
        let expected = epochs(&plain, &transform, 0).unwrap();
        for (limit, used, told) in
            [(1 << 20, 12 * 5760, None), (20_000, 3 * 5760, Some("3 of 12 images")), (0, 0, Some("0 of 12"))]
        {
            for workers in [0, 3] {
                let memory = ImageMemory::new(limit);
                let kept: Arc<dyn Dataset> = Arc::new(DecodedImages::new(plain.clone(), memory.clone()));
                assert!(epochs(&kept, &transform, workers).unwrap() == expected, "{limit} bytes, {workers} workers");
                assert_eq!(memory.used(), used, "{limit} bytes");
                let shortage = memory.shortage();
                assert_eq!(shortage.is_some(), told.is_some(), "{shortage:?}");
                assert!(shortage.unwrap_or_default().starts_with(told.unwrap_or_default()));
                drop(kept);
                assert_eq!(memory.used(), 0, "given back");
            }
        }
    }
}

#[test]
fn kept_images_need_their_files_no_more_and_others_do() {
    let root = tempfile::tempdir().unwrap();
    let memory = ImageMemory::new(8 * 5760);
    let kept: Arc<dyn Dataset> = Arc::new(DecodedImages::new(folder(root.path()), memory));
    let [transform, _] = transforms();
    let before = epochs(&kept, &transform, 0).unwrap();
    std::fs::remove_dir_all(root.path().join("bees")).unwrap();
    // In order, the first eight fit: the six ants and two bees.
    let part =
        |indices: std::ops::Range<usize>| Arc::new(Subset::new(kept.clone(), indices.collect())) as Arc<dyn Dataset>;
    let first = epochs(&part(0..5), &transform, 0).unwrap();
    assert!(first[0] == before[0]);
    assert!(epochs(&part(0..8), &transform, 0).is_ok());
    let error = epochs(&kept, &transform, 0).unwrap_err();
    assert!(error.is_bad_image() && error.to_string().contains("bees"), "{error}");
}

#[test]
fn pixels_that_are_in_memory_are_not_kept_twice() {
    let shapes = Source::open("shapes10", None).unwrap().split(Split::Test).unwrap();
    let memory = ImageMemory::new(1 << 30);
    let kept = DecodedImages::new(shapes.clone(), memory.clone());
    assert!(kept.decoded(3).unwrap().is_none() && kept.sample(3).unwrap() == shapes.sample(3).unwrap());
    assert_eq!((memory.used(), memory.shortage()), (0, None));
}
