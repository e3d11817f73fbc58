//! A network in TOML is built as described, or refused by the name of the field at fault.

use proptest::prelude::*;
use residual_zoo::{Config, build, entries, find, from_toml};

fn error(text: &str) -> String {
    match from_toml(text) {
        Ok(config) => config.graph().map(drop).unwrap_err().to_string(),
        Err(error) => error.to_string(),
    }
}

#[test]
fn a_description_can_say_what_the_registry_says() {
    let cases = [
        ("resnet50", "family = 'resnet'"),
        ("resnet18", "family = 'resnet'\nblock = 'basic'\ndepths = [2, 2, 2, 2]"),
        ("resnet50d", "family = 'resnet'\nstem = 'deep'\navg_shortcut = true"),
        ("seresnet50", "family = 'resnet'\nsqueeze_excitation = true"),
        ("resnext101_64x4d", "family = 'resnext'\ndepths = [3, 4, 23, 3]\ncardinality = 64"),
        ("wide_resnet101_2", "family = 'wide_resnet'\ndepths = [3, 4, 23, 3]"),
        ("resnet56_a", "family = 'cifar_resnet'\ndepths = [9, 9, 9]\nshortcut = 'padding'"),
        ("resnext29_32x4d", "family = 'cifar_resnext'\ncardinality = 32\nbase_width = 4"),
        (
            "preact_resnet164",
            "family = 'preact_resnet'\nblock = 'bottleneck'\ndepths = [18, 18, 18]\nwidths = [16, 32, 64]\nstem_width = 16",
        ),
        ("resnetv2_101", "family = 'resnetv2'\ndepths = [3, 4, 23, 3]"),
        ("wrn40_2", "family = 'wrn'\ndepth = 40\nwidth = 2"),
        ("convnext_small", "family = 'convnext'\ndepths = [3, 3, 27, 3]\ndrop_path = 0.4"),
        ("plain34", "family = 'plain'\ndepths = [3, 4, 6, 3]\nwidths = [64, 128, 256, 512]\nsmall_images = false"),
        ("vgg19_bn", "family = 'vgg'\nbatch_norm = true"),
        ("densenet121", "family = 'densenet'"),
        ("googlenet", "family = 'googlenet'"),
        ("lecture_resnet50", "family = 'lecture_resnet'"),
    ];
    for (name, text) in cases {
        let config = from_toml(&format!("name = '{name}'\n{text}")).unwrap();
        let expected = build(name, find(name).unwrap().config.num_classes).unwrap();
        assert!(config.graph().unwrap() == expected, "{name}");
    }
}

#[test]
fn a_network_that_is_written_is_read_back() {
    for entry in entries() {
        let config = Config { in_chans: 1, num_classes: 7, ..entry.config };
        assert_eq!(from_toml(&config.to_toml()).as_ref(), Ok(&config), "{}", config.to_toml());
    }
}

/// By hand: squeeze-and-excitation of 16 channels has 16 · 8 + 8 and 8 · 16 + 16 parameters, and a grouped convolution as
/// many times fewer as it has groups.
#[test]
fn small_resnets_have_groups_and_squeeze_excitation() {
    let parameters = |fields: &str| {
        let text = format!("family = 'cifar_resnet'\ndepths = [1, 1, 1]\nwidths = [16, 16, 16]\n{fields}");
        from_toml(&text).unwrap().graph().unwrap().parameter_count()
    };
    let gates = 3 * (16 * 8 + 8 + 8 * 16 + 16);
    assert_eq!(parameters("squeeze_excitation = true"), parameters("") + gates);
    let grouped = parameters("block = 'bottleneck'\ncardinality = 4");
    assert_eq!(parameters("block = 'bottleneck'"), grouped + 3 * (9 * 16 * 16 - 9 * 16 * 4));
    assert_eq!(
        error("family = 'cifar_resnet'\ncardinality = 4"),
        "cardinality: expected 1 with block \"basic\", got 4"
    );
}

#[test]
fn what_every_network_has_can_be_said_of_any() {
    let text = "family = 'convnext'\nname = 'mine'\nin_chans = 1\nnum_classes = 0\nimage_size = [64, 96]";
    let graph = from_toml(text).unwrap().graph().unwrap();
    assert_eq!(graph.name, "mine");
    assert_eq!(graph.input_size(), [1, 64, 96]);
    assert_eq!(graph.output_channels(), Ok(768));
    assert_eq!(from_toml("family = 'plain'\nimage_size = 48").unwrap().image_size, [48, 48]);
}

