//! The built-in recipes: the files of the folder recipes/, which is inside this crate so that its package contains them.

/// A built-in recipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preset {
    /// Its name, as in `--recipe`.
    pub name: &'static str,
    /// The text of its file.
    pub text: &'static str,
}

macro_rules! presets {
    ($($name:literal),+ $(,)?) => {
        &[$(Preset { name: $name, text: include_str!(concat!("../../recipes/", $name, ".toml")) }),+]
    };
}

/// Every built-in recipe.
pub static PRESETS: &[Preset] =
    presets!["shapes-quick", "cifar-quick", "folder-quick", "he2015-cifar", "lecture-cifar", "imagenet-100"];
