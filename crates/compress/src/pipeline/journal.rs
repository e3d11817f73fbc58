//! What a pipeline has done: its settings, its finished points and their measurements, in one file that is replaced as a whole.

use super::{Point, Size, Sizes};
use crate::CompressError;
use residual_files::{atomic_write, read_text};
use residual_train::{Layer, Recipe};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The longest journal that is read: some ten thousand points.
const MAX_BYTES: u64 = 16 << 20;

/// What decides the points. A folder's work only goes on with the same settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The original's weights.
    pub weights: String,
    /// The images that networks are chosen by.
    pub judged: String,
    /// Training images for scores of channels, and for calibration.
    pub calibration: usize,
    /// The seed of their choice.
    pub seed: u64,
    /// What scores a channel.
    pub criterion: String,
    /// How much is pruned.
    pub sizes: Sizes,
    /// Sides of images, besides those of the original.
    pub image_sizes: Vec<usize>,
    /// The recipe of fine-tuning, as TOML.
    pub finetune: String,
    /// The recipe of the student, as TOML, if there is one.
    pub student: Option<String>,
}

impl Settings {
    /// The first setting that differs, and both values.
    fn difference(&self, other: &Self) -> Option<(String, String, String)> {
        fn text(value: &impl Serialize) -> String {
            serde_json::to_string(value).expect("a setting has a JSON form")
        }
        let pairs = [
            ("weights", text(&self.weights), text(&other.weights)),
            ("judged images", text(&self.judged), text(&other.judged)),
            ("calib", text(&self.calibration), text(&other.calibration)),
            ("seed", text(&self.seed), text(&other.seed)),
            ("criterion", text(&self.criterion), text(&other.criterion)),
            ("pruning", text(&self.sizes), text(&other.sizes)),
            ("sizes", text(&self.image_sizes), text(&other.image_sizes)),
            ("student", text(&self.student.is_some()), text(&other.student.is_some())),
        ];
        let other_value = pairs.into_iter().find(|(_, ours, theirs)| ours != theirs);
        let other_value = other_value.map(|(name, ours, theirs)| (name.to_owned(), ours, theirs));
        let recipes = [
            ("finetune", Some(&self.finetune), Some(&other.finetune)),
            ("student", self.student.as_ref(), other.student.as_ref()),
        ];
        other_value.or_else(|| {
            recipes.into_iter().find_map(|(name, ours, theirs)| match [recipe(ours?), recipe(theirs?)] {
                [Some(ours), Some(theirs)] => {
                    let difference = ours.difference(&theirs)?;
                    Some((format!("{name}: {}", difference.setting), difference.expected, difference.got))
                }
                _ => (ours != theirs).then(|| (name.to_owned(), "a recipe".into(), "another".into())),
            })
        })
    }
}

/// The recipe of a resolved text.
fn recipe(text: &str) -> Option<Recipe> {
    Some(Recipe::resolve(&[Layer::parse("recipe", text).ok()?]).ok()?.recipe)
}

/// The content of the journal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    settings: Settings,
    /// The sizes of pruned networks, once the original is measured.
    sizes: Option<Vec<Size>>,
    /// The finished networks, the original first.
    points: Vec<Point>,
    /// Networks that there are not, by name, and why.
    skipped: BTreeMap<String, String>,
    /// Top-1 on the test images in percent, by network.
    tests: BTreeMap<String, f64>,
}

/// The journal of a folder.
pub(super) struct Journal {
    path: PathBuf,
    record: Record,
}

impl Journal {
    /// Begins the work in `folder`, or goes on with it.
    ///
    /// # Errors
    /// If it was begun with other settings, with the first that differs; or if the file is no journal, or cannot be read or written.
    pub(super) fn begin(folder: &Path, settings: &Settings) -> Result<Self, CompressError> {
        let path = folder.join("journal.json");
        if !path.try_exists().map_err(CompressError::io(&path))? {
            let record = Record {
                settings: settings.clone(),
                sizes: None,
                points: Vec::new(),
                skipped: BTreeMap::new(),
                tests: BTreeMap::new(),
            };
            let journal = Self { path, record };
            journal.write()?;
            return Ok(journal);
        }
        let record: Record = serde_json::from_str(&read_text(&path, MAX_BYTES)?)
            .map_err(|error| CompressError::Journal { path: path.clone(), got: error.to_string() })?;
        if let Some((what, expected, got)) = record.settings.difference(settings) {
            return Err(CompressError::OtherWork { path, what, expected, got });
        }
        Ok(Self { path, record })
    }

    pub(super) fn points(&self) -> &[Point] {
        &self.record.points
    }

    pub(super) fn point(&self, name: &str) -> Option<&Point> {
        self.record.points.iter().find(|point| point.name == name)
    }

    pub(super) fn skipped(&self) -> &BTreeMap<String, String> {
        &self.record.skipped
    }

    pub(super) fn sizes(&self) -> Option<&[Size]> {
        self.record.sizes.as_deref()
    }

    /// Top-1 of a network on the test images in percent, if it was judged on them.
    pub(super) fn test(&self, name: &str) -> Option<f64> {
        self.record.tests.get(name).copied()
    }

    pub(super) fn set_sizes(&mut self, sizes: Vec<Size>) -> Result<(), CompressError> {
        self.record.sizes = Some(sizes);
        self.write()
    }

    /// Adds a finished point, or replaces that of its name by one with more measurements.
    pub(super) fn add(&mut self, point: Point) -> Result<(), CompressError> {
        match self.record.points.iter_mut().find(|known| known.name == point.name) {
            Some(known) => *known = point,
            None => self.record.points.push(point),
        }
        self.write()
    }

    pub(super) fn skip(&mut self, name: &str, reason: String) -> Result<(), CompressError> {
        self.record.skipped.insert(name.to_owned(), reason);
        self.write()
    }

    pub(super) fn add_test(&mut self, name: &str, top1: f64) -> Result<(), CompressError> {
        self.record.tests.insert(name.to_owned(), top1);
        self.write()
    }

    fn write(&self) -> Result<(), CompressError> {
        let text = serde_json::to_string_pretty(&self.record).expect("a journal has a JSON form") + "\n";
        Ok(atomic_write(&self.path, |file| file.write_all(text.as_bytes()))?)
    }
}
