//! The flags that are settings of a recipe, generated from the table of settings.

use super::peers::value_hint;
use crate::failure::Failure;
use crate::output::quoted_path;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};
use residual::train::{Kind, Layer, SETTINGS, Setting};

/// The settings that were typed as flags.
#[derive(Debug, Default)]
pub(crate) struct Settings {
    typed: Vec<(&'static Setting, Vec<String>)>,
}

impl Settings {
    /// A layer over the presets and recipe files.
    pub(crate) fn layer(&self) -> Result<Layer, Failure> {
        let layer = Layer::flags(self.typed.iter().map(|(setting, texts)| (*setting, texts.clone())));
        layer.map_err(|error| {
            let hint = self.typed.iter().find_map(|(setting, texts)| value_hint(setting.name, texts.last()?));
            match hint {
                Some(hint) => Failure::usage(format!("{error}; write {hint}")),
                None => Failure::from(error),
            }
        })
    }

    /// The names of the settings that were typed.
    pub(crate) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.typed.iter().map(|(setting, _)| setting.name)
    }

    /// The flags of the settings that were typed except for `others`, as words for a shell.
    pub(crate) fn words(&self, others: &[&str]) -> Vec<String> {
        let typed = self.typed.iter().filter(|(setting, _)| !others.contains(&setting.name));
        let word = |setting: &Setting, text: &String| match (setting.kind, text.as_str()) {
            (Kind::Switch, "true") => format!("--{}", setting.flag()),
            (Kind::Switch, text) => format!("--{}={text}", setting.flag()),
            (_, text) => format!("--{} {}", setting.flag(), quoted_path(text.as_ref())),
        };
        typed.flat_map(|(setting, texts)| texts.iter().map(|text| word(setting, text))).collect()
    }

    /// Whether the network that was typed, if one was, is the one that is trained: weights may contain another.
    pub(crate) fn check_model(&self, trained: &str) -> Result<(), Failure> {
        match self.layer()?.text("model") {
            Some(typed) if typed != trained => {
                Err(Failure::usage(format!("--model: expected {trained}, as the weights say, got {typed}")))
            }
            _ => Ok(()),
        }
    }
}

/// Settings of the training after a network was changed: all but those of network, data, preprocessing and seed, for which the command
/// has flags of its own. Its help does not list them.
#[derive(Debug, Default)]
pub(crate) struct FinetuneSettings(Settings);

/// The settings that such a command has flags of its own for.
const OWN: [&str; 20] = [
    "model",
    "num_classes",
    "in_chans",
    "weights",
    "init",
    "zero_init",
    "data",
    "data_dir",
    "val_split",
    "workers",
    "skip_bad_images",
    "img_size",
    "test_size",
    "crop_pct",
    "crop_mode",
    "exif_orientation",
    "interpolation",
    "mean",
    "std",
    "seed",
];

impl FinetuneSettings {
    /// A layer over the presets and recipe files.
    pub(crate) fn layer(&self) -> Result<Layer, Failure> {
        self.0.layer()
    }

    /// A flag that was typed.
    pub(crate) fn typed(&self) -> Option<String> {
        self.0.typed.first().map(|(setting, _)| format!("--{}", setting.flag()))
    }

    /// A flag that was typed of one of these settings.
    pub(crate) fn typed_of(&self, names: &[&str]) -> Option<String> {
        let typed = self.0.typed.iter().find(|(setting, _)| names.contains(&setting.name));
        typed.map(|(setting, _)| format!("--{}", setting.flag()))
    }

    fn settings() -> impl Iterator<Item = &'static Setting> {
        SETTINGS.iter().filter(|setting| !OWN.contains(&setting.name))
    }
}

