//! The built-in recipes: the files of the folder recipes/, which is inside this crate so that its package contains them.

use serde::{Deserialize, Serialize};

/// The table of a recipe file that describes it and holds no settings.
pub(super) const ABOUT: &str = "about";
/// The table of a recipe file that says how it is verified and holds no settings.
pub(super) const VERIFY: &str = "verify";

/// A built-in recipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preset {
    /// Its name, as in `--recipe`.
    pub name: &'static str,
    /// The text of its file.
    pub text: &'static str,
}

/// The description of a built-in recipe: the table `about` of its file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct About {
    /// Its purpose, in one line.
    pub title: String,
    /// The paper or program that it follows.
    pub source: String,
    /// The results that the source published.
    pub published: String,
    /// What it reached here.
    pub ours: String,
}

impl Preset {
    /// Its description.
    ///
    /// # Panics
    /// Never: a test reads all of them.
    pub fn about(&self) -> About {
        let mut table: toml::Table = toml::from_str(self.text).expect("built-in recipes are TOML");
        table.remove(ABOUT).and_then(|about| about.try_into().ok()).expect("built-in recipes are described")
    }
}

macro_rules! presets {
    ($($name:literal),+ $(,)?) => {
        &[$(Preset { name: $name, text: include_str!(concat!("../../recipes/", $name, ".toml")) }),+]
    };
}

/// Every built-in recipe.
pub static PRESETS: &[Preset] = presets![
    "shapes-quick",
    "cifar-quick",
    "cifar-fast",
    "folder-quick",
    "finetune",
    "linear-probe",
    "he2015-cifar",
    "cifar-modern",
    "preact-cifar",
    "wrn",
    "resnext-cifar",
    "lecture-cifar",
    "lecture-adam",
    "imagenet-100",
    "torchvision-v1",
    "torchvision-v2",
    "rsb-a1",
    "rsb-a2",
    "rsb-a3",
    "convnext",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_built_in_and_described() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/recipes");
        let mut files: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap().replace(".toml", ""))
            .collect();
        let mut names: Vec<&str> = PRESETS.iter().map(|preset| preset.name).collect();
        files.sort();
        names.sort_unstable();
        assert_eq!(files, names);
        for preset in PRESETS {
            let About { title, source, published, ours } = preset.about();
            assert!([title, source, published, ours].iter().all(|text| !text.is_empty()), "{}", preset.name);
        }
    }
}
