//! The types of settings, the values they accept, and parsing of values.

use residual_preprocess::{CropMode, Interpolation};
use std::fmt;
use std::path::PathBuf;
use toml::Value;

/// The type of a setting's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// On or off.
    Switch,
    /// An integer.
    Whole,
    /// A number.
    Number,
    /// A text that is not empty.
    Text,
    /// One of these names.
    Choice(&'static [&'static str]),
    /// Two numbers.
    Pair,
    /// Numbers, at least one.
    Numbers,
    /// Integers, at least one.
    Wholes,
    /// Texts, at least one; its flag may be given several times.
    Texts,
}

/// The numbers that a setting accepts, each of them in a list.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Range {
    /// All finite ones.
    Any,
    /// Integers between these, both included.
    Whole(i64, i64),
    /// Numbers between these.
    Number {
        /// The lower bound.
        low: f64,
        /// The upper bound; infinite where there is none.
        high: f64,
        /// Whether the lower and the upper bound themselves are excluded.
        open: [bool; 2],
    },
}

/// Integers from `least` to `most`.
pub(super) const fn whole(least: i64, most: i64) -> Range {
    Range::Whole(least, most)
}

/// Numbers from `low` to `high`.
pub(super) const fn number(low: f64, high: f64) -> Range {
    Range::Number { low, high, open: [false, false] }
}

/// Numbers from `low` to below `high`.
pub(super) const fn below(low: f64, high: f64) -> Range {
    Range::Number { low, high, open: [false, true] }
}

/// Numbers above `low`, up to `high`.
pub(super) const fn above(low: f64, high: f64) -> Range {
    Range::Number { low, high, open: [true, false] }
}

impl Range {
    fn holds(self, value: &Value) -> bool {
        match (self, value) {
            (Self::Whole(least, most), Value::Integer(value)) => (least..=most).contains(value),
            (Self::Number { low, high, open: [above, below] }, Value::Float(value)) => {
                // No comparison with a NaN holds.
                (if above { *value > low } else { *value >= low })
                    && (if below { *value < high } else { *value <= high })
                    && value.is_finite()
            }
            (Self::Any, Value::Float(value)) => value.is_finite(),
            _ => true,
        }
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Any => f.write_str("finite"),
            Self::Whole(least, most) => write!(f, "{least} to {most}"),
            Self::Number { low, high, open: [above, below] } => {
                let low = Decimal(low);
                match (above, high.is_finite()) {
                    (true, true) => write!(f, "above {low}, ")?,
                    (true, false) => write!(f, "above {low}")?,
                    (false, true) => write!(f, "{low} ")?,
                    (false, false) => write!(f, "{low} or more")?,
                }
                match (above, below) {
                    _ if high.is_infinite() => Ok(()),
                    (_, true) if above => write!(f, "below {}", Decimal(high)),
                    (_, true) => write!(f, "to below {}", Decimal(high)),
                    (true, false) => write!(f, "at most {}", Decimal(high)),
                    (false, false) => write!(f, "to {}", Decimal(high)),
                }
            }
        }
    }
}

/// A number in readable form.
pub(super) struct Decimal(pub(super) f64);

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = self.0.abs();
        if size != 0.0 && !(1e-4..1e6).contains(&size) { write!(f, "{:e}", self.0) } else { write!(f, "{}", self.0) }
    }
}

/// The order of the values in a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Any order.
    Any,
    /// None is below the one before.
    Ascending,
    /// Each is above the one before.
    StrictlyAscending,
}

impl Order {
    fn holds(self, values: &[Value]) -> bool {
        match self {
            Self::Any => true,
            Self::Ascending => values.is_sorted_by(|a, b| as_number(a) <= as_number(b)),
            Self::StrictlyAscending => values.is_sorted_by(|a, b| as_number(a) < as_number(b)),
        }
    }
}

/// `value` as a number, if it is one.
pub(super) fn as_number(value: &Value) -> Option<f64> {
    value.as_float().or(value.as_integer().map(|value| value as f64))
}

impl Kind {
    /// Parses the texts typed after a flag. A text that is not a value of this kind is returned as text, which
    /// [`Kind::check`] rejects with the expected kind.
    pub(super) fn read(self, texts: &[String]) -> Value {
        let one = |text: &str| {
            let text = text.trim();
            let number = || text.parse().map_or_else(|_| Value::String(text.into()), Value::Float);
            match self {
                Self::Switch => text.parse().map_or_else(|_| Value::String(text.into()), Value::Boolean),
                Self::Whole | Self::Wholes => text.parse().map_or_else(|_| number(), Value::Integer),
                Self::Number | Self::Pair | Self::Numbers => number(),
                Self::Text | Self::Choice(_) | Self::Texts => Value::String(text.into()),
            }
        };
        match self {
            Self::Texts => Value::Array(texts.iter().map(|text| one(text)).collect()),
            Self::Pair | Self::Numbers | Self::Wholes => {
                Value::Array(texts.iter().flat_map(|text| text.split(',')).map(one).collect())
            }
            // If a flag is given twice, the last one applies.
            _ => one(texts.last().map_or("", String::as_str)),
        }
    }