impl Args for FinetuneSettings {
    fn augment_args(command: Command) -> Command {
        Self::settings().flat_map(flags).map(|flag| flag.hide(true)).fold(command, Command::arg)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for FinetuneSettings {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Ok(Self(Settings { typed: typed(matches, Self::settings()) }))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for Settings {
    fn augment_args(command: Command) -> Command {
        SETTINGS.iter().flat_map(flags).fold(command, Command::arg)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Settings {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Ok(Self { typed: typed(matches, SETTINGS.iter()) })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// Those of `settings` that were typed, with what was typed after them.
fn typed(
    matches: &ArgMatches,
    settings: impl Iterator<Item = &'static Setting>,
) -> Vec<(&'static Setting, Vec<String>)> {
    let typed = settings.filter_map(|setting| {
        let texts = match matches.get_many::<String>(setting.name) {
            Some(texts) => texts.cloned().collect(),
            None if setting.kind == Kind::Switch && matches.get_flag(&no(setting)) => vec!["false".into()],
            None => return None,
        };
        Some((setting, texts))
    });
    typed.collect()
}

/// The flag of a setting, and for a switch the one that turns it off.
fn flags(setting: &Setting) -> Vec<Arg> {
    let default = match (setting.is_in_presets(), setting.has_default_value()) {
        (true, true) => "from the recipe".into(),
        (true, false) => format!("from the recipe, else {}", plain(&setting.default())),
        (false, _) => plain(&setting.default()),
    };
    let flag = Arg::new(setting.name)
        .long(setting.flag())
        .aliases(setting.aliases.iter().map(|alias| alias.replace('_', "-")))
        .value_name(setting.value_name())
        .help(format!("{} [default: {default}]", setting.help()))
        .help_heading(setting.heading)
        // What is wrong with a number is said by its setting.
        .allow_negative_numbers(true)
        .action(if setting.kind == Kind::Texts { ArgAction::Append } else { ArgAction::Set });
    let flag = setting.short.into_iter().fold(flag, Arg::short);
    if setting.kind != Kind::Switch {
        return vec![flag];
    }
    let off =
        Arg::new(no(setting)).long(no(setting)).action(ArgAction::SetTrue).hide(true).overrides_with(setting.name);
    vec![flag.num_args(0..=1).require_equals(true).default_missing_value("true").overrides_with(no(setting)), off]
}

/// A default as it would be typed, or the words that stand for one, with flags where settings are named.
fn plain(default: &str) -> String {
    let name =
        |part: &str| if Setting::find(part).is_some() { format!("--{}", part.replace('_', "-")) } else { part.into() };
    let typed = default.replace(['[', ']', '"'], "").replace(", ", ",");
    if default.starts_with('[') { typed } else { default.replace('"', "").split('`').map(name).collect() }
}

/// The flag that turns a switch off: `no-shuffle`.
fn no(setting: &Setting) -> String {
    format!("no-{}", setting.flag())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(typed: &[String]) -> Layer {
        let command = Settings::augment_args(Command::new("train").no_binary_name(true));
        let matches = command.try_get_matches_from(typed).unwrap();
        Settings::from_arg_matches(&matches).unwrap().layer().unwrap()
    }

    /// What is typed after the flag of a setting, and the same in a recipe file.
    fn sample(setting: &Setting) -> (Vec<String>, String) {
        let (typed, key): (&[&str], String) = match setting.kind {
            Kind::Switch => (&[], "true".into()),
            Kind::Whole => (&["3"], "3".into()),
            Kind::Number => (&["0.5"], "0.5".into()),
            Kind::Text => (&["some"], "\"some\"".into()),
            Kind::Choice(names) => return (vec![names[0].into()], format!("\"{}\"", names[0])),
            Kind::Pair | Kind::Numbers => (&["0.25,0.5"], "[0.25, 0.5]".into()),
            Kind::Wholes => (&["2,4"], "[2, 4]".into()),
            Kind::Texts => (&["some", "texts"], "[\"some\", \"texts\"]".into()),
        };
        (typed.iter().map(|&text| text.into()).collect(), key)
    }

    #[test]
    fn every_setting_has_a_flag_that_gives_what_its_key_gives() {
        for setting in SETTINGS {
            let (texts, key) = sample(setting);
            let file = Layer::parse("my.toml", &format!("{} = {key}", setting.name)).unwrap();
            let names = setting.aliases.iter().map(|alias| alias.replace('_', "-")).chain([setting.flag()]);
            for flag in names.map(|name| format!("--{name}")).chain(setting.short.map(|short| format!("-{short}"))) {
                let typed = match &texts[..] {
                    [] => vec![flag],
                    texts => texts.iter().flat_map(|text| [flag.clone(), text.clone()]).collect(),
                };
                assert_eq!(layer(&typed).value(setting.name), file.value(setting.name), "{typed:?}");
            }
        }
    }

    #[test]
    fn every_switch_can_be_turned_off_and_on_and_the_last_word_counts() {
        for setting in SETTINGS.iter().filter(|setting| setting.kind == Kind::Switch) {
            let flag = setting.flag();
            let [on, off, equals] = [format!("--{flag}"), format!("--no-{flag}"), format!("--{flag}=false")];
            let value = |typed: &[&String]| {
                layer(&typed.iter().map(|&text| text.clone()).collect::<Vec<_>>()).value(setting.name)?.as_bool()
            };
            assert_eq!(
                (value(&[&on]), value(&[&off]), value(&[&equals]), value(&[])),
                (Some(true), Some(false), Some(false), None)
            );
            assert_eq!(
                (value(&[&on, &off]), value(&[&off, &on]), value(&[&off, &equals])),
                (Some(false), Some(true), Some(false))
            );
        }
    }
}
