//! The recipe of a training run: model, data, length, optimiser, schedule, augmentation.
//!
//! Every setting is defined once, in the table of settings.rs, which generates the fields of [`Recipe`], the keys of recipe
//! files, the flags of the command line, the validation and the documentation. A recipe is resolved from [`Layer`]s of
//! rising precedence (preset, file, flags), written to the run folder as `config.toml`, and read back from there by a
//! resume.

mod choices;
mod condition;
mod contract;
mod defaults;
mod duration;
mod error;
mod layer;
mod notes;
mod preset;
mod resolve;
mod setting;
mod settings;
mod validate;
mod value;

pub use choices::{Augment, ClassWeights, ClipMode, EvalMetric, Init, KdLoss, LrScale, MuonAdjustLr, Opt, Sched, Tta};
pub use choices::{CropPaddingMode, HflipMode, Remode, Sampler, TrainCropMode, TrainInterpolation};
pub use condition::Condition;
pub use contract::{Band, Contract, Short, Trace};
pub use error::RecipeError;
pub use layer::{Layer, Origin};
pub use preset::{About, PRESETS, Preset};
pub use resolve::{Origins, Resolved};
pub use setting::{Resume, Setting};
pub use settings::{Recipe, SETTINGS};
pub use value::{Kind, Order, Range};

use residual_data::DATASETS;
use std::path::Path;

impl Recipe {
    /// The recipe as the text of a TOML file: every setting that has a value and an effect.
    pub fn to_toml(&self) -> String {
        let line = |setting: &Setting| self.effective(setting).map(|value| format!("{} = {value}\n", setting.name));
        SETTINGS.iter().filter_map(line).collect()
    }

    /// The first setting, in file order, that a resumed run may not change and that differs from `other`'s: its name, and
    /// both values.
    pub fn difference(&self, other: &Self) -> Option<Difference> {
        self.first_difference(other, |resume| match resume {
            Resume::Fixed | Resume::Path => false,
            Resume::Free | Resume::Onward => true,
            Resume::Length => !self.rates_depend_on_length(),
        })
    }

    /// The first setting, in file order, that decides what a run ends with and differs from `other`'s: its name, and both values. Unlike in
    /// [`difference`](Self::difference), it may be one that a resumed run may change, such as the number of epochs.
    pub fn difference_in_result(&self, other: &Self) -> Option<Difference> {
        self.first_difference(other, |resume| resume == Resume::Free)
    }

    /// The first setting that differs, unless it is free; paths are the same.
    fn first_difference(&self, other: &Self, is_free: impl Fn(Resume) -> bool) -> Option<Difference> {
        SETTINGS.iter().find_map(|setting| {
            let (ours, theirs) = (self.effective(setting), other.effective(setting));
            let are_paths = setting.resume == Resume::Path && is_path(ours.as_ref()) && is_path(theirs.as_ref());
            let may_differ = are_paths || is_free(setting.resume);
            let show = |value: Option<toml::Value>| value.map_or_else(|| "none".into(), |value| value.to_string());
            (ours != theirs && !may_differ).then(|| Difference {
                setting: setting.name,
                expected: show(ours),
                got: show(theirs),
            })
        })
    }

    /// Whether the learning rates of the first steps depend on the number of the last one, so that a run with this schedule
    /// cannot be prolonged.
    pub fn rates_depend_on_length(&self) -> bool {
        match self.sched {
            Sched::Constant | Sched::Multistep | Sched::Step | Sched::Plateau => false,
            Sched::Cosine | Sched::Linear | Sched::OneCycle | Sched::Poly => true,
        }
    }

    /// The seconds of `time_budget`, if there is one.
    ///
    /// # Errors
    /// [`RecipeError::Field`] if it is not a time.
    pub(crate) fn budget(&self) -> Result<Option<u64>, RecipeError> {
        let Some(text) = &self.time_budget else { return Ok(None) };
        let expected = "a time of at most 1000 hours: 90s, 30m, 1h30m";
        let seconds = duration::parse(text).filter(|seconds| (1..=3_600_000).contains(seconds));
        seconds.map(Some).ok_or_else(|| RecipeError::field("time_budget", expected, format!("\"{text}\"")))
    }

    /// The weights of the teachers, one each: texts are separated at commas, unless there is a file or folder of that name.
    pub fn teachers(&self) -> Vec<String> {
        let texts = self.teacher.iter().flatten();
        let parts = texts.flat_map(|text| match Path::new(text).exists() {
            true => vec![text.as_str()],
            false => text.split(',').map(str::trim).filter(|part| !part.is_empty()).collect(),
        });
        parts.map(str::to_owned).collect()
    }

    /// Makes the paths of weights, teachers and data absolute, so that they are valid in every working directory. Names of
    /// datasets and of pretrained weights are not changed.
    pub fn make_paths_absolute(&mut self) {
        let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
        if !is_dataset(&self.data) {
            let inside = self.data_dir.take().map(|folder| folder.join(&self.data));
            let path = inside.filter(|path| !Path::new(&self.data).exists() && path.exists());
            let path = path.unwrap_or_else(|| self.data.clone().into());
            self.data = absolute(&path).to_str().map_or_else(|| self.data.clone(), str::to_owned);
        }
        if let Some(folder) = &mut self.data_dir {
            *folder = absolute(folder);
        }
        if let Some(weights) = &mut self.weights
            && weights.exists()
        {
            *weights = absolute(weights);
        }
        if self.teacher.is_some() {
            let name = |name: String| match Path::new(&name).exists() {
                true => absolute(Path::new(&name)).to_str().map_or_else(|| name.clone(), str::to_owned),
                false => name,
            };
            self.teacher = Some(self.teachers().into_iter().map(name).collect());
        }
    }

    /// The epochs of `unfreeze_at`, from 1, and the parts that are trained from then on.
    ///
    /// # Errors
    /// [`RecipeError::Field`] if one is not of the form EPOCH:SPEC.
    pub(crate) fn unfreeze_schedule(&self) -> Result<Vec<(u64, &str)>, RecipeError> {
        fn parse(text: &str) -> Option<(u64, &str)> {
            let (epoch, spec) = text.split_once(':')?;
            let epoch = epoch.trim().parse().ok().filter(|epoch| (2..=1 << 20).contains(epoch))?;
            Some((epoch, spec)).filter(|(_, spec)| !spec.trim().is_empty())
        }
        let expected = "EPOCH:MODULES, with an epoch from 2";
        let fail = |text: &str| RecipeError::field("unfreeze_at", expected, format!("\"{text}\""));
        let texts = self.unfreeze_at.iter().flatten();
        texts.map(|text| parse(text).ok_or_else(|| fail(text))).collect()
    }

    /// The value of a setting, if it has an effect.
    fn effective(&self, setting: &Setting) -> Option<toml::Value> {
        self.value(setting.name).filter(|_| setting.applies.holds(self))
    }
}

/// A setting that differs between two recipes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The setting's name.
    pub setting: &'static str,
    /// Its value in the first recipe, in TOML, or `none`.
    pub expected: String,
    /// Its value in the second.
    pub got: String,
}

/// Whether `data` is a dataset's name, and not a path.
fn is_dataset(data: &str) -> bool {
    DATASETS.iter().any(|set| set.name == data)
}

fn is_path(value: Option<&toml::Value>) -> bool {
    value.and_then(toml::Value::as_str).is_some_and(|data| !is_dataset(data))
}