    /// Whether `value` is of this kind, within `range` and in `order`; integers become numbers where numbers are expected.
    ///
    /// # Errors
    /// What was expected.
    pub(super) fn check(self, value: Value, range: Range, order: Order) -> Result<Value, String> {
        let Some(value) = self.cast(value) else { return Err(self.describe(range, order)) };
        match &value {
            Value::Array(values) if !(values.iter().all(|value| range.holds(value)) && order.holds(values)) => {
                Err(self.describe(range, order))
            }
            Value::Array(_) => Ok(value),
            value if !range.holds(value) => Err(range.to_string()),
            _ => Ok(value),
        }
    }

    /// `value` as this kind, if it is of it.
    fn cast(self, value: Value) -> Option<Value> {
        let element = |kind: Self| move |value| kind.cast(value);
        Some(match (self, value) {
            (Self::Number, Value::Integer(value)) => Value::Float(value as f64),
            (Self::Pair, Value::Array(values)) if values.len() == 2 => Self::Numbers.cast(Value::Array(values))?,
            (Self::Numbers | Self::Wholes | Self::Texts, Value::Array(values)) if !values.is_empty() => {
                let kind = match self {
                    Self::Numbers => Self::Number,
                    Self::Wholes => Self::Whole,
                    _ => Self::Text,
                };
                Value::Array(values.into_iter().map(element(kind)).collect::<Option<_>>()?)
            }
            (Self::Switch, value @ Value::Boolean(_))
            | (Self::Whole, value @ Value::Integer(_))
            | (Self::Number, value @ Value::Float(_)) => value,
            (Self::Text, Value::String(text)) if !text.trim().is_empty() => Value::String(text),
            (Self::Choice(names), Value::String(text)) if names.contains(&text.as_str()) => Value::String(text),
            _ => return None,
        })
    }

    /// Description of this kind of value, for errors and documentation.
    pub(super) fn describe(self, range: Range, order: Order) -> String {
        let (each, ascending) = (
            if range == Range::Any { String::new() } else { format!(", each {range}") },
            if order == Order::Any { "" } else { "ascending " },
        );
        match self {
            Self::Switch => "true or false".into(),
            Self::Whole => format!("a whole number, {range}"),
            Self::Number => format!("a number, {range}"),
            Self::Text => "a text that is not empty".into(),
            Self::Choice([names @ .., last]) => format!("{} or {last}", names.join(", ")),
            Self::Choice([]) => unreachable!("a choice has names"),
            Self::Pair => format!("two {ascending}numbers{each}"),
            Self::Numbers => format!("{ascending}numbers{each}"),
            Self::Wholes => format!("{ascending}whole numbers{each}"),
            Self::Texts => "texts".into(),
        }
    }
}

/// A type that a field of a recipe can have.
pub(super) trait Field {
    /// The kind of its values.
    const KIND: Kind;

    /// Its value; `None` for an empty option.
    fn value(&self) -> Option<Value>;
}

/// A number that TOML has no integer for is a text, which no setting of integers accepts.
fn integer(value: u64) -> Value {
    i64::try_from(value).map_or_else(|_| Value::String(value.to_string()), Value::Integer)
}

macro_rules! fields {
    ($($type:ty: $kind:expr, $self:ident => $value:expr;)+) => { $(
        impl Field for $type {
            const KIND: Kind = $kind;
            fn value(&$self) -> Option<Value> {
                Some($value)
            }
        }
    )+ };
}

fields! {
    bool: Kind::Switch, self => Value::Boolean(*self);
    usize: Kind::Whole, self => integer(*self as u64);
    u64: Kind::Whole, self => integer(*self);
    f64: Kind::Number, self => Value::Float(*self);
    String: Kind::Text, self => Value::String(self.clone());
    // A path that is not UTF-8 has no form in TOML: it is given as a list, which no path is.
    PathBuf: Kind::Text, self => match self.to_str() {
        Some(path) => Value::String(path.into()),
        None => Value::Array(vec![Value::String(self.to_string_lossy().into_owned())]),
    };
    [f64; 2]: Kind::Pair, self => Value::Array(self.iter().copied().map(Value::Float).collect());
    Vec<f64>: Kind::Numbers, self => Value::Array(self.iter().copied().map(Value::Float).collect());
    Vec<u64>: Kind::Wholes, self => Value::Array(self.iter().copied().map(integer).collect());
    Vec<String>: Kind::Texts, self => Value::Array(self.iter().cloned().map(Value::String).collect());
    CropMode: Kind::Choice(&["center", "squash", "border"]), self => Value::String(match self {
        Self::Center => "center".into(),
        Self::Squash => "squash".into(),
        Self::Border => "border".into(),
    });
    Interpolation: Kind::Choice(&["bilinear", "bicubic"]), self => Value::String(match self {
        Self::Bilinear => "bilinear".into(),
        Self::Bicubic => "bicubic".into(),
    });
}

impl<T: Field> Field for Option<T> {
    const KIND: Kind = T::KIND;

    fn value(&self) -> Option<Value> {
        self.as_ref().and_then(Field::value)
    }
}
