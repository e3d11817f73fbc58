//! The flags that are settings of a recipe, made of the table of settings.

use crate::failure::Failure;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};
use residual::train::{Kind, Layer, SETTINGS, Setting};

/// What was typed of the settings of a recipe.
#[derive(Debug, Default)]
pub(crate) struct Settings {
    typed: Vec<(&'static Setting, Vec<String>)>,
}

impl Settings {
    /// A layer over the presets and recipe files.
    pub(crate) fn layer(&self) -> Result<Layer, Failure> {
        Ok(Layer::flags(self.typed.iter().map(|(setting, texts)| (*setting, texts.clone())))?)
    }

    /// Whether the network that was typed, if one was, is the one that is trained: weights may bring another.
    pub(crate) fn check_model(&self, trained: &str) -> Result<(), Failure> {
        match self.layer()?.text("model") {
            Some(typed) if typed != trained => {
                Err(Failure::usage(format!("--model: expected {trained}, as the weights say, got {typed}")))
            }
            _ => Ok(()),
        }
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
        let typed = SETTINGS.iter().filter_map(|setting| {
            let texts = match matches.get_many::<String>(setting.name) {
                Some(texts) => texts.cloned().collect(),
                None if setting.kind == Kind::Switch && matches.get_flag(&no(setting)) => vec!["false".into()],
                None => return None,
            };
            Some((setting, texts))
        });
        Ok(Self { typed: typed.collect() })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// The flag of a setting, and for a switch the one that turns it off.
fn flags(setting: &Setting) -> Vec<Arg> {
    let default = if setting.is_in_presets() { "from the recipe".into() } else { setting.default() };
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

/// The flag that turns a switch off: `no-shuffle`.
fn no(setting: &Setting) -> String {
    format!("no-{}", setting.flag())
}
