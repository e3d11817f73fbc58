//! Precedence of settings, and the errors of settings that are invalid or have no effect.

use residual_train::{Augment, Layer, Opt, Origin, PRESETS, Recipe, RecipeError, Sched, Setting};

fn layer(text: &str) -> Layer {
    Layer::parse("my.toml", text).unwrap()
}

fn preset(name: &str) -> Layer {
    Layer::preset(name).unwrap()
}

fn flags(typed: &[(&str, &str)]) -> Layer {
    let typed = typed.iter().map(|(name, text)| (Setting::find(name).unwrap(), vec![(*text).to_owned()]));
    Layer::flags(typed).unwrap()
}

fn resolve(layers: &[Layer]) -> Recipe {
    Recipe::resolve(layers).unwrap().recipe
}

fn refusal(layers: &[Layer]) -> String {
    Recipe::resolve(layers).unwrap_err().to_string()
}

fn error(text: &str) -> String {
    let layers = Layer::parse("my.toml", text).map(|layer| vec![Layer::preset("cifar-quick").unwrap(), layer]);
    layers.and_then(|layers| Recipe::resolve(&layers)).unwrap_err().to_string()
}

#[test]
fn flags_win_over_the_file_and_the_file_over_the_preset() {
    let preset = preset("he2015-cifar");
    let file = layer("lr = 0.05\nmomentum = 0.8");
    let flags = layer("lr = 0.01");
    let recipe = resolve(&[preset, file, flags]);
    assert_eq!((recipe.lr, recipe.momentum, recipe.weight_decay), (0.01, 0.8, 1e-4));
}

#[test]
fn every_preset_resolves_and_holds_the_published_numbers() {
    let get = |name: &str| resolve(&[preset(name)]);
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
    let recipe = resolve(&[preset("he2015-cifar"), layer("epochs = 200")]);
    assert_eq!((recipe.epochs, recipe.max_steps), (Some(200), None));
    let recipe = resolve(&[preset("cifar-quick"), layer("max_steps = 20")]);
    assert_eq!((recipe.epochs, recipe.max_steps), (None, Some(20)));
}

#[test]
fn another_schedule_drops_the_milestones_of_the_old_one() {
    let recipe = resolve(&[preset("he2015-cifar"), layer("sched = \"cosine\"")]);
    assert_eq!((recipe.sched, recipe.milestone_steps, recipe.gamma), (Sched::Cosine, None, None));
}

#[test]
fn a_resolved_recipe_survives_its_file() {
    for name in PRESETS.iter().map(|preset| preset.name) {
        let recipe = resolve(&[preset(name)]);
        let again = resolve(&[layer(&recipe.to_toml())]);
        assert_eq!(recipe, again);
        assert_eq!(recipe.difference(&again), None);
    }
}

