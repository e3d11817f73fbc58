//! Spaces of settings: values for some settings of a recipe.

use crate::SearchError;
use residual_files::{printable, read_text};
use residual_train::{Kind, Layer, Setting};
use std::path::Path;
use toml::{Table, Value};

/// Longer descriptions are rejected before parsing.
const MAX_BYTES: u64 = 1 << 16;
/// Values of a range of numbers.
const VALUES: usize = 49;
/// Values of a dimension.
const MAX_VALUES: usize = 1000;
/// Characters of a value that an error shows.
const MAX_SHOWN: usize = 60;
/// Settings that all trials share, as these decide what the trials are judged by, or how long they take.
const SHARED: [&str; 11] = [
    "data",
    "data_dir",
    "val_split",
    "seed",
    "epochs",
    "max_steps",
    "time_budget",
    "experiment",
    "val_interval",
    "eval_metric",
    "tta",
];

/// A setting with the values that a search chooses from.
#[derive(Clone, Debug, PartialEq)]
pub struct Dimension {
    /// The setting.
    pub setting: &'static str,
    /// Its values, at least one; numbers of a range rise.
    pub values: Vec<Value>,
    /// Whether they are a range, whose neighbours are alike.
    pub is_range: bool,
    /// Whether the numbers of a range rise by a factor.
    pub is_logarithmic: bool,
}

/// Settings, each with the values that a search chooses from.
///
/// Described as `lr=log(1e-3,1),opt=choose(sgd,adamw)`, or in TOML as `lr = { log = [1e-3, 1] }`: `log(low,high)` and
/// `uniform(low,high)` are 49 numbers from `low` to `high`, rising by a factor or by a difference, to three digits; of a setting of whole
/// numbers they are rounded to different ones, with `uniform` to all in the range if these are no more; `choose(a,b,…)` is a list.
#[derive(Clone, Debug, PartialEq)]
pub struct SettingSpace {
    dimensions: Vec<Dimension>,
    text: String,
}

impl SettingSpace {
    /// The space that `texts` describe together, each a list as above or a file whose name ends in `.toml`.
    ///
    /// # Errors
    /// If a file cannot be read, or with the first setting that is unknown, given twice, shared by all trials, or has a value that it
    /// does not accept.
    pub fn open<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Self, SearchError> {
        let mut space = Self { dimensions: Vec::new(), text: String::new() };
        for text in texts {
            if text.ends_with(".toml") {
                let table = toml::from_str(&read_text(Path::new(text), MAX_BYTES)?);
                let table = table.map_err(|error: toml::de::Error| SearchError::Space {
                    space: text.into(),
                    what: error.message().replace('\n', ", "),
                })?;
                space.add(Some(text), table)?;
            } else {
                let parse = || items(text)?.into_iter().map(item).collect::<Result<Vec<_>, _>>();
                for (name, value) in parse().map_err(|what| invalid(None, what))? {
                    space.add(None, Table::from_iter([(name, value)]))?;
                }
            }
        }
        match space.dimensions.is_empty() {
            false => Ok(space),
            true => Err(invalid(None, "expected at least one setting, such as lr=log(0.001,1), got none")),
        }
    }

    /// Adds the settings of a table, that of a file or of a text.
    fn add(&mut self, file: Option<&str>, table: Table) -> Result<(), SearchError> {
        let origin = file.unwrap_or("space");
        for (name, value) in table {
            let Some(setting) = Setting::find(&name) else {
                // The message has the nearest name.
                let unknown = Layer::chosen(origin, &format!("{name:?} = 0")).expect_err("no setting has this name");
                return Err(SearchError::Recipe(Box::new(unknown.into())));
            };
            let fail = |what: String| Err(invalid(file, format!("{name}: {what}")));
            if SHARED.contains(&setting.name) {
                return fail("expected a setting that trials may differ in, got one that they share".into());
            }
            if self.dimensions.iter().any(|known| known.setting == setting.name) {
                return fail("expected once, got twice".into());
            }
            let dimension = match dimension(setting, &value) {
                Ok(dimension) => dimension,
                Err(what) => return fail(what),
            };
            for value in &dimension.values {
                Layer::chosen(origin, &line(setting.name, value))
                    .map_err(|error| SearchError::Recipe(Box::new(error.into())))?;
            }
            self.text += &line(setting.name, &value);
            self.dimensions.push(dimension);
        }
        Ok(())
    }

