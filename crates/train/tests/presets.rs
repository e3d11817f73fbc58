//! The built-in recipes, each against the steps, learning rates and augmented images that its file states.

use residual_train::{Layer, Opt, PRESETS, Recipe, check_trace, short_form};

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
