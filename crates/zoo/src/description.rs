//! A network described in TOML.

use crate::{
    Cell, CifarResNeXt, CifarResNet, Config, ConvNeXt, DenseNet, Family, GoogLeNet, LectureResNet, NasBench201, Plain,
    PreActResNet, ResNet, ResNetV2, Shortcut, Vgg, WideResNet, ZooError,
};
use residual_files::{nearest, printable};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::mem::discriminant;
use toml::{Table, Value};

/// Longer texts are rejected before parsing: the longest description has some twenty lines.
const MAX_BYTES: usize = 1 << 16;
/// Longer values are truncated in errors.
const MAX_SHOWN: usize = 60;

/// Creates the default network of a family.
type Member = fn() -> Family;

/// The names of families in descriptions, with their default networks.
const FAMILIES: &[(&str, Member)] = &[
    ("resnet", || ResNet::resnet50().into()),
    ("resnext", || ResNet::resnext([3, 4, 6, 3], 32, 4).into()),
    ("wide_resnet", || ResNet::wide([3, 4, 6, 3]).into()),
    ("cifar_resnet", || CifarResNet::new(3, Shortcut::Projection).into()),
    ("cifar_resnext", || CifarResNeXt::resnext29(8, 64).into()),
    ("preact_resnet", || PreActResNet::new(crate::Block::Basic, [2; 4]).into()),
    ("resnetv2", || ResNetV2::new([3, 4, 6, 3]).into()),
    ("wrn", || WideResNet::new(28, 10).into()),
    ("convnext", || ConvNeXt::tiny().into()),
    ("plain", || Plain::cifar(3).into()),
    ("vgg", || Vgg::vgg19(false).into()),
    ("densenet", || DenseNet::densenet121().into()),
    ("googlenet", || GoogLeNet::default().into()),
    ("lecture_resnet", || LectureResNet::resnet50().into()),
    ("nasbench201", || NasBench201::new(Cell::RESNET).into()),
];

/// Keys that every family has.
const COMMON: [&str; 5] = ["family", "name", "in_chans", "num_classes", "image_size"];

/// Reads a network from TOML: `family`, and the fields that differ from the family's default network.
/// Every family also has `name`, `in_chans`, `num_classes` (0: no head) and `image_size` (a side, or height and width).
///
/// ```
/// let config = residual_zoo::from_toml(
///     r#"
///     family = "resnet"
///     name = "resnet26d"
///     depths = [2, 2, 2, 2]
///     stem = "deep"
///     avg_shortcut = true
///     "#,
/// )
/// .unwrap();
/// assert_eq!(config.graph().unwrap().parameter_count(), 16_014_408);
/// ```
///
/// # Errors
/// If the text is not TOML, or with the key that is unknown, of the wrong type or out of range.
pub fn from_toml(text: &str) -> Result<Config, ZooError> {
    if text.len() > MAX_BYTES {
        let message = format!("expected at most {MAX_BYTES} bytes, got {}", text.len());
        return Err(ZooError::Syntax { line: 1, message });
    }
    from_table(toml::from_str(text).map_err(|error| {
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or("");
        ZooError::Syntax { line: before.matches('\n').count() + 1, message: error.message().replace('\n', ", ") }
    })?)
}

/// [`from_toml`], of a table that was read.
///
/// # Errors
/// With the key that is unknown, of the wrong type or out of range.
pub fn from_table(mut table: Table) -> Result<Config, ZooError> {
    let names = || FAMILIES.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    let family = match table.remove("family") {
        Some(Value::String(name)) => name,
        Some(other) => return Err(ZooError::field("family", format!("one of {}", names()), show(&other))),
        None => return Err(ZooError::field("family", format!("one of {}", names()), "none")),
    };
    let Some((name, default)) = FAMILIES.iter().find(|(name, _)| *name == family) else {
        return Err(ZooError::field("family", format!("one of {}", names()), show(&Value::String(family))));
    };
    let given = |key| table.get(key).map(|value: &Value| (key, value.clone()));
    let common = (given("name"), given("in_chans"), given("num_classes"), given("image_size"));
    table.retain(|key, _| !COMMON.contains(&key));
    let family: Family = match default() {
        Family::ResNet(default) => overlay(&default, table)?.into(),
        Family::CifarResNet(default) => overlay(&default, table)?.into(),
        Family::PreActResNet(default) => overlay(&default, table)?.into(),
        Family::ResNetV2(default) => overlay(&default, table)?.into(),
        Family::WideResNet(default) => overlay(&default, table)?.into(),
        Family::CifarResNeXt(default) => overlay(&default, table)?.into(),
        Family::ConvNeXt(default) => overlay(&default, table)?.into(),
        Family::Plain(default) => overlay(&default, table)?.into(),
        Family::Vgg(default) => overlay(&default, table)?.into(),
        Family::DenseNet(default) => overlay(&default, table)?.into(),
        Family::GoogLeNet(default) => overlay(&default, table)?.into(),
        Family::LectureResNet(default) => overlay(&default, table)?.into(),
        Family::NasBench201(default) => overlay(&default, table)?.into(),
    };
    let mut config = Config::new(name, family);
    let (name, in_chans, num_classes, image_size) = common;
    if let Some((key, value)) = name {
        config.name = read(key, value)?;
    }
    if let Some((key, value)) = in_chans {
        config.in_chans = read(key, value)?;
    }
    if let Some((key, value)) = num_classes {
        config.num_classes = read(key, value)?;
    }
    if let Some((key, value)) = image_size {
        config.image_size = match value {
            Value::Integer(_) => [read(key, value)?; 2],
            _ => read(key, value)?,
        };
    }
    config.validate()?;
    Ok(config)
}

