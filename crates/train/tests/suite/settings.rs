//! The table of settings against what is made of it: fields, keys, values, presets and the page of the documentation.

use residual_train::{Kind, Layer, PRESETS, Range, Recipe, Resume, SETTINGS, Setting};
use std::fmt::Write;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A value of `setting` that is not its default, in TOML.
fn example(setting: &Setting) -> String {
    let number = |share: f64| match setting.range {
        Range::Whole(least, most) => (least + (share * most.min(8) as f64) as i64).to_string(),
        Range::Number { low, high, .. } => format!("{:?}", low + share * (high.min(low + 1.0) - low)),
        Range::Any => format!("{share:?}"),
    };
    match setting.kind {
        Kind::Switch => (setting.default() != "true").to_string(),
        Kind::Whole | Kind::Number => number(0.4),
        Kind::Text => "\"some text\"".into(),
        Kind::Choice(names) => format!("\"{}\"", names[names.len() - 1]),
        Kind::Pair | Kind::Numbers | Kind::Wholes => format!("[{}, {}]", number(0.4), number(0.8)),
        Kind::Texts => "[\"some\", \"texts\"]".into(),
    }
}

#[test]
fn the_fields_of_a_recipe_are_the_settings_and_their_keys_are_its_keys() {
    let names: Vec<&str> = SETTINGS.iter().map(|setting| setting.name).collect();
    let debug = format!("{:#?}", Recipe::default());
    let fields =
        debug.lines().filter_map(|line| line.strip_prefix("    ")).filter(|line| !line.starts_with([' ', ']', ')']));
    let fields: Vec<&str> = fields.map(|line| line.split(':').next().unwrap()).collect();
    assert_eq!(fields, names);
    let unique: std::collections::BTreeSet<&str> =
        SETTINGS.iter().flat_map(|setting| setting.aliases.iter().copied().chain([setting.name])).collect();
    assert_eq!(
        unique.len(),
        SETTINGS.iter().map(|setting| 1 + setting.aliases.len()).sum::<usize>(),
        "one name, one setting"
    );
    for setting in SETTINGS {
        let text = format!("{} = {}", setting.name, example(setting));
        let layer = Layer::parse("my.toml", &text).unwrap();
        // What serde derives of the fields must agree with the table.
        let recipe: Recipe = toml::from_str(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(recipe.value(setting.name), layer.value(setting.name).cloned(), "{text}");
        assert_ne!(recipe.value(setting.name), Recipe::default().value(setting.name), "{text}");
        for alias in setting.aliases {
            let error = Layer::parse("my.toml", &format!("{alias} = 1")).unwrap_err().to_string();
            assert_eq!(error, format!("my.toml: unknown key \"{alias}\" (did you mean \"{}\"?)", setting.name));
        }
    }
}

#[test]
fn a_typed_flag_gives_what_its_key_gives() {
    for setting in SETTINGS {
        let example = example(setting);
        let layer = Layer::parse("my.toml", &format!("{} = {example}", setting.name)).unwrap();
        let typed: Vec<String> = match setting.kind {
            Kind::Texts => vec!["some".into(), "texts".into()],
            _ => vec![example.replace(['[', ']', '"'], "")],
        };
        let flags = Layer::flags([(setting, typed)]).unwrap();
        assert_eq!(flags.value(setting.name), layer.value(setting.name), "{}", setting.name);
    }
}

#[test]
fn every_setting_is_described_and_has_a_default_in_range() {
    for setting in SETTINGS {
        let (name, help) = (setting.name, setting.help());
        assert!(help.len() > 5 && help.starts_with(char::is_uppercase) && !help.contains('\n'), "{name}: {help}");
        let default = Recipe::default().value(name);
        if let Some(value) = &default {
            Layer::parse("my.toml", &format!("{name} = {value}")).unwrap();
        }
        assert!(default.is_some() || setting.default() != "none", "{name}: say what holds without it");
        let conditions = format!("{:?}", setting.applies);
        for named in conditions.split('"').skip(1).step_by(2).filter(|text| text.contains('_')) {
            assert!(Setting::find(named).is_some(), "{name}: {conditions}");
        }
    }
}

#[test]
fn every_file_of_recipes_is_a_preset() {
    let files = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes"))
        .unwrap()
        .map(|file| file.unwrap().file_name());
    let mut files: Vec<String> = files.map(|name| name.into_string().unwrap()).collect();
    let mut presets: Vec<String> = PRESETS.iter().map(|preset| format!("{}.toml", preset.name)).collect();
    files.sort();
    presets.sort();
    assert_eq!(files, presets);
}

/// The tables of docs/settings.md.
fn tables() -> String {
    let mut text = String::new();
    let mut heading = "";
    for setting in SETTINGS {
        if setting.heading != heading {
            heading = setting.heading;
            let columns = "| key | default | accepts | |\n|---|---|---|---|";
            write!(text, "\n### {heading}\n\n{columns}\n").unwrap();
        }
        let default = setting.default();
        let default = if setting.has_default_value() { format!("`{default}`") } else { default };
        let mut notes = vec![setting.doc()];
        let condition = setting.applies.to_string();
        if !condition.is_empty() {
            notes.push(format!("Only with {condition}"));
        }
        match setting.resume {
            Resume::Fixed => {}
            Resume::Free | Resume::Onward => notes.push("A resume may change it".into()),
            Resume::Path => notes.push("A resume may give another path".into()),
            Resume::Length => notes.push("A resume may change it if `sched` does not depend on it".into()),
        }
        let short = setting.short.map(|short| format!("`-{short}`"));
        let aliases = setting.aliases.iter().map(|alias| format!("`--{}`", alias.replace('_', "-")));
        let spellings: Vec<String> = short.into_iter().chain(aliases).collect();
        if !spellings.is_empty() {
            notes.push(format!("Also {}", spellings.join(", ")));
        }
        let accepts = match setting.kind {
            Kind::Choice(names) => names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", "),
            _ => setting.accepts(),
        };
        writeln!(text, "| `{}` | {default} | {accepts} | {}. |", setting.name, notes.join(". ")).unwrap();
    }
    text
}

/// With `RESIDUAL_WRITE_DOCS=1` the tables are written instead of compared.
#[test]
fn the_page_of_the_documentation_holds_every_setting() {
    let path = root().join("docs/settings.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (begin, end) = (
        "<!-- made of the table of settings: RESIDUAL_WRITE_DOCS=1 cargo test -p residual-train --test suite settings -->\n",
        "\n<!-- end -->",
    );
    let start = page.find(begin).unwrap() + begin.len();
    let stop = start + page[start..].find(end).unwrap();
    if std::env::var("RESIDUAL_WRITE_DOCS").is_ok_and(|write| write == "1") {
        std::fs::write(&path, format!("{}{}{}", &page[..start], tables(), &page[stop..])).unwrap();
        return;
    }
    assert_eq!(&page[start..stop], tables(), "run it with RESIDUAL_WRITE_DOCS=1");
}
