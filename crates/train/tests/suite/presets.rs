//! The built-in recipes, each against the steps, learning rates and augmented images that its file states.

use residual_train::{Band, Layer, Opt, PRESETS, Recipe, Summary, check_results, check_trace, short_form};

#[test]
fn recipes_take_the_steps_rates_and_augmentations_of_their_sources() {
    for preset in PRESETS {
        for check in check_trace(preset).unwrap() {
            assert!(check.holds, "{}: {}: expected {}, got {}", preset.name, check.what, check.expected, check.got);
        }
    }
}

#[test]
fn every_short_form_is_a_valid_recipe_on_built_in_images() {
    for preset in PRESETS {
        let Some(short) = short_form(preset, 7).unwrap() else { continue };
        assert_eq!((short.recipe.seed, &*short.recipe.data), (7, "shapes10"), "{}", preset.name);
        assert!(short.recipe.max_steps.is_some_and(|steps| steps <= 200), "{}", preset.name);
    }
}

#[test]
fn a_short_form_holds_inside_the_band_of_its_seeds_and_nowhere_else() {
    for preset in PRESETS {
        let Some(short) = preset.contract().short else { continue };
        let bands = [Band::of(&short.top1), Band::of(&short.loss)];
        let holds = |shift: f64| {
            let [top1, loss] = bands.map(|band| Some(band.mean + shift * band.half_width()));
            let checks = check_results(preset, &Summary { top1, loss, ..Summary::default() });
            checks.iter().map(|check| check.holds).collect::<Vec<_>>()
        };
        assert_eq!((holds(0.99), holds(-0.99)), (vec![true; 2], vec![true; 2]), "{}", preset.name);
        assert_eq!((holds(1.01), holds(-1.01)), (vec![false; 2], vec![false; 2]), "{}", preset.name);
        // A network that learned nothing.
        assert!(!bands[0].holds(10.0), "{}: {:?}", preset.name, bands[0]);
        assert!(check_results(preset, &Summary::default()).iter().all(|check| !check.holds));
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
    for described in ["about", "verify"] {
        let error = Layer::parse("my.toml", &format!("{described} = 3")).unwrap_err().to_string();
        assert!(error.contains(described), "{error}");
    }
}
