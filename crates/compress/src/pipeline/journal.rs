//! What a pipeline has done: its settings, its finished points and their measurements, in one file that is replaced as a whole.

use super::{Point, PruningTarget, PruningTargets};
use crate::CompressError;
use residual_data::Dataset;
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
    /// What latencies are measured on: threads, instruction set and processor.
    pub compute: String,
    /// The images that networks are chosen by: their number and [fingerprint](residual_data::Dataset::fingerprint_set).
    pub judged: ImageSet,
    /// Training images for scores of channels, and for calibration.
    pub calibration: ImageSet,
    /// The seed of their choice.
    pub seed: u64,
    /// What scores a channel.
    pub criterion: String,
    /// How much is pruned.
    pub sizes: PruningTargets,
    /// Sides of images, besides those of the original.
    pub image_sizes: Vec<usize>,
    /// The recipe of fine-tuning, as TOML.
    pub finetune: String,
    /// The recipe of the student, as TOML, if there is one.
    pub student: Option<String>,
    /// The student's configuration, which its name or file stands for.
    pub student_network: Option<String>,
}

/// Images by their content, not their place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageSet {
    /// How many.
    pub images: usize,
    /// Of all of them and their labels.
    pub fingerprint: u32,
}

impl ImageSet {
    /// Of a dataset.
    pub fn of(images: &dyn Dataset) -> Self {
        Self { images: images.len(), fingerprint: images.fingerprint_set() }
    }
}

impl std::fmt::Display for ImageSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} images of fingerprint {:08x}", self.images, self.fingerprint)
    }
}

impl Settings {
    /// The first setting that differs, and both values.
    fn difference(&self, other: &Self) -> Option<(String, String, String)> {
        fn text(value: &impl Serialize) -> String {
            serde_json::to_string(value).expect("a setting has a JSON form")
        }
        let pairs = [
            ("compute", text(&self.compute), text(&other.compute)),
            ("calib", self.calibration.images.to_string(), other.calibration.images.to_string()),
            ("calibration images", self.calibration.to_string(), other.calibration.to_string()),
            ("judged images", self.judged.to_string(), other.judged.to_string()),
            ("seed", text(&self.seed), text(&other.seed)),
            ("criterion", text(&self.criterion), text(&other.criterion)),
            ("pruning", text(&self.sizes), text(&other.sizes)),
            ("img-sizes", text(&self.image_sizes), text(&other.image_sizes)),
            ("student", text(&self.student.is_some()), text(&other.student.is_some())),
            ("student's network", text(&self.student_network), text(&other.student_network)),
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
                    let difference = ours.difference_in_result(&theirs)?;
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
    sizes: Option<Vec<PruningTarget>>,
    /// The finished networks, the original first.
    points: Vec<Point>,
    /// Networks that there are not, by name, and why.
    skipped: BTreeMap<String, String>,
    /// The judgement on the test images, by network.
    tests: BTreeMap<String, Test>,
}

/// A judgement on test images.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Test {
    images: ImageSet,
    /// Top-1 in percent.
    top1: f64,
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

    pub(super) fn sizes(&self) -> Option<&[PruningTarget]> {
        self.record.sizes.as_deref()
    }

    /// Top-1 of a network on these test images in percent, if it was judged on them.
    pub(super) fn test(&self, name: &str, images: ImageSet) -> Option<f64> {
        self.record.tests.get(name).filter(|test| test.images == images).map(|test| test.top1)
    }

    pub(super) fn set_sizes(&mut self, sizes: Vec<PruningTarget>) -> Result<(), CompressError> {
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

    pub(super) fn add_test(&mut self, name: &str, images: ImageSet, top1: f64) -> Result<(), CompressError> {
        self.record.tests.insert(name.to_owned(), Test { images, top1 });
        self.write()
    }

    fn write(&self) -> Result<(), CompressError> {
        let text = serde_json::to_string_pretty(&self.record).expect("a journal has a JSON form") + "\n";
        Ok(atomic_write(&self.path, |file| file.write_all(text.as_bytes()))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CompressError;

    fn settings(recipe: &str) -> Settings {
        let text = format!("model = \"resnet20\"\n{recipe}");
        let images = ImageSet { images: 8, fingerprint: 1 };
        Settings {
            compute: "1 thread, avx2, a processor".into(),
            judged: images,
            calibration: images,
            seed: 0,
            criterion: "l1".into(),
            sizes: PruningTargets::Usual,
            image_sizes: Vec::new(),
            finetune: Recipe::resolve(&[Layer::parse("recipe", &text).unwrap()]).unwrap().recipe.to_toml(),
            student: None,
            student_network: None,
        }
    }

    #[test]
    fn work_of_another_length_machine_or_content_is_other_work() {
        let folder = tempfile::tempdir().unwrap();
        let constant = "sched = \"constant\"\n";
        let begun = settings(&format!("{constant}max_steps = 4"));
        Journal::begin(folder.path(), &begun).unwrap();
        let other = |change: &dyn Fn(&mut Settings)| {
            let mut other = begun.clone();
            change(&mut other);
            match Journal::begin(folder.path(), &other) {
                Ok(_) => String::new(),
                Err(CompressError::OtherWork { what, .. }) => what,
                Err(error) => panic!("{error}"),
            }
        };
        let trained = |recipe: &str| settings(&format!("{constant}{recipe}")).finetune;
        assert_eq!(other(&|_| {}), "");
        // A resumed run may change these; what was finished has the old ones all the same.
        assert_eq!(other(&|other| other.finetune = trained("max_steps = 5")), "finetune: max_steps");
        let budget = "max_steps = 4\ntime_budget = \"30m\"";
        assert_eq!(other(&|other| other.finetune = trained(budget)), "finetune: time_budget");
        // This changes no result.
        assert_eq!(other(&|other| other.finetune = trained("max_steps = 4\nworkers = 7")), "");
        assert_eq!(other(&|other| other.compute = "2 threads, avx2, a processor".into()), "compute");
        assert_eq!(other(&|other| other.judged.fingerprint = 2), "judged images");
        assert_eq!(other(&|other| other.calibration.fingerprint = 2), "calibration images");
        assert_eq!(other(&|other| other.student_network = Some("Config".into())), "student's network");
    }

    #[test]
    fn a_judgement_is_of_the_test_images_that_it_was_made_on() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = Journal::begin(folder.path(), &settings("max_steps = 4")).unwrap();
        let [first, other] = [1, 2].map(|fingerprint| ImageSet { images: 8, fingerprint });
        journal.add_test("original", first, 75.0).unwrap();
        assert_eq!([journal.test("original", first), journal.test("original", other)], [Some(75.0), None]);
        journal.add_test("original", other, 50.0).unwrap();
        assert_eq!([journal.test("original", first), journal.test("original", other)], [None, Some(50.0)]);
    }
}
