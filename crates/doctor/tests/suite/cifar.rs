//! CIFAR-10 examined: duplicates across its splits, and planted label noise. Real data, where they are.

use residual_data::{Dataset, Sample, Source, Split};
use residual_doctor::{Check, Collection, ExamineOptions, examine};
use residual_engine::Options;
use residual_files::save_tensors;
use residual_infer::ModelRequest;
use residual_model::Model;
use residual_tensor::{NamedTensors, Stream, Tensor};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The folder of test data, or `None` with a note; a failure where data is required.
fn test_data() -> Option<PathBuf> {
    let data = std::env::var_os("RESIDUAL_TEST_DATA").filter(|data| !data.is_empty()).map(PathBuf::from);
    if data.is_none() {
        let required = std::env::var("RESIDUAL_REQUIRE_DATA").is_ok_and(|required| required == "1");
        assert!(!required, "RESIDUAL_REQUIRE_DATA is set, but RESIDUAL_TEST_DATA is not");
        eprintln!("skipped: RESIDUAL_TEST_DATA is not set");
    }
    data.map(|path| std::fs::canonicalize(Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)).unwrap())
}

fn cifar(data: &Path, split: Split) -> Arc<dyn Dataset> {
    Source::open("cifar10", Some(data)).unwrap().split(split).unwrap()
}

/// How planted label noise was found.
#[derive(Debug)]
struct Found {
    /// The share of suspects whose label was changed.
    precision: f64,
    /// The share of changed labels that are suspected.
    recall: f64,
}

/// Changes one of 20 labels of the first `count` images to another one at random, and looks for them.
fn planted(dataset: &dyn Dataset, count: usize, model: Option<&Model>) -> Found {
    let mut random = Stream::new(20, &[]);
    let (mut pixels, mut labels) = (Vec::new(), Vec::new());
    for index in 0..count {
        let Sample::Pixels(image) = dataset.sample(index).unwrap() else { panic!("pixels") };
        // N×C×H×W, as files of tensors have it.
        (0..3).for_each(|channel| pixels.extend(image.pixels().iter().skip(channel).step_by(3)));
        labels.push(i64::from(dataset.label(index)));
    }
    let mut changed: Vec<usize> = (0..count).collect();
    random.shuffle(&mut changed);
    let changed: BTreeSet<usize> = changed[..count / 20].iter().copied().collect();
    changed.iter().for_each(|&index| labels[index] = (labels[index] + 1 + i64::from(random.below(9))) % 10);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("noisy.safetensors");
    let tensors = NamedTensors::from_iter([
        ("images".to_owned(), Tensor::u8(&[count, 3, 32, 32], pixels)),
        ("labels".to_owned(), Tensor::i64(&[count], labels)),
    ]);
    save_tensors(&file, &tensors, &Default::default()).unwrap();
    let images = Collection::open(&Source::open(file.to_str().unwrap(), None).unwrap()).unwrap();
    let options = ExamineOptions { checks: [Check::Labels].into(), ..ExamineOptions::new(Options::threads(2)) };
    let examination = examine(&images, model, &options, &Default::default(), &mut |_| {}).unwrap().unwrap();
    println!("{:?}", examination.labels);
    let suspects: Vec<usize> = examination
        .finding(Check::Labels)
        .map_or(Vec::new(), |found| found.groups.iter().map(|group| group.images[0]).collect());
    let hits = suspects.iter().filter(|suspect| changed.contains(suspect)).count() as f64;
    let found = Found { precision: hits / suspects.len().max(1) as f64, recall: hits / changed.len() as f64 };
    println!("{count} images, 5 % of the labels changed: {} suspects, {found:?}", suspects.len());
    found
}

#[test]
fn planted_label_noise_is_found_without_a_network() {
    let Some(data) = test_data() else { return };
    let found = planted(&*cifar(&data, Split::Train), 1500, None);
    // One of 20 is the share of a guess.
    assert!(found.precision > 0.4 && found.recall > 0.2, "{found:?}");
}

#[test]
#[ignore = "takes a minute; its figures are in docs/doctor.md"]
fn planted_label_noise_of_5000_images() {
    let Some(data) = test_data() else { return };
    let found = planted(&*cifar(&data, Split::Train), 5000, None);
    assert!(found.precision > 0.55 && found.recall > 0.3, "{found:?}");
    // Of images that the network was not trained on.
    let weights = data.join("akamaster/resnet20-12fca82f.th");
    let request = ModelRequest { model: Some("resnet20_a".into()), ..ModelRequest::new(weights) };
    let images = cifar(&data, Split::Test);
    let model = request.open().unwrap().read(Some(images.format())).unwrap().model;
    let found = planted(&*images, 5000, Some(&model));
    assert!(found.precision > 0.6 && found.recall > 0.8, "{found:?}");
}

#[test]
#[ignore = "takes a minute; its figures are in docs/doctor.md"]
fn test_images_that_are_nearly_training_images_are_counted() {
    let Some(data) = test_data() else { return };
    let images = Collection::open(&Source::open("cifar10", Some(&data)).unwrap()).unwrap();
    let checks = [
        Check::NearLeakage,
        Check::Leakage,
        Check::NearDuplicates,
        Check::Blurry,
        Check::Dark,
        Check::Light,
        Check::Flat,
    ];
    let options = ExamineOptions { checks: checks.into(), ..ExamineOptions::new(Options::threads(2)) };
    let examination = examine(&images, None, &options, &Default::default(), &mut |_| {}).unwrap().unwrap();
    examination.findings.iter().for_each(|finding| println!("{}: {}", finding.check, finding.message));
    let groups = &examination.finding(Check::NearLeakage).expect("CIFAR-10 has them").groups;
    let test: BTreeSet<usize> =
        groups.iter().flat_map(|group| &group.images).copied().filter(|&image| images.split(image) == 1).collect();
    let of_one_class = groups
        .iter()
        .filter(|group| group.images.iter().map(|&image| images.class(image)).collect::<BTreeSet<u32>>().len() == 1);
    let share = of_one_class.count() as f64 / groups.len() as f64;
    println!("{} test images, {} groups, of one class: {share:.3}", test.len(), groups.len());
    // Barz and Denzler, "Do we train on test data?" (ciFAIR, 2020) count 3.3 % by hand, crops and other colours included.
    assert!((150..=330).contains(&test.len()), "{}", test.len());
    assert!(share > 0.98, "{share}");
}
