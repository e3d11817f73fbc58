//! When a setting has an effect.

use super::Recipe;
use super::value::as_number;
use std::fmt;
use toml::Value;

/// The condition for a setting to have an effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Nothing.
    Always,
    /// A setting has one of these values.
    Is(&'static str, &'static [&'static str]),
    /// A setting has none of these values.
    IsNot(&'static str, &'static [&'static str]),
    /// A switch is on.
    IsTrue(&'static str),
    /// An optional setting has a value.
    Given(&'static str),
    /// An optional setting has no value.
    Absent(&'static str),
    /// One of these numbers is above zero.
    AnyAboveZero(&'static [&'static str]),
    /// All of these numbers are above zero.
    AllAboveZero(&'static [&'static str]),
    /// All of these conditions.
    All(&'static [Condition]),
}

impl Condition {
    /// Whether it holds.
    pub fn holds(&self, recipe: &Recipe) -> bool {
        self.broken(recipe).is_none()
    }

    /// Its first part that does not hold.
    pub(super) fn broken(&self, recipe: &Recipe) -> Option<&Self> {
        let is_one_of = |name: &str, values: &[&str]| {
            recipe.value(name).as_ref().and_then(Value::as_str).is_some_and(|value| values.contains(&value))
        };
        let is_above_zero = |name: &&str| recipe.value(name).as_ref().and_then(as_number) > Some(0.0);
        let holds = match self {
            Self::Always => true,
            Self::Is(name, values) => is_one_of(name, values),
            Self::IsNot(name, values) => !is_one_of(name, values),
            Self::IsTrue(name) => recipe.value(name) == Some(Value::Boolean(true)),
            Self::Given(name) => recipe.value(name).is_some(),
            Self::Absent(name) => recipe.value(name).is_none(),
            Self::AnyAboveZero(names) => names.iter().any(is_above_zero),
            Self::AllAboveZero(names) => names.iter().all(is_above_zero),
            Self::All(conditions) => return conditions.iter().find_map(|condition| condition.broken(recipe)),
        };
        (!holds).then_some(self)
    }

    /// The settings that it depends on.
    pub(super) fn deciders(&self) -> Vec<&'static str> {
        match self {
            Self::Always => Vec::new(),
            Self::Is(name, _) | Self::IsNot(name, _) => vec![name],
            Self::IsTrue(name) | Self::Given(name) | Self::Absent(name) => vec![name],
            Self::AnyAboveZero(names) | Self::AllAboveZero(names) => names.to_vec(),
            Self::All(conditions) => conditions.iter().flat_map(Self::deciders).collect(),
        }
    }

    /// It in words, with `name` for the names of settings.
    pub(super) fn describe(&self, name: impl Fn(&str) -> String + Copy) -> String {
        let names = |names: &[&str], word| names.iter().map(|&each| name(each)).collect::<Vec<_>>().join(word);
        match self {
            Self::Always => String::new(),
            Self::Is(setting, list) => format!("{} {}", name(setting), either(list)),
            Self::IsNot(setting, list) => format!("{} other than {}", name(setting), either(list)),
            Self::IsTrue(setting) | Self::Given(setting) => name(setting),
            Self::Absent(setting) => format!("no {}", name(setting)),
            Self::AnyAboveZero(list) => format!("{} above 0", names(list, " or ")),
            Self::AllAboveZero(list) => format!("{} above 0", names(list, " and ")),
            Self::All(list) => list.iter().map(|each| each.describe(name)).collect::<Vec<_>>().join(" and "),
        }
    }
}

/// Values of which one is needed: `sgd, momentum or muon`.
pub(super) fn either(values: &[impl AsRef<str>]) -> String {
    let values: Vec<&str> = values.iter().map(AsRef::as_ref).collect();
    match &values[..] {
        [first @ .., before, last] => [first, &[&format!("{before} or {last}")]].concat().join(", "),
        values => values.concat(),
    }
}

/// A condition with the names of settings as they are in a recipe file.
impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.describe(|name| format!("`{name}`")))
    }
}
