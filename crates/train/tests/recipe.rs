//! Which setting wins, and what is said about a setting that cannot be followed.

use residual_train::{Augment, Layer, PRESETS, Recipe, RecipeError, Sched};

fn layer(text: &str) -> Layer {
    Layer::parse("my.toml", text).unwrap()
}

fn error(text: &str) -> String {
    let layers = Layer::parse("my.toml", text).map(|layer| vec![Layer::preset("cifar-quick").unwrap(), layer]);
    layers.and_then(|layers| Recipe::resolve(&layers)).unwrap_err().to_string()
}

#[test]
fn flags_win_over_the_file_and_the_file_over_the_preset() {
    let preset = Layer::preset("he2015-cifar").unwrap();
    let file = layer("lr = 0.05\nmomentum = 0.8");
    let flags = layer("lr = 0.01");
    let recipe = Recipe::resolve(&[preset, file, flags]).unwrap();
    assert_eq!((recipe.lr, recipe.momentum, recipe.weight_decay), (0.01, 0.8, 1e-4));
}

#[test]
fn every_preset_resolves_and_holds_the_published_numbers() {
    let get = |name: &str| Recipe::resolve(&[Layer::preset(name).unwrap()]).unwrap();
    for preset in PRESETS {
        get(preset.name);
    }
    let he = get("he2015-cifar");
    assert_eq!((he.lr, he.momentum, he.weight_decay, he.batch_size), (0.1, 0.9, 1e-4, 128));
    assert_eq!((he.max_steps, he.milestone_steps, he.gamma), (Some(64_000), Some(vec![32_000, 48_000]), Some(0.1)));
    assert_eq!((he.augment, he.crop_padding, he.hflip, he.epochs), (Augment::Crop, 4, 0.5, None));
    let lecture = get("lecture-cifar");
    assert_eq!((lecture.epochs, lecture.milestone_epochs), (Some(164), Some(vec![82, 123])));
    assert_eq!(lecture.std, Some(vec![0.2023, 0.1994, 0.2010]));
    let imagenet = get("imagenet-100");
    assert_eq!((imagenet.epochs, imagenet.batch_size, imagenet.smoothing), (Some(100), 256, 0.1));
    assert_eq!((imagenet.milestone_epochs, imagenet.warmup_epochs), (Some(vec![30, 60, 90]), Some(5.0)));
}

#[test]
fn a_higher_layer_replaces_both_ways_of_saying_the_length() {
    let recipe = Recipe::resolve(&[Layer::preset("he2015-cifar").unwrap(), layer("epochs = 200")]).unwrap();
    assert_eq!((recipe.epochs, recipe.max_steps), (Some(200), None));
    let recipe = Recipe::resolve(&[Layer::preset("cifar-quick").unwrap(), layer("max_steps = 20")]).unwrap();
    assert_eq!((recipe.epochs, recipe.max_steps), (None, Some(20)));
}

#[test]
fn another_schedule_drops_the_milestones_of_the_old_one() {
    let recipe = Recipe::resolve(&[Layer::preset("he2015-cifar").unwrap(), layer("sched = \"cosine\"")]).unwrap();
    assert_eq!((recipe.sched, recipe.milestone_steps, recipe.gamma), (Sched::Cosine, None, None));
}

#[test]
fn a_resolved_recipe_survives_its_file() {
    for preset in PRESETS {
        let recipe = Recipe::resolve(&[Layer::preset(preset.name).unwrap()]).unwrap();
        let again = Recipe::resolve(&[layer(&recipe.to_toml())]).unwrap();
        assert_eq!(recipe, again);
        assert_eq!(recipe.difference(&again), None);
    }
}

#[test]
fn a_difference_names_the_field_and_both_values() {
    let recipe = Recipe::resolve(&[Layer::preset("cifar-quick").unwrap()]).unwrap();
    let other = Recipe { batch_size: 64, workers: 9, log_every: 1, ..recipe.clone() };
    let difference = recipe.difference(&other).unwrap();
    assert_eq!(
        (difference.field.as_str(), difference.expected.as_str(), difference.got.as_str()),
        ("batch_size", "128", "64")
    );
    assert_eq!(recipe.difference(&Recipe { workers: 9, ..recipe.clone() }), None);
}

#[test]
fn an_unknown_key_is_answered_with_the_nearest() {
    assert_eq!(error("momentun = 0.9"), "my.toml: unknown key \"momentun\" (did you mean \"momentum\"?)");
    assert_eq!(error("learning_rate = 0.9"), "my.toml: unknown key \"learning_rate\" (did you mean \"lr\"?)");
    assert_eq!(error("zzz = 1"), "my.toml: unknown key \"zzz\"");
}

#[test]
fn a_wrong_type_or_broken_text_is_answered_with_its_line() {
    assert_eq!(
        error("momentum = 0.9\nlr = \"fast\""),
        "my.toml: line 2: lr: invalid type: string \"fast\", expected f64"
    );
    assert!(error("lr = ").starts_with("my.toml: line 1: "), "{}", error("lr = "));
    assert!(error("lr = 0.1\nsched = \"cosin\"").contains("line 2: sched: unknown variant `cosin`, expected one of"));
    assert!(!error("[[[").contains('\n'));
}

#[test]
fn a_value_out_of_range_is_answered_with_its_field() {
    let cases = [
        ("batch_size = 0", "batch_size: expected 1 to 65536, got 0"),
        ("lr = -1", "lr: expected a number of 0 to 1e6, got -1"),
        ("lr = nan", "lr: expected a number of 0 to 1e6, got NaN"),
        ("momentum = 1", "momentum: expected a number of 0 to below 1, got 1"),
        ("momentum = 0", "nesterov: expected a momentum above 0 with it, got momentum 0"),
        ("sched = \"multistep\"", "milestone_epochs: expected milestones for sched \"multistep\", got none"),
        ("gamma = 0.5", "gamma: expected it with sched \"multistep\" only, got sched \"linear\""),
        ("sched = \"multistep\"\nmilestone_steps = [5, 2]", "milestone_steps: expected a rising list, got [5, 2]"),
        ("std = [0.1, 0, 0.1]", "std: expected one positive number a channel, got [0.1, 0.0, 0.1]"),
        ("max_steps = 0", "max_steps: expected 1 to 1099511627776, got 0"),
        ("smoothing = 1", "smoothing: expected a share of 0 to below 1, got 1"),
    ];
    for (text, expected) in cases {
        assert_eq!(error(text), expected);
    }
    assert_eq!(
        Recipe::resolve(&[layer("lr = 0.1")]).unwrap_err().to_string(),
        "epochs: expected a length in epochs or max_steps, got neither"
    );
}

#[test]
fn an_unknown_preset_is_answered_with_the_nearest() {
    let error = Layer::preset("cifar-quik").unwrap_err();
    assert!(error.to_string().ends_with("got \"cifar-quik\" (did you mean \"cifar-quick\"?)"), "{error}");
    assert!(matches!(error, RecipeError::UnknownPreset { .. }));
}