#[test]
fn errors_name_the_field() {
    let cases = [
        ("family = 'resnet'\ndepths = [3, 4, 0, 3]", "depths: expected 4 numbers of 1 to 1024, got [3, 4, 0, 3]"),
        ("family = 'resnet'\ndepths = [3, 4]", "depths: expected a list of 4, got [3, 4]"),
        ("family = 'resnet'\ndepths = 'deep'", "depths: expected a list of 4, got \"deep\""),
        ("family = 'resnet'\ndepths = [3, 4, -6, 3]", "depths: expected whole numbers from 0, got [3, 4, -6, 3]"),
        ("family = 'resnet'\nblock = 'wide'", "block: expected `basic` or `bottleneck`, got \"wide\""),
        ("family = 'resnet'\nstem = 3", "stem: expected a name in quotes, got 3"),
        ("family = 'resnet'\navg_shortcut = 1", "avg_shortcut: expected true or false, got 1"),
        ("family = 'resnet'\ndrop_path = 1.5", "drop_path: expected 0 to below 1, got 1.5"),
        ("family = 'resnet'\ndrop_path = nan", "drop_path: expected 0 to below 1, got NaN"),
        ("family = 'resnet'\ndropout = 'x'", "dropout: expected a number, got \"x\""),
        (
            "family = 'resnet'\nblock = 'basic'\ncardinality = 32",
            "cardinality: expected 1 with block \"basic\", got 32",
        ),
        (
            "family = 'densenet'\nimage_size = 16",
            "node \"features.transition3.pool\": expected an input of at least the window (2×2, padding 0×0), got 1×1×512",
        ),
        ("family = 'resnet'\ndepth = [3, 4, 6, 3]", "unknown key \"depth\" (did you mean \"depths\"?)"),
        ("family = 'vgg'\ncardinality = 2", "unknown key \"cardinality\""),
        ("family = 'vgg'\nnum_class = 2", "unknown key \"num_class\" (did you mean \"num_classes\"?)"),
        ("family = 'wrn'\ndepth = 27", "depth: expected 10 to 4096, being 6n + 4, got 27"),
        ("family = 'plain'\ndepths = [3, 3]", "widths: expected 2 numbers, as in depths, got 3"),
        ("family = 'plain'\ndepths = []", "depths: expected 1 to 6 numbers, got 0"),
        ("family = 'plain'\nin_chans = 0", "in_chans: expected 1 to 4096, got 0"),
        ("family = 'plain'\nimage_size = [1, 2, 3]", "image_size: expected a shorter list, got [1, 2, 3]"),
        ("family = 'plain'\nname = ''", "name: expected 1 to 256 bytes without control characters, got \"\""),
        ("family = 'plain'\nname = 7", "name: expected a string, got 7"),
        ("depths = [3]", "family: expected one of resnet, resnext, "),
        ("family = 'alexnet'", "family: expected one of resnet, resnext, "),
        ("family = 'resnet'\ndepths = [3, 4", "line 2: "),
        (
            "family = 'resnet'\nwidths = [65536, 65536, 65536, 65536]\ndepths = [99, 99, 99, 99]",
            "node \"layer1.0.conv2\": weight: expected at most 4294967296 elements, got [65536, 65536, 3, 3]",
        ),
    ];
    for (text, expected) in cases {
        let got = error(text);
        let fits = if expected.ends_with(' ') { got.starts_with(expected) } else { got == expected };
        assert!(fits, "{text}\n{got}\n{expected}");
        assert!(!got.contains('\n'), "{got}");
    }
}

/// A key of some family, or none, with a value of any kind and size.
fn line() -> impl Strategy<Value = String> {
    let keys = [
        "block",
        "depths",
        "widths",
        "stem",
        "stem_width",
        "cardinality",
        "base_width",
        "v1_strides",
        "avg_shortcut",
        "squeeze_excitation",
        "replace_stride_with_dilation",
        "dropout",
        "drop_path",
        "shortcut",
        "depth",
        "width",
        "growth_rate",
        "bottleneck",
        "batch_norm",
        "small_images",
        "cell",
        "cells",
        "name",
        "in_chans",
        "num_classes",
        "image_size",
        "nothing",
    ];
    let number = || {
        prop_oneof![
            (0i64..5).boxed(),
            (0i64..70_000).boxed(),
            prop::num::i64::ANY.boxed(),
            prop::sample::select(vec![i64::MAX, i64::MIN, 1 << 32, 1 << 20, 1024, 65_536]).boxed(),
        ]
    };
    let value = prop_oneof![
        number().prop_map(|n| n.to_string()),
        prop::collection::vec(number(), 0..6).prop_map(|list| format!("{list:?}")),
        (1i64..6, 3usize..6).prop_map(|(n, len)| format!("{:?}", vec![n; len])),
        prop::num::f64::ANY.prop_map(toml_float),
        (0.0f64..1.0).prop_map(toml_float),
        prop::bool::ANY.prop_map(|b| b.to_string()),
        prop::collection::vec(prop::bool::ANY, 0..5).prop_map(|list| format!("{list:?}")),
        "[a-z]{0,8}".prop_map(|text| format!("'{text}'")),
        Just("'|none~0|+|none~0|none~1|+|nor_conv_1x1~0|none~1|none~2|'".to_owned()),
        prop::sample::select(vec!["'basic'", "'bottleneck'", "'deep'", "'small'", "'padding'", "{ a = 1 }", "[[1]]"])
            .prop_map(String::from),
    ];
    (prop::sample::select(keys.to_vec()), value).prop_map(|(key, value)| format!("{key} = {value}"))
}

fn toml_float(x: f64) -> String {
    match x {
        _ if x.is_nan() => "nan".into(),
        _ if x.is_infinite() => {
            if x > 0.0 {
                "inf".into()
            } else {
                "-inf".into()
            }
        }
        _ => format!("{x:?}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn hostile_values_give_a_network_or_one_line(
        family in prop::sample::select(vec![
            "resnet", "resnext", "wide_resnet", "cifar_resnet", "cifar_resnext", "preact_resnet", "resnetv2", "wrn",
            "convnext", "plain", "vgg", "densenet", "googlenet", "lecture_resnet", "nasbench201",
        ]),
        lines in prop::collection::vec(line(), 0..5),
    ) {
        let text = format!("family = '{family}'\n{}", lines.join("\n"));
        match from_toml(&text).and_then(|config| config.graph()) {
            Ok(graph) => prop_assert!(graph.parameter_count() <= 1 << 32),
            Err(error) => {
                let message = error.to_string();
                prop_assert!(!message.contains('\n') && message.len() < 4096, "{message}");
            }
        }
    }

    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,200}") {
        let _ = from_toml(&text);
    }
}
