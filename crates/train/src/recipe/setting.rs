//! What is known about a setting, and the macro that makes a recipe of a table of them.

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
    /// What it does, with the names of other settings in backticks.
    pub(super) doc: &'static str,
    /// The type of its values.
    pub kind: Kind,
    /// The numbers that it accepts.
    pub range: Range,
    /// How the numbers of a list follow each other.
    pub order: Order,
    /// What stands for a value in help; empty for the usual one of its kind.
    pub(super) value_name: &'static str,
    /// What holds where it is not given, if that is not a value.
    pub(super) unset: &'static str,
    /// The flag of one letter.
    pub short: Option<char>,
    /// What other programs call it. Flags accept these names; in a recipe file they are answered with the right one.
    pub aliases: &'static [&'static str],
    /// When it has an effect.
    pub applies: Condition,
    /// What a resumed run may change about it.
    pub resume: Resume,
    /// Settings that say the same in another way: a layer that gives this one replaces those of the layers below.
    pub(super) replaces: &'static [&'static str],
    /// What people who give a value of another type are told.
    pub(super) hint: &'static str,
}

/// What a resumed run may change about a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resume {
    /// Nothing: it decides the result.
    Fixed,
    /// Everything.
    Free,
    /// Where something is, but not its name: one path may take another's place.
    Path,
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

    /// What it does, in one sentence or a few, as `--help` says it: with flags where other settings are named.
    pub fn help(&self) -> String {
        let parts = self.doc().split('`').map(str::to_owned).collect::<Vec<_>>();
        let name = |(index, part): (usize, String)| match index % 2 == 1 && Self::find(&part).is_some() {
            true => format!("--{}", flag(&part)),
            false => part,
        };
        parts.into_iter().enumerate().map(name).collect()
    }

    /// What it does, with the names of settings in backticks as in a recipe file.
    pub fn doc(&self) -> String {
        self.doc.split_whitespace().collect::<Vec<_>>().join(" ").trim_end_matches('.').to_owned()
    }

    /// What stands for its value in help.
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

    /// What holds where neither preset, file nor flag gives it: a value as in a recipe file, or words.
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

    /// Whether it has a value where nobody gives one.
    pub fn has_default_value(&self) -> bool {
        self.default_value().is_some()
    }

    /// Whether presets give it, so that its default rarely counts.
    pub fn is_in_presets(&self) -> bool {
        let key = format!("\n{} = ", self.name);
        PRESETS.iter().any(|preset| preset.text.contains(&key))
    }

    /// The values that it accepts, in words.
    pub fn accepts(&self) -> String {
        self.kind.describe(self.range, self.order)
    }

    /// `value` in the form that the recipe keeps.
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

/// Makes [`Recipe`], its default and [`SETTINGS`](super::SETTINGS) of a table: for each heading its settings, each with its
/// documentation, name, type, default, and what differs from [`Setting::new`].
macro_rules! settings {
    ($(
        $heading:literal:
        $(
            $(#[doc = $doc:literal])+
            $name:ident: $type:ty = $default:expr => { $($property:ident: $value:expr),* $(,)? }
        )+
    )+) => {
        /// Everything that decides a training run, with the names that recipe files and flags use.
        ///
        /// Fields that are `None` are left to the dataset, the given weights or the network.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub struct Recipe {
            $($(
                $(#[doc = $doc])+
                #[serde(skip_serializing_if = "Field::is_none")]
                pub $name: $type,
            )+)+
        }

        impl Default for Recipe {
            /// Plain SGD of no length yet, which every preset builds on.
            fn default() -> Self {
                Self { $($($name: $default,)+)+ }
            }
        }

        impl Recipe {
            /// What the setting `name` holds, as a recipe file has it; `None` if nothing, or if there is no such setting.
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
