//! The description of a setting, and the macro that generates the recipe from a table of them.

use super::condition::Condition;
use super::value::{Decimal, Kind, Order, Range};
use super::{PRESETS, Recipe};
use toml::Value;

/// One setting of a recipe: a field, a key of recipe files and a flag.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// The field of [`Recipe`], which is the key in recipe files.
    pub name: &'static str,
    /// The group it belongs to.
    pub heading: &'static str,
    /// Its documentation, with the names of other settings in backticks.
    pub(super) doc: &'static str,
    /// The type of its values.
    pub kind: Kind,
    /// The numbers that it accepts.
    pub range: Range,
    /// The order of the numbers in a list.
    pub order: Order,
    /// The placeholder for a value in help; empty for the default of its kind.
    pub(super) value_name: &'static str,
    /// Description of the behaviour where it is not given, if it has no default value.
    pub(super) unset: &'static str,
    /// The short flag.
    pub short: Option<char>,
    /// Its names in other programs. Flags accept them; in a recipe file they are an error that suggests the right name.
    pub aliases: &'static [&'static str],
    /// When it has an effect.
    pub applies: Condition,
    /// The changes that a resume may make.
    pub resume: Resume,
    /// Alternatives: a layer with this setting replaces those of the layers below.
    pub replaces: &'static [&'static str],
    /// The hint in errors about values of another type.
    pub(super) hint: &'static str,
}

/// The changes of a setting that a resume may make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resume {
    /// None: it determines the result.
    Fixed,
    /// Any: it changes no result, but for a path to the same data.
    Free,
    /// Any: it changes what follows, and so what a run ends with.
    Onward,
    /// A path may be replaced by another path, but a name not by another name.
    Path,
    /// Any, if the [learning rates](Recipe::rates_depend_on_length) of the steps so far do not depend on it.
    Length,
}

impl Setting {
    pub(super) const fn new(name: &'static str, heading: &'static str, doc: &'static str, kind: Kind) -> Self {
        Self {
            name,
            heading,
            doc,
            kind,
            range: Range::Any,
            order: Order::Any,
            value_name: "",
            unset: "",
            short: None,
            aliases: &[],
            applies: Condition::Always,
            resume: Resume::Fixed,
            replaces: &[],
            hint: "",
        }
    }

    /// The setting called `name`, as in a recipe file.
    pub fn find(name: &str) -> Option<&'static Self> {
        super::SETTINGS.iter().find(|setting| setting.name == name)
    }

    /// Its flag without the dashes in front: `batch-size`.
    pub fn flag(&self) -> String {
        flag(self.name)
    }

    /// Its documentation for `--help`, in one sentence or a few: other settings are named by their flags.
    pub fn help(&self) -> String {
        let parts = self.doc().split('`').map(str::to_owned).collect::<Vec<_>>();
        let name = |(index, part): (usize, String)| match index % 2 == 1 && Self::find(&part).is_some() {
            true => format!("--{}", flag(&part)),
            false => part,
        };
        parts.into_iter().enumerate().map(name).collect()
    }

    /// Its documentation, with the names of settings in backticks as in a recipe file.
    pub fn doc(&self) -> String {
        self.doc.split_whitespace().collect::<Vec<_>>().join(" ").trim_end_matches('.').to_owned()
    }

    /// The placeholder for its value in help.
    pub fn value_name(&self) -> String {
        match self.kind {
            _ if !self.value_name.is_empty() => self.value_name.into(),
            Kind::Switch => "true|false".into(),
            Kind::Whole => "N".into(),
            Kind::Number => "X".into(),
            Kind::Text | Kind::Texts => "TEXT".into(),
            Kind::Choice(names) => names.join("|"),
            Kind::Pair => "LOW,HIGH".into(),
            Kind::Numbers => "X,X…".into(),
            Kind::Wholes => "N,N…".into(),
        }
    }

    /// The default where neither preset, file nor flag gives it: a value as in a recipe file, or a description.
    pub fn default(&self) -> String {
        match self.default_value() {
            Some(Value::Float(value)) => Decimal(value).to_string(),
            Some(value) => value.to_string(),
            None if self.unset.is_empty() => "none".into(),
            None => self.unset.into(),
        }
    }

    pub(super) fn default_value(&self) -> Option<Value> {
        Recipe::default().value(self.name)
    }

    /// Whether it has a default value.
    pub fn has_default_value(&self) -> bool {
        self.default_value().is_some()
    }

    /// Whether presets contain it, so that its default rarely applies.
    pub fn is_in_presets(&self) -> bool {
        let key = format!("\n{} = ", self.name);
        PRESETS.iter().any(|preset| preset.text.contains(&key))
    }

    /// The values that it accepts, in words.
    pub fn accepts(&self) -> String {
        self.kind.describe(self.range, self.order)
    }

    /// `value`, normalised to the recipe's form.
    ///
    /// # Errors
    /// What was expected, if it is of another type or out of range.
    pub(super) fn check(&self, value: Value) -> Result<Value, String> {
        let is_text = value.is_str();
        self.kind.check(value, self.range, self.order).map_err(|expected| match self.hint {
            hint if is_text && !hint.is_empty() => format!("{expected} ({hint})"),
            _ => expected,
        })
    }
}

/// The flag of a setting without the dashes in front.
pub(super) fn flag(name: &str) -> String {
    name.replace('_', "-")
}

/// Generates [`Recipe`], its default and [`SETTINGS`](super::SETTINGS) from a table: for each heading its settings, each
/// with documentation, name, type, default, and the fields that differ from [`Setting::new`].
macro_rules! settings {
    ($(
        $heading:literal:
        $(
            $(#[doc = $doc:literal])+
            $name:ident: $type:ty = $default:expr => { $($property:ident: $value:expr),* $(,)? }
        )+
    )+) => {
        /// All settings of a training run, with the names used in recipe files and flags.
        ///
        /// Fields that are `None` are resolved from the dataset, the given weights or the network.
        #[derive(Clone, Debug, PartialEq, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub struct Recipe {
            $($(
                $(#[doc = $doc])+
                pub $name: $type,
            )+)+
        }

        impl Default for Recipe {
            /// Plain SGD without a length, the base of every preset.
            fn default() -> Self {
                Self { $($($name: $default,)+)+ }
            }
        }

        impl Recipe {
            /// The value of the setting `name`, as in a recipe file; `None` if it has none, or if there is no such setting.
            pub fn value(&self, name: &str) -> Option<toml::Value> {
                match name {
                    $($(stringify!($name) => self.$name.value(),)+)+
                    _ => None,
                }
            }
        }

        /// Every setting, in the order of the fields of [`Recipe`].
        pub static SETTINGS: &[Setting] = &[$($(
            Setting {
                $($property: $value,)*
                ..Setting::new(stringify!($name), $heading, concat!($($doc, "\n"),+), <$type as Field>::KIND)
            },
        )+)+];
    };
}

pub(super) use settings;