    /// The settings.
    pub fn dimensions(&self) -> &[Dimension] {
        &self.dimensions
    }

    /// The number of combinations; `u128::MAX` if there are more.
    pub fn size(&self) -> u128 {
        self.dimensions.iter().fold(1, |size, dimension| size.saturating_mul(dimension.values.len() as u128))
    }

    /// The description in TOML.
    pub fn text(&self) -> &str {
        &self.text
    }
}

fn invalid(file: Option<&str>, what: impl Into<String>) -> SearchError {
    let what = what.into();
    match file {
        Some(file) => SearchError::Space { space: file.into(), what },
        None => SearchError::SettingSpace { what },
    }
}

/// A line of a recipe file.
pub(crate) fn line(name: &str, value: &Value) -> String {
    format!("{name} = {value}\n")
}

/// The parts of a text between commas that are in no parentheses.
fn items(text: &str) -> Result<Vec<&str>, String> {
    let (mut items, mut start, mut depth) = (Vec::new(), 0, 0i32);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'(' => depth += 1,
            b')' => depth -= 1,
            b',' if depth == 0 => {
                items.push(text[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
        if depth < 0 {
            break;
        }
    }
    if depth != 0 {
        return Err(format!("expected as many ( as ), got {}", printable(text, MAX_SHOWN)));
    }
    items.push(text[start..].trim());
    items.retain(|item| !item.is_empty());
    Ok(items)
}

/// A setting's name and its description in TOML, of `lr=log(1e-3,1)`.
fn item(text: &str) -> Result<(String, Value), String> {
    let parse = || {
        let (name, rest) = text.split_once('=')?;
        let (function, arguments) = rest.trim().strip_suffix(')')?.split_once('(')?;
        let arguments = items(arguments).ok()?.into_iter().map(value).collect();
        let table = Table::from_iter([(function.trim().to_owned(), Value::Array(arguments))]);
        Some((name.trim().replace('-', "_"), Value::Table(table)))
    };
    let expected = "expected NAME=log(LOW,HIGH), NAME=uniform(LOW,HIGH) or NAME=choose(A,B,…)";
    parse().ok_or_else(|| format!("{expected}, got {}", printable(text, MAX_SHOWN)))
}

/// A value as typed: a number, true or false, or a text.
fn value(text: &str) -> Value {
    if let Ok(whole) = text.parse() {
        Value::Integer(whole)
    } else if let Some(number) = text.parse().ok().filter(|number: &f64| number.is_finite()) {
        Value::Float(number)
    } else {
        text.parse().map_or_else(|_| Value::String(text.into()), Value::Boolean)
    }
}

/// The values of a setting that are described as `{ log = [low, high] }`, `{ uniform = [low, high] }` or `{ choose = [a, b] }`.
fn dimension(setting: &'static Setting, description: &Value) -> Result<Dimension, String> {
    let wrong = || {
        let got = printable(&description.to_string(), MAX_SHOWN);
        format!("expected log(LOW,HIGH), uniform(LOW,HIGH) or choose(A,B,…), got {got}")
    };
    let table = description.as_table().filter(|table| table.len() == 1).ok_or_else(wrong)?;
    let (function, arguments) = table.iter().next().expect("one entry");
    let arguments = arguments.as_array().filter(|values| !values.is_empty()).ok_or_else(wrong)?;
    let is_logarithmic = function == "log";
    match function.as_str() {
        "choose" => {
            let mut values: Vec<Value> = Vec::new();
            for value in arguments {
                if !values.contains(value) {
                    values.push(value.clone());
                }
            }
            match values.len() <= MAX_VALUES {
                true => Ok(Dimension { setting: setting.name, values, is_range: false, is_logarithmic }),
                false => Err(format!("expected at most {MAX_VALUES} values, got {}", values.len())),
            }
        }
        "log" | "uniform" => {
            let number = |value: &Value| value.as_float().or(value.as_integer().map(|whole| whole as f64));
            let [low, high] = &arguments[..] else { return Err(wrong()) };
            let [Some(low), Some(high)] = [low, high].map(number) else { return Err(wrong()) };
            if !(low < high && (low > 0.0 || !is_logarithmic)) {
                let from = if is_logarithmic { "above 0 " } else { "" };
                return Err(format!("expected two numbers {from}of which the second is larger, got {low} and {high}"));
            }
            let values = match setting.kind {
                Kind::Number => numbers(low, high, is_logarithmic),
                Kind::Whole => wholes(low, high, is_logarithmic)?,
                _ => return Err(format!("expected choose(A,B,…), as it is no number, got {function}")),
            };
            Ok(Dimension { setting: setting.name, values, is_range: true, is_logarithmic })
        }
        _ => Err(wrong()),
    }
}

/// The number at `place` of `count` from `low` to `high`.
fn between(low: f64, high: f64, is_logarithmic: bool, place: usize, count: usize) -> f64 {
    let share = place as f64 / (count - 1) as f64;
    if is_logarithmic { low * (high / low).powf(share) } else { low + (high - low) * share }
}

/// Numbers from `low` to `high`, those between them to three digits.
fn numbers(low: f64, high: f64, is_logarithmic: bool) -> Vec<Value> {
    let mut values: Vec<f64> = Vec::new();
    for place in 0..VALUES {
        let exact = match place {
            0 => low,
            _ if place == VALUES - 1 => high,
            _ => format!("{:.2e}", between(low, high, is_logarithmic, place, VALUES)).parse().expect("a number"),
        };
        // Rounding may leave a narrow range, or its order.
        if values.last().is_none_or(|last| exact > *last) && (low..=high).contains(&exact) {
            values.push(exact);
        }
    }
    values.into_iter().map(Value::Float).collect()
}

/// Whole numbers from `low` to `high`, both included if they are whole; an error is a line.
fn wholes(low: f64, high: f64, is_logarithmic: bool) -> Result<Vec<Value>, String> {
    let [first, last] = [low.ceil(), high.floor()];
    if first > last {
        return Err(format!("expected a range with a whole number, got none between {low} and {high}"));
    }
    let count = if is_logarithmic { VALUES } else { ((last - first) as usize).saturating_add(1).min(VALUES) };
    let mut values = vec![first as i64];
    for place in 1..count {
        let whole = between(first, last, is_logarithmic, place, count).round().min(last) as i64;
        if values.last().is_none_or(|last| whole > *last) {
            values.push(whole);
        }
    }
    Ok(values.into_iter().map(Value::Integer).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn values(text: &str) -> Vec<String> {
        SettingSpace::open([text]).unwrap().dimensions()[0].values.iter().map(Value::to_string).collect()
    }

    #[test]
    fn ranges_have_their_bounds_and_readable_numbers_between() {
        let lr = values("lr=log(1e-3,1)");
        assert_eq!((lr.len(), &*lr[0], &*lr[16], &*lr[24], &*lr[48]), (49, "0.001", "0.01", "0.0316", "1.0"));
        let smoothing = values("smoothing=uniform(0,0.2)");
        assert_eq!((&*smoothing[0], &*smoothing[1], &*smoothing[48]), ("0.0", "0.00417", "0.2"));
        assert_eq!(values("grad-accum-steps=uniform(1,4)"), ["1", "2", "3", "4"]);
        // By hand: the powers of 2 in between, and what rounds to other whole numbers.
        let batches = values("batch_size=log(32,256)");
        assert!(["32", "64", "128", "256"].iter().all(|size| batches.iter().any(|value| value == size)));
        assert_eq!(values("sched=choose(cosine,linear,cosine)"), ["\"cosine\"", "\"linear\""]);
        assert_eq!(values("nesterov=choose(true,false)"), ["true", "false"]);
    }

    proptest! {
        #[test]
        fn whole_numbers_of_a_range_rise_from_its_first_to_its_last(
            low in 0.0f64..2000.0, span in 0.0f64..2000.0, round in any::<[bool; 2]>(), is_logarithmic in any::<bool>(),
        ) {
            let rounded = |number: f64, round| if round { number.round() } else { number };
            let low = rounded(low, round[0]) + if is_logarithmic { 1.0 } else { 0.0 };
            let high = low + rounded(span, round[1]);
            let expected = (low.ceil() as i64, high.floor() as i64);
            match wholes(low, high, is_logarithmic) {
                Err(_) => prop_assert!(expected.0 > expected.1),
                Ok(values) => {
                    let values: Vec<i64> = values.iter().filter_map(Value::as_integer).collect();
                    prop_assert_eq!((values[0], values[values.len() - 1]), expected);
                    prop_assert!(values.windows(2).all(|pair| pair[0] < pair[1]));
                    let all = (expected.1 - expected.0) as usize + 1;
                    prop_assert!(values.len() <= VALUES && (is_logarithmic || values.len() == all.min(VALUES)));
                }
            }
        }
    }

    #[test]
    fn a_file_is_the_same_as_the_text() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("space.toml");
        std::fs::write(&file, "lr = { log = [1e-3, 1] }\nsched = { choose = ['cosine', 'linear'] }\n").unwrap();
        let file = SettingSpace::open([file.to_str().unwrap()]).unwrap();
        let text = SettingSpace::open(["lr=log(1e-3, 1), sched=choose(cosine,linear)"]).unwrap();
        assert_eq!(file.dimensions(), text.dimensions());
        assert_eq!((text.dimensions().len(), text.size()), (2, 98));
        assert_eq!(SettingSpace::open(["lr=log(1e-3,1)", "sched=choose(cosine,linear)"]).unwrap(), text);
    }

    #[test]
    fn what_is_no_space_is_refused_by_its_setting() {
        let error = |text: &str| SettingSpace::open([text]).unwrap_err().to_string();
        for (text, expected) in [
            ("", "space: expected at least one setting, such as lr=log(0.001,1), got none"),
            ("lr", "space: expected NAME=log(LOW,HIGH), NAME=uniform(LOW,HIGH) or NAME=choose(A,B,…), got lr"),
            ("lr=log(1", "space: expected as many ( as ), got lr=log(1"),
            ("lr=log(1)", "space: lr: expected log(LOW,HIGH), uniform(LOW,HIGH) or choose(A,B,…), got { log = [1] }"),
            ("lr=log(0,1)", "space: lr: expected two numbers above 0 of which the second is larger, got 0 and 1"),
            ("lr=uniform(1,1)", "space: lr: expected two numbers of which the second is larger, got 1 and 1"),
            ("lr=log(0.1,1),lr=log(0.1,1)", "space: lr: expected once, got twice"),
            (
                "grad-accum-steps=uniform(1.2,1.8)",
                "space: grad_accum_steps: expected a range with a whole number, got none between 1.2 and 1.8",
            ),
            ("sched=log(1,2)", "space: sched: expected choose(A,B,…), as it is no number, got log"),
            ("seed=uniform(1,5)", "space: seed: expected a setting that trials may differ in, got one that they share"),
            ("learning_rate=log(0.1,1)", "space: unknown key \"learning_rate\" (did you mean \"lr\"?)"),
        ] {
            assert_eq!(error(text), expected);
        }
        assert!(error("smoothing=uniform(0,2)").contains("smoothing"));
        // More whole numbers than can be counted.
        assert!(error("grad-accum-steps=uniform(1,1e30)").contains("grad_accum_steps"));
        assert!(error("sched=choose(cosine,round)").contains("sched"));
    }
}