impl Config {
    /// The network in TOML, with every field: [`from_toml`] reads the same network back.
    pub fn to_toml(&self) -> String {
        let (name, _) = FAMILIES
            .iter()
            .find(|(_, default)| discriminant(&default()) == discriminant(&self.family))
            .expect("every family has a name");
        let mut table = fields(&self.family);
        table.insert("family".into(), (*name).into());
        table.insert("name".into(), self.name.clone().into());
        for (key, number) in [("in_chans", self.in_chans), ("num_classes", self.num_classes)] {
            table.insert(key.into(), Value::Integer(number as i64));
        }
        table.insert("image_size".into(), Value::Array(self.image_size.map(|side| Value::Integer(side as i64)).into()));
        table.to_string()
    }
}

/// The fields of a family's network.
fn fields(family: &Family) -> Table {
    match family {
        Family::ResNet(config) => table(config),
        Family::CifarResNet(config) => table(config),
        Family::PreActResNet(config) => table(config),
        Family::ResNetV2(config) => table(config),
        Family::WideResNet(config) => table(config),
        Family::CifarResNeXt(config) => table(config),
        Family::ConvNeXt(config) => table(config),
        Family::Plain(config) => table(config),
        Family::Vgg(config) => table(config),
        Family::DenseNet(config) => table(config),
        Family::GoogLeNet(config) => table(config),
        Family::LectureResNet(config) => table(config),
        Family::NasBench201(config) => table(config),
    }
}

fn table(config: &impl Serialize) -> Table {
    Table::try_from(config).expect("every field of a family has a TOML form")
}

/// `default`, overridden by the fields of `table`.
fn overlay<T: Serialize + DeserializeOwned>(default: &T, table: Table) -> Result<T, ZooError> {
    let fields = self::table(default);
    let mut joined = fields.clone();
    for (key, value) in table {
        if !fields.contains_key(&key) {
            let nearest = nearest(&key, fields.keys().map(String::as_str).chain(COMMON)).map(str::to_owned);
            return Err(ZooError::UnknownKey { key: printable(&key, MAX_SHOWN), nearest });
        }
        // One key at a time, so that an error refers to this key.
        let mut one = fields.clone();
        one.insert(key.clone(), value.clone());
        one.try_into::<T>().map_err(|error| mistyped(&key, &value, &error))?;
        joined.insert(key, value);
    }
    Ok(joined.try_into().expect("every value was read by itself"))
}

fn read<T: DeserializeOwned>(key: &str, value: Value) -> Result<T, ZooError> {
    value.clone().try_into().map_err(|error| mistyped(key, &value, &error))
}

/// serde's message for a value of the wrong type, in the terms of TOML.
fn mistyped(key: &str, value: &Value, error: &toml::de::Error) -> ZooError {
    let message = error.message();
    let expected = message.rsplit_once("expected ").map_or(message, |(_, expected)| expected);
    let expected = match expected {
        "usize" => "whole numbers from 0".to_owned(),
        "f32" => "a number".to_owned(),
        "a boolean" => "true or false".to_owned(),
        "fewer elements in array" => "a shorter list".to_owned(),
        "a sequence" => "a list of numbers".to_owned(),
        "string only" | "string or table" => "a name in quotes".to_owned(),
        _ => expected.strip_prefix("an array of length ").map_or(expected.to_owned(), |n| format!("a list of {n}")),
    };
    ZooError::field(key, expected, show(value))
}

fn show(value: &Value) -> String {
    printable(&value.to_string(), MAX_SHOWN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entries;

    #[test]
    fn every_family_can_be_described_and_has_a_named_network() {
        for variant in Family::VARIANTS {
            let described = FAMILIES.iter().any(|(_, member)| member().variant() == *variant);
            assert!(described, "{variant} has no line in FAMILIES");
            let named = entries().iter().any(|entry| entry.config.family.variant() == *variant);
            assert!(named, "{variant} has no network in the registry");
        }
    }

    #[test]
    fn every_description_of_a_family_alone_is_a_network() {
        for (name, _) in FAMILIES {
            let config = from_toml(&format!("family = \"{name}\"")).unwrap();
            assert!(config.graph().is_ok(), "{name}");
        }
    }
}