#[test]
fn a_difference_names_the_field_and_both_values() {
    let recipe = resolve(&[preset("cifar-quick")]);
    let other = Recipe { batch_size: 64, workers: 9, log_every: 1, ..recipe.clone() };
    let difference = recipe.difference(&other).unwrap();
    assert_eq!(
        (difference.setting, difference.expected.as_str(), difference.got.as_str()),
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
fn a_wrong_type_or_broken_text_is_answered_with_its_file() {
    let cases = [
        ("lr = \"fast\"", "my.toml: lr: expected a number, 0 to 1e6, got \"fast\""),
        ("epochs = 1.5", "my.toml: epochs: expected a whole number, 1 to 1048576, got 1.5"),
        ("nesterov = 1", "my.toml: nesterov: expected true or false, got 1"),
        ("mean = 0.5", "my.toml: mean: expected numbers, each 0 to 1, got 0.5"),
        ("scale = [0.5]", "my.toml: scale: expected two ascending numbers, each above 0, at most 1, got [0.5]"),
        ("model = \"\"", "my.toml: model: expected a text that is not empty, got \"\""),
        ("interpolation = \"box\"", "my.toml: interpolation: expected bilinear or bicubic, got \"box\""),
        (
            "sched = \"cosin\"",
            "my.toml: sched: expected constant, multistep, cosine, linear, step, one-cycle, poly or plateau, got \"cosin\"",
        ),
        (
            "val_split = \"val\"",
            "my.toml: val_split: expected a number, 0 to below 1 (a dataset's own validation images are used without it), \
             got \"val\"",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(error(text), expected);
    }
    assert!(error("momentum = 0.9\nlr = ").starts_with("my.toml: line 2: "), "{}", error("momentum = 0.9\nlr = "));
    assert!(!error("[[[").contains('\n'));
}

#[test]
fn a_value_out_of_range_is_answered_with_its_field() {
    let cases = [
        ("batch_size = 0", "my.toml: batch_size: expected 1 to 65536, got 0"),
        ("lr = -1", "my.toml: lr: expected 0 to 1e6, got -1"),
        ("lr = nan", "my.toml: lr: expected 0 to 1e6, got nan"),
        ("momentum = 1", "my.toml: momentum: expected 0 to below 1, got 1"),
        ("momentum = 0\nnesterov = true", "my.toml: nesterov requires momentum above 0"),
        ("sched = \"multistep\"", "milestone_epochs or milestone_steps is required for sched = \"multistep\""),
        ("gamma = 0.5", "my.toml: gamma requires sched = \"multistep\", \"step\" or \"plateau\" (is \"linear\")"),
        (
            "sched = \"multistep\"\nmilestone_steps = [5, 2]",
            "my.toml: milestone_steps: expected ascending whole numbers, each 1 to 1099511627776, got [5, 2]",
        ),
        ("std = [0.1, 0, 0.1]", "my.toml: std: expected numbers, each above 0, at most 1, got [0.1, 0, 0.1]"),
        ("mean = [inf]", "my.toml: mean: expected numbers, each 0 to 1, got [inf]"),
        ("max_steps = 0", "my.toml: max_steps: expected 1 to 1099511627776, got 0"),
        ("smoothing = 1", "my.toml: smoothing: expected 0 to below 1, got 1"),
        ("clip_grad = 0", "my.toml: clip_grad: expected above 0, got 0"),
        ("val_split = 1", "my.toml: val_split: expected 0 to below 1, got 1"),
        ("min_lr = 0.5", "my.toml: min_lr: expected at most lr, 0.3, got 0.5"),
    ];
    for (text, expected) in cases {
        assert_eq!(error(text), expected);
    }
    assert_eq!(refusal(&[layer("lr = 0.1")]), "epochs or max_steps is required");
}

#[test]
fn an_unknown_preset_is_answered_with_the_nearest() {
    let error = Layer::preset("cifar-quik").unwrap_err();
    assert!(error.to_string().ends_with("got \"cifar-quik\" (did you mean \"cifar-quick\"?)"), "{error}");
    assert!(matches!(error, RecipeError::UnknownPreset { .. }));
}

#[test]
fn a_flag_is_named_as_it_is_typed() {
    let typed = |name, text: &str| Layer::flags([(Setting::find(name).unwrap(), vec![text.to_owned()])]);
    let error = |name, text: &str| typed(name, text).unwrap_err().to_string();
    assert_eq!(error("batch_size", "0"), "--batch-size: expected 1 to 65536, got 0");
    assert_eq!(error("lr", "abc"), "--lr: expected a number, 0 to 1e6, got \"abc\"");
    assert_eq!(error("epochs", "1.5"), "--epochs: expected a whole number, 1 to 1048576, got 1.5");
    assert_eq!(
        refusal(&[preset("cifar-quick"), flags(&[("gamma", "0.5")])]),
        "--gamma requires --sched multistep, step or plateau (is linear)"
    );
    assert_eq!(
        refusal(&[preset("cifar-quick"), flags(&[("min_lr", "0.5")])]),
        "--min-lr: expected at most lr, 0.3, got 0.5"
    );
}

#[test]
fn a_given_setting_without_effect_is_refused() {
    let cases: [(&[(&str, &str)], &str); 13] = [
        (&[("augment", "none"), ("hflip", "0.5")], "--hflip requires --augment crop or resized-crop (is none)"),
        (
            &[("augment", "resized-crop"), ("crop_padding", "9")],
            "--crop-padding requires --augment crop (is resized-crop)",
        ),
        (&[("scale", "0.2,1")], "--scale requires --augment resized-crop (is crop)"),
        (&[("milestone_steps", "3")], "--milestone-steps requires --sched multistep (is linear)"),
        (
            &[("opt", "adamw"), ("momentum", "0.9")],
            "--momentum requires --opt sgd, momentum, rmsprop, rmsproptf or muon (is adamw)",
        ),
        (&[("opt", "adamw"), ("nesterov", "true")], "--nesterov requires --opt sgd or muon (is adamw)"),
        (&[("opt_betas", "0.9,0.99")], "--opt-betas requires --opt adam, adamw, nadam, lamb, lion or muon (is sgd)"),
        (&[("unfreeze_at", "2:fc")], "--unfreeze-at requires --freeze"),
        (&[("weights", "w"), ("init", "torch")], "--init has no effect with --weights"),
        (&[("weights", "w"), ("zero_init", "true")], "--zero-init has no effect with --weights"),
        (&[("mixup_prob", "0.5")], "--mixup-prob requires --mixup or --cutmix above 0"),
        (
            &[("mixup", "0.2"), ("mixup_switch_prob", "0.5")],
            "--mixup-switch-prob requires --mixup and --cutmix above 0",
        ),
        (&[("data", "shapes10"), ("data_dir", "d")], "--data-dir has no effect with --data shapes10"),
    ];
    for (typed, expected) in cases {
        assert_eq!(refusal(&[preset("cifar-quick"), flags(typed)]), expected);
    }
    assert_eq!(
        refusal(&[preset("cifar-quick"), layer("hflip = 0.3"), layer("augment = \"none\"\ncrop_padding = 9")]),
        "my.toml: crop_padding requires augment = \"crop\" (is \"none\")"
    );
}

#[test]
fn a_setting_of_a_preset_or_one_that_a_higher_layer_makes_ineffective_is_dropped() {
    let recipe = resolve(&[preset("cifar-quick"), flags(&[("augment", "none")])]);
    assert_eq!((recipe.hflip, recipe.crop_padding), (0.0, 4));
    assert_eq!(resolve(&[preset("cifar-quick"), flags(&[("momentum", "0")])]).nesterov, None);
    let recipe = resolve(&[preset("cifar-quick"), flags(&[("opt", "adamw")])]);
    assert_eq!((recipe.opt, recipe.nesterov), (Opt::AdamW, None));
    let file = layer("sched = \"multistep\"\nmilestone_epochs = [2]\ngamma = 0.5");
    let recipe = resolve(&[preset("cifar-quick"), file, flags(&[("sched", "cosine"), ("min_lr", "0.001")])]);
    assert_eq!((recipe.milestone_epochs, recipe.gamma, recipe.min_lr), (None, None, Some(0.001)));
    // A file may contain defaults without effect, as the complete recipes of earlier versions do.
    resolve(&[preset("shapes-quick"), layer("hflip = 0.0\ncrop_padding = 4")]);
}

#[test]
fn settings_of_a_preset_or_a_resumed_run_do_not_count_as_given() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config.toml");
    std::fs::write(&config, resolve(&[preset("cifar-quick")]).to_toml()).unwrap();
    let resolved = Recipe::resolve(&[preset("cifar-quick"), layer("lr = 0.2"), flags(&[("seed", "3")])]).unwrap();
    let is_given = |setting| resolved.origins.is_given(setting);
    assert_eq!((is_given("lr"), is_given("seed"), is_given("epochs"), is_given("workers")), (true, true, false, false));
    assert_eq!(resolved.origins.get("epochs"), Some(&Origin::Preset("cifar-quick".into())));
    assert_eq!(resolved.origins.get("workers"), None);
    let resolved = Recipe::resolve(&[Layer::run(&config).unwrap(), flags(&[("augment", "none")])]).unwrap();
    assert!(!resolved.origins.is_given("epochs") && resolved.origins.is_given("augment"));
    assert_eq!(resolved.recipe.hflip, 0.0);
}

#[test]
fn a_recipe_written_by_hand_is_checked_like_a_file() {
    let recipe = Recipe { epochs: Some(1), ..Recipe::default() };
    recipe.validate().unwrap();
    let error = |recipe: Recipe| recipe.validate().unwrap_err().to_string();
    assert_eq!(
        error(Recipe { gamma: Some(0.5), ..recipe.clone() }),
        "gamma requires sched = \"multistep\", \"step\" or \"plateau\" (is \"constant\")"
    );
    assert_eq!(error(Recipe { batch_size: 0, ..recipe.clone() }), "batch_size: expected 1 to 65536, got 0");
    let seed = "seed: expected a whole number, 0 to 9223372036854775807, got \"18446744073709551615\"";
    assert_eq!(error(Recipe { seed: u64::MAX, ..recipe.clone() }), seed);
    assert_eq!(error(Recipe { lr: f64::NAN, ..recipe }), "lr: expected 0 to 1e6, got nan");
}

#[test]
fn a_resume_may_change_where_the_data_lie_but_not_which_dataset_they_are() {
    let recipe = Recipe { data: "/a/photos".into(), ..resolve(&[preset("folder-quick")]) };
    let with = |data: &str| Recipe { data: data.into(), ..recipe.clone() };
    assert_eq!(recipe.difference(&with("/b/pictures")), None);
    assert_eq!(recipe.difference(&with("cifar10")).map(|difference| difference.setting), Some("data"));
    assert_eq!(with("cifar10").difference(&with("cifar100")).map(|difference| difference.setting), Some("data"));
}

#[test]
fn paths_become_absolute_and_names_stay() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("photos")).unwrap();
    let mut recipe = Recipe {
        data: "photos".into(),
        data_dir: Some(folder.path().into()),
        weights: Some("torchvision:resnet18.v1".into()),
        ..Recipe::default()
    };
    recipe.make_paths_absolute();
    assert_eq!((recipe.data.as_str(), &recipe.data_dir), (folder.path().join("photos").to_str().unwrap(), &None));
    assert_eq!((recipe.weights, recipe.model.as_str()), (Some("torchvision:resnet18.v1".into()), "resnet20"));
    let mut recipe = Recipe { data: "cifar10".into(), data_dir: Some("cifar".into()), ..Recipe::default() };
    recipe.make_paths_absolute();
    assert_eq!(recipe.data, "cifar10");
    assert!(recipe.data_dir.unwrap().is_absolute());
}
