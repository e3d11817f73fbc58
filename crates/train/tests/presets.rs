//! The built-in recipes, each against the steps and learning rates of its source, worked out by hand.

use residual_train::{Layer, Opt, PRESETS, Recipe, Schedule};

/// Images of a training set.
const CIFAR: u64 = 50_000;
const IMAGENET: u64 = 1_281_167;

/// A recipe, its training images and total steps, and learning rates at some steps, from 0.
struct Trace {
    name: &'static str,
    images: u64,
    steps: u64,
    rates: &'static [(u64, f64)],
}

const TRACES: &[Trace] = &[
    // 64k steps of 128 images, the rate divided by 10 at 32k and 48k.
    Trace {
        name: "he2015-cifar",
        images: CIFAR,
        steps: 64_000,
        rates: &[(0, 0.1), (31_999, 0.1), (32_000, 0.01), (47_999, 0.01), (48_000, 0.001), (63_999, 0.001)],
    },
    // The same with a warm-up from 0.01 in 400 steps.
    Trace {
        name: "preact-cifar",
        images: CIFAR,
        steps: 64_000,
        rates: &[(400, 0.1), (31_999, 0.1), (32_000, 0.01), (63_999, 0.001)],
    },
    // 196 steps an epoch: 200 epochs of a cosine.
    Trace { name: "cifar-modern", images: CIFAR, steps: 39_200, rates: &[(0, 0.1), (19_600, 0.05)] },
    // 391 steps an epoch; factor 0.2 at 60, 120 and 160.
    Trace {
        name: "wrn",
        images: CIFAR,
        steps: 78_200,
        rates: &[(0, 0.1), (60 * 391 - 1, 0.1), (60 * 391, 0.02), (120 * 391, 0.004), (160 * 391, 0.0008)],
    },
    Trace {
        name: "resnext-cifar",
        images: CIFAR,
        steps: 117_300,
        rates: &[(0, 0.1), (150 * 391 - 1, 0.1), (150 * 391, 0.01), (225 * 391, 0.001)],
    },
    Trace {
        name: "lecture-cifar",
        images: CIFAR,
        steps: 164 * 391,
        rates: &[(82 * 391 - 1, 0.1), (82 * 391, 0.01), (123 * 391, 0.001)],
    },
    // 1000 full batches of 50 images.
    Trace { name: "lecture-adam", images: CIFAR, steps: 100_000, rates: &[(0, 2e-4), (99_999, 2e-4)] },
    // 5005 batches of 256.
    Trace {
        name: "torchvision-v1",
        images: IMAGENET,
        steps: 90 * 5005,
        rates: &[(0, 0.1), (30 * 5005 - 1, 0.1), (30 * 5005, 0.01), (60 * 5005, 0.001), (90 * 5005 - 1, 0.001)],
    },
    // 1252 batches of 1024: five epochs from 0.005 to 0.5, then a cosine over 595.
    Trace {
        name: "torchvision-v2",
        images: IMAGENET,
        steps: 600 * 1252,
        rates: &[(0, 0.005), (5 * 1252, 0.5), (1252 * 5 + 1252 * 297, 0.250_660)],
    },
    // 626 batches of 2048; timm's cosine per epoch, whose warm-up is a part of it.
    Trace {
        name: "rsb-a3",
        images: IMAGENET,
        steps: 100 * 626,
        rates: &[(0, 1e-6), (626, 1.600_8e-3), (50 * 626, 4.000_5e-3)],
    },
    Trace { name: "imagenet-100", images: IMAGENET, steps: 100 * 5005, rates: &[(30 * 5005, 0.01), (90 * 5005, 1e-4)] },
];

#[test]
fn recipes_take_the_steps_and_rates_of_their_sources() {
    for Trace { name, images, steps, rates } in TRACES {
        let recipe = Recipe::resolve(&[Layer::preset(name).unwrap()]).unwrap().recipe;
        let batch = (recipe.batch_size * recipe.grad_accum_steps) as u64;
        let schedule = Schedule::new(&recipe, if recipe.drop_last { images / batch } else { images.div_ceil(batch) });
        assert_eq!(schedule.total_steps(), *steps, "{name}");
        for &(step, rate) in *rates {
            let got = schedule.lr(step);
            assert!((got - rate).abs() <= 1e-5 * rate, "{name}: step {step}: expected {rate}, got {got}");
        }
    }
}

#[test]
fn every_recipe_is_valid_and_names_its_network() {
    for preset in PRESETS {
        let layers = [Layer::preset(preset.name).unwrap(), Layer::parse("data", "data = \"photos\"").unwrap()];
        let recipe = Recipe::resolve(&layers).unwrap().recipe;
        assert!(residual_zoo::find(&recipe.model).is_ok(), "{}", preset.name);
    }
    let rsb = Recipe::resolve(&[Layer::preset("rsb-a1").unwrap()]).unwrap().recipe;
    assert_eq!((rsb.opt, rsb.epochs, rsb.batch_size), (Opt::Lamb, Some(600), 2048));
}

/// A built-in recipe that was copied to a file is the same recipe.
#[test]
fn the_description_in_a_file_is_no_setting() {
    let preset = PRESETS.iter().find(|preset| preset.name == "wrn").unwrap();
    let of = |layer: Layer| Recipe::resolve(&[layer]).unwrap().recipe;
    assert_eq!(of(Layer::parse("copy.toml", preset.text).unwrap()), of(Layer::preset("wrn").unwrap()));
    let error = Layer::parse("my.toml", "about = 3").unwrap_err().to_string();
    assert!(error.contains("about"), "{error}");
}
