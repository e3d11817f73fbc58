//! A network whose fields are values or choices.
//!
//! - `field = value`: the value;
//! - `field = { choose = [a, b] }`: one of them;
//! - `field = { each = [[a, b], [c, d]] }`: a list, with a choice for every place;
//! - `field = { format = "{}-{}", each = [["a", "b"], ["c", "d"]] }`: a text, with a choice in place of every `{}`.
//!
//! In place of a list of choices, `{ from = 8, to = 64, step = 8 }` is a range of whole numbers; its step is 1 if none is given.

use residual_files::printable;
use toml::{Table, Value};

/// Choices of one dimension.
const MAX_CHOICES: usize = 256;
/// Places of a list or text.
const MAX_PLACES: usize = 64;
/// Longer values are truncated in errors.
const MAX_SHOWN: usize = 60;

/// A network with choices.
#[derive(Clone, Debug)]
pub(crate) struct Template {
    /// The fields that are values.
    fixed: Table,
    /// The fields that have choices, by name.
    open: Vec<(String, Field)>,
}

/// A field with choices.
#[derive(Clone, Debug)]
enum Field {
    /// One of several values.
    Choose(Vec<Value>),
    /// A list with a choice for every place.
    Each(Vec<Vec<Value>>),
    /// A text with a choice in place of every `{}`: its parts, of which there is one more than places.
    Format(Vec<String>, Vec<Vec<Value>>),
}

/// The choices of one place of a field.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Choices<'a> {
    pub(crate) field: &'a str,
    pub(crate) place: usize,
    pub(crate) choices: &'a [Value],
}

impl Template {
    /// Reads a network; the error is a line.
    pub(crate) fn read(table: Table) -> Result<Self, String> {
        let (mut fixed, mut open) = (Table::new(), Vec::new());
        for (key, value) in table {
            match value {
                Value::Table(inner) => {
                    let field = Field::read(inner).map_err(|what| format!("{}: {what}", printable(&key, MAX_SHOWN)))?;
                    open.push((key, field));
                }
                value => {
                    fixed.insert(key, value);
                }
            }
        }
        Ok(Self { fixed, open })
    }

    /// The choices of every place of every field that has some.
    pub(crate) fn choices(&self) -> impl Iterator<Item = Choices<'_>> {
        self.open.iter().flat_map(|(name, field)| {
            field.places().enumerate().map(move |(place, choices)| Choices { field: name, place, choices })
        })
    }

    /// The network with these choices, as many as [`Self::choices`].
    pub(crate) fn fill<'a>(&self, mut chosen: impl Iterator<Item = &'a Value>) -> Table {
        let mut table = self.fixed.clone();
        for (name, field) in &self.open {
            let mut chosen = chosen.by_ref().take(field.places().count()).cloned();
            let value = match field {
                Field::Choose(_) => chosen.next().expect("a choice for every place"),
                Field::Each(_) => Value::Array(chosen.collect()),
                Field::Format(parts, _) => {
                    let mut text = parts[0].clone();
                    for (part, choice) in parts[1..].iter().zip(chosen) {
                        match choice {
                            Value::String(choice) => text.push_str(&choice),
                            choice => text.push_str(&choice.to_string()),
                        }
                        text.push_str(part);
                    }
                    Value::String(text)
                }
            };
            table.insert(name.clone(), value);
        }
        table
    }
}

impl Field {
    fn read(mut table: Table) -> Result<Self, String> {
        let [choose, each, format] = ["choose", "each", "format"].map(|key| table.remove(key));
        match (choose, each, format) {
            (Some(choose), None, None) if table.is_empty() => Ok(Self::Choose(choices(choose)?)),
            (None, Some(each), None) if table.is_empty() => Ok(Self::Each(places(each)?)),
            (None, Some(each), Some(Value::String(format))) if table.is_empty() => {
                let parts: Vec<String> = format.split("{}").map(str::to_owned).collect();
                let places = places(each)?;
                if parts.len() != places.len() + 1 {
                    return Err(format!(
                        "each: expected choices for {} places {{}} of the format, got {}",
                        parts.len() - 1,
                        places.len()
                    ));
                }
                Ok(Self::Format(parts, places))
            }
            _ => Err("expected a value, or choices: { choose = [..] }, { each = [[..], ..] } or { format = \"..\", each = .. }"
                .into()),
        }
    }

    fn places(&self) -> Box<dyn Iterator<Item = &[Value]> + '_> {
        match self {
            Self::Choose(choices) => Box::new(std::iter::once(&choices[..])),
            Self::Each(places) | Self::Format(_, places) => Box::new(places.iter().map(Vec::as_slice)),
        }
    }
}

/// Choices for every place.
fn places(value: Value) -> Result<Vec<Vec<Value>>, String> {
    match value {
        Value::Array(places) if (1..=MAX_PLACES).contains(&places.len()) => places.into_iter().map(choices).collect(),
        other => Err(format!("each: expected choices for 1 to {MAX_PLACES} places, got {}", show(&other))),
    }
}

/// A list of choices, or a range of whole numbers.
fn choices(value: Value) -> Result<Vec<Value>, String> {
    let fail = |value: &Value| {
        let expected = "1 to 256 different choices, or { from = A, to = B, step = C } with as many";
        Err(format!("choices: expected {expected}, got {}", show(value)))
    };
    let choices = match &value {
        Value::Array(choices) => choices.clone(),
        Value::Table(range) => {
            let number = |key: &str| range.get(key).and_then(Value::as_integer);
            let step = if range.contains_key("step") { number("step") } else { Some(1) };
            let known = range.keys().all(|key| ["from", "to", "step"].contains(&key.as_str()));
            let (Some(from), Some(to), Some(step), true) = (number("from"), number("to"), step, known) else {
                return fail(&value);
            };
            let span = to.checked_sub(from).filter(|span| *span >= 0 && step > 0);
            let Some(last) = span.map(|span| span / step).filter(|last| *last < MAX_CHOICES as i64) else {
                return fail(&value);
            };
            (0..=last).map(|index| Value::Integer(from + index * step)).collect()
        }
        _ => return fail(&value),
    };
    let repeats = choices.iter().enumerate().any(|(index, choice)| choices[..index].contains(choice));
    if choices.is_empty() || choices.len() > MAX_CHOICES || repeats { fail(&value) } else { Ok(choices) }
}

fn show(value: &Value) -> String {
    printable(&value.to_string(), MAX_SHOWN)
}
