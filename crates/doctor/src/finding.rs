//! What was found: checks, their severity, and the images they name.

use residual_files::nearest;
use std::fmt;
use std::str::FromStr;

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Training would fail, learn wrong labels, or be judged on images that it has seen.
    Error,
    /// Probably not as it is meant.
    Warning,
    /// Worth knowing.
    Note,
}

impl Severity {
    /// `error`, `warning` or `note`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Note => "note",
        }
    }
}

macro_rules! checks {
    ($($(#[$doc:meta])* $variant:ident = $name:literal),+ $(,)?) => {
        /// A kind of fault that is looked for, the more serious ones first.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Check {
            $($(#[$doc])* $variant),+
        }

        impl Check {
            /// Every check, in order.
            pub const ALL: [Self; [$($name),+].len()] = [$(Self::$variant),+];

            /// Its name on the command line and in JSON.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name),+
                }
            }
        }
    };
}

checks! {
    /// Files that cannot be read or decoded.
    Unreadable = "unreadable",
    /// Class folders that differ between splits.
    Classes = "classes",
    /// Classes without images.
    EmptyClasses = "empty-classes",
    /// The same file in several classes: one of its labels is wrong.
    Contradictory = "contradictory",
    /// The same file in several splits.
    Leakage = "leakage",
    /// Nearly the same image in several splits.
    NearLeakage = "near-leakage",
    /// Images of several splits that seem to be of one subject or one series of shots.
    Groups = "groups",
    /// The same file several times in a class.
    Duplicates = "duplicates",
    /// Nearly the same image several times in a split.
    NearDuplicates = "near-duplicates",
    /// Names that differ in case or Unicode composition only.
    Names = "names",
    /// Labels that are probably wrong.
    Labels = "labels",
    /// Properties of the files that tell the class.
    Shortcut = "shortcut",
    /// A class with far fewer images than others.
    Imbalance = "imbalance",
    /// Files whose extension is that of another format.
    Extension = "extension",
    /// Images that a camera turned, which training does not turn back.
    Orientation = "orientation",
    /// Images far smaller than others.
    Tiny = "tiny",
    /// Images far larger than others.
    Huge = "huge",
    /// Very long or very wide images.
    Aspect = "aspect",
    /// Blurry images.
    Blurry = "blurry",
    /// Images that are dark all over.
    Dark = "dark",
    /// Images that are bright all over.
    Light = "light",
    /// Images with hardly any content.
    Flat = "flat",
    /// Grey images among colour ones, or the other way round.
    Grey = "grey",
    /// Images with transparency among others.
    Alpha = "alpha",
    /// JPEG files of printing colours.
    Cmyk = "cmyk",
}

impl Check {
    /// Whether it names images that can be moved away: see [`crate::Quarantine`].
    pub fn names_images(self) -> bool {
        !matches!(self, Self::Classes | Self::EmptyClasses | Self::Names | Self::Shortcut | Self::Imbalance)
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Check {
    type Err = String;

    /// The check of this name; the error names the nearest one.
    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|check| check.name() == text).ok_or_else(|| {
            let names = Self::ALL.map(Self::name);
            match nearest(text, names) {
                Some(name) => format!("expected a check, got \"{text}\" (did you mean \"{name}\"?)"),
                None => format!("expected {}", names.join(", ")),
            }
        })
    }
}

/// A fault of the dataset.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// What was looked for.
    pub check: Check,
    /// How much it matters.
    pub severity: Severity,
    /// What was found, in one line.
    pub message: String,
    /// The images at fault, by their place in the collection: those that belong together, such as duplicates, in one group. Empty
    /// for faults of no particular image.
    pub groups: Vec<Group>,
}

impl Finding {
    /// The number of images at fault.
    pub fn images(&self) -> usize {
        self.groups.iter().map(|group| group.images.len()).sum()
    }
}

/// Images that belong together in a finding.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// Places in the collection.
    pub images: Vec<usize>,
    /// What is said of these, such as the measured value; may be empty.
    pub detail: String,
}

impl Group {
    pub(crate) fn of_one(image: usize, detail: impl Into<String>) -> Self {
        Self { images: vec![image], detail: detail.into() }
    }
}

/// A number with its noun and verb: `1 image that is`, `2 images that are`.
pub(crate) fn counted_that(number: usize, noun: &str) -> String {
    format!("{} that {}", counted(number, noun), if number == 1 { "is" } else { "are" })
}

/// `100 images`, or where they are not all `a sample of 100 of 200 images`.
pub(crate) fn sampled(images: usize, of: usize) -> String {
    if images < of { format!("a sample of {images} of {}", counted(of, "image")) } else { counted(images, "image") }
}

/// A number with its noun: `1 image`, `2 images`, `3 classes`.
pub(crate) fn counted(number: usize, noun: &str) -> String {
    match number {
        1 => format!("1 {noun}"),
        _ if noun.ends_with('s') => format!("{number} {noun}es"),
        _ => format!("{number} {noun}s"),
    }
}
