//! Training on images listed in a CSV file.

use crate::support;

use residual_infer::{Classifier, EvaluateOptions, evaluate};
use residual_model::Activation;
use residual_preprocess::Image;
use residual_train::{Job, Outcome, Recipe, RunFolder, Sampler, train};
use std::path::Path;
use support::{assert_same_run, finished, interrupted, never, options};

/// 24 images of 8×8, of which the first third is red, the second green and the last both; the list has the given labels.
fn list(folder: &Path, labels: [&str; 3]) -> String {
    let mut text = String::from("path,label\n");
    for image in 0..24 {
        let color = [[200, 20, 20], [20, 200, 20], [200, 200, 20]][image / 8];
        let pixels = (0..64).flat_map(|at| color.map(|value: u8| value.wrapping_add((at * (image + 3)) as u8 % 40)));
        let bytes: Vec<u8> = b"P6 8 8 255\n".iter().copied().chain(pixels).collect();
        std::fs::write(folder.join(format!("{image}.ppm")), bytes).unwrap();
        text += &format!("{image}.ppm,{}\n", labels[image / 8]);
    }
    let path = folder.join("list.csv");
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

fn recipe(data: String) -> Recipe {
    Recipe {
        data,
        batch_size: 6,
        epochs: Some(3),
        lr: 0.05,
        img_size: Some(8),
        val_split: Some(0.25),
        log_every: 1,
        checkpoint_every: Some(2),
        ..Recipe::default()
    }
}

#[test]
fn several_labels_train_with_binary_cross_entropy_and_resume_to_the_bit() {
    let folder = tempfile::tempdir().unwrap();
    let data = list(folder.path(), ["red", "green", "red;green"]);
    let runs = folder.path().join("runs");
    let refused = |recipe: Recipe| Job::prepare(recipe).err().unwrap().to_string();
    assert!(refused(recipe(data.clone())).starts_with("bce_loss: expected true for images with several labels"));
    let bce = Recipe { bce_loss: true, aug_repeats: 3, ..recipe(data) };
    let wide = refused(Recipe { num_classes: Some(4), ..bce.clone() });
    assert_eq!(wide, "num_classes: expected 2, the classes of the images' targets, got 4");
    let job = Job::prepare(bce).unwrap();
    assert_eq!((job.model.labels.clone(), job.train.len()), (vec!["green".to_owned(), "red".into()], 18));
    let reference = finished(&train(&job, &runs, &options(2), &never(), &mut |_| {}).unwrap());
    let (interruptions, outcome) = interrupted(&job, &runs, &[2], &[3, 5, 8]);
    assert!(interruptions > 2, "{interruptions}");
    assert_same_run(&reference, &finished(&outcome));
}

/// The metrics of a run are those of an evaluation of its model, and the model's probabilities those that were trained.
#[test]
fn several_labels_are_evaluated_by_sigmoids_and_so_is_the_saved_model() {
    let folder = tempfile::tempdir().unwrap();
    let data = list(folder.path(), ["red", "green", "red;green"]);
    let job = Job::prepare(Recipe { bce_loss: true, ..recipe(data) }).unwrap();
    let outcome = train(&job, &folder.path().join("runs"), &options(1), &never(), &mut |_| {}).unwrap();
    let Outcome::Finished(trained) = outcome else { panic!("interrupted") };
    let saved = residual_weights::load(&RunFolder::open(&trained.summary.run).unwrap().last()).unwrap().model;
    assert_eq!((saved.activation, trained.model.activation), (Activation::Sigmoid, Activation::Sigmoid));

    let held_out = job.held_out.clone().unwrap();
    let how = EvaluateOptions { engine: options(1), ..EvaluateOptions::default() };
    let evaluation = evaluate(&saved, &held_out, &how, &never(), &mut |_, _| {}).unwrap().unwrap();
    assert_eq!(trained.summary.top1, Some(evaluation.top1));
    let loss = trained.summary.loss.unwrap();
    assert!((loss - evaluation.calibration.loss).abs() < 1e-9, "{loss} {}", evaluation.calibration.loss);

    let image = Image::new(8, 8, 3, vec![200; 192]).unwrap();
    let classified = Classifier::new(saved).unwrap().classify(&image).unwrap();
    for (probability, logit) in classified.probabilities().into_iter().zip(classified.logits()) {
        assert_eq!(probability, 1.0 / (1.0 + (-logit).exp()));
    }
}

#[test]
fn a_balanced_order_of_one_label_each_resumes_to_the_bit() {
    let folder = tempfile::tempdir().unwrap();
    let data = list(folder.path(), ["red", "red", "yellow"]);
    let runs = folder.path().join("runs");
    let run = |sampler| {
        let job = Job::prepare(Recipe { sampler, ..recipe(data.clone()) }).unwrap();
        let outcome = train(&job, &runs, &options(1), &never(), &mut |_| {}).unwrap();
        let Outcome::Finished(trained) = outcome else { panic!("interrupted") };
        (job, RunFolder::open(&trained.summary.run).unwrap())
    };
    let (job, balanced) = run(Sampler::Balanced);
    let (_, outcome) = interrupted(&job, &runs, &[2], &[4, 7]);
    assert_same_run(&balanced, &finished(&outcome));
    let (_, shuffled) = run(Sampler::Shuffle);
    assert!(support::tensors(&shuffled.last()) != support::tensors(&balanced.last()));
}
