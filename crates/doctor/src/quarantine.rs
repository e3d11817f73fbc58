//! Files at fault are moved to a folder of their own, and back.
//!
//! The manifest is written before the first file is moved, so that a killed process leaves nothing that cannot be moved back: each file
//! is in one of two places that the manifest names.

use crate::{Check, Collection, DoctorError, Examination, Finding, Group};
use residual_files::{FileError, atomic_write, printable, read_text};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path, PathBuf};

/// The name of the manifest in the folder.
pub const MANIFEST: &str = "quarantine.json";
/// The version of the manifest.
const VERSION: u32 = 1;
/// Maximum size of a manifest.
const MOST_BYTES: u64 = 1 << 30;

/// The files to move, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quarantine {
    version: u32,
    /// The folder of the dataset, absolute.
    data: PathBuf,
    /// The names of the checks whose images are moved.
    checks: BTreeSet<String>,
    files: Vec<Quarantined>,
}

/// A file to move.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quarantined {
    /// Its path in the dataset's folder, and in that of the quarantine.
    pub path: PathBuf,
    /// The check that names it.
    pub check: String,
    /// What is said of it; may be empty.
    pub detail: String,
}

impl Quarantine {
    /// The checks whose images are moved if nothing else is said: those that are sure.
    pub const DEFAULT: [Check; 4] = [Check::Unreadable, Check::Contradictory, Check::Leakage, Check::Duplicates];

    /// What is to be moved by the findings of these checks.
    ///
    /// Of files that are there several times in a split, the first one stays; of those in several splits the ones of the last split
    /// stay, so that the test images remain what they are; of files in several classes none stays. Images that cannot be read because of
    /// the system, and not their content, stay. Of other checks every image is moved.
    ///
    /// # Errors
    /// [`DoctorError::Invalid`] for data that are no class folders, a check that names no images, and a file name that is not UTF-8.
    pub fn plan(images: &Collection, examination: &Examination, checks: &BTreeSet<Check>) -> Result<Self, DoctorError> {
        let Some(survey) = images.survey() else {
            return Err(DoctorError::invalid("fix", "a folder of class folders", images.name()));
        };
        if let Some(check) = checks.iter().find(|check| !check.names_images()) {
            return Err(DoctorError::invalid("fix", "a check that names images", check));
        }
        let data = fs::canonicalize(&survey.root).map_err(FileError::read(&survey.root))?;
        let mut files = BTreeMap::new();
        for finding in examination.findings.iter().filter(|finding| checks.contains(&finding.check)) {
            for group in &finding.groups {
                for &image in moved(images, examination, finding.check, group).iter() {
                    let path = images.file(image).expect("images in class folders are files");
                    let path = path.strip_prefix(&survey.root).map_err(|_| outside(path))?;
                    if path.to_str().is_none() {
                        return Err(DoctorError::invalid(path.display(), "a file name in UTF-8", "another one"));
                    }
                    let (check, detail) = (finding.check.name().to_owned(), group.detail.clone());
                    let file = Quarantined { path: path.to_path_buf(), check, detail };
                    files.entry(path.to_path_buf()).or_insert(file);
                }
            }
        }
        let checks = checks.iter().map(|check| check.name().to_owned()).collect();
        Ok(Self { version: VERSION, data, checks, files: files.into_values().collect() })
    }

    /// The files.
    pub fn files(&self) -> &[Quarantined] {
        &self.files
    }

    /// Whether nothing is left of a finding once the files are moved.
    pub fn settles(&self, finding: &Finding) -> bool {
        let name = finding.check.name();
        match finding.check {
            // Some may be unreadable for another reason than their content.
            Check::Unreadable => self.files.iter().filter(|file| file.check == name).count() == finding.images(),
            check => self.checks.contains(check.name()),
        }
    }

    /// A folder beside the dataset's that does not exist: `photos-quarantine`, `photos-quarantine-2`, ….
    pub fn default_folder(&self) -> PathBuf {
        let name = self.data.file_name().unwrap_or_default().to_string_lossy();
        let numbered = |number: u32| match number {
            1 => format!("{name}-quarantine"),
            number => format!("{name}-quarantine-{number}"),
        };
        let beside = self.data.parent().unwrap_or(&self.data);
        (1..).map(|number| beside.join(numbered(number))).find(|path| !path.exists()).expect("some name is free")
    }

    /// Moves the files to `folder`, which is created. If it fails or is killed, [`undo`](Self::undo) moves back what was moved.
    ///
    /// # Errors
    /// [`DoctorError::Invalid`] if the folder exists or is inside the dataset's; [`DoctorError::Move`] for a file that cannot be moved,
    /// such as to another file system.
    pub fn apply(&self, folder: &Path) -> Result<(), DoctorError> {
        let place = || folder.display().to_string();
        if fs::symlink_metadata(folder).is_ok() {
            return Err(DoctorError::invalid(place(), "a new folder", "one that exists"));
        }
        fs::create_dir_all(folder).map_err(FileError::write(folder))?;
        let real = fs::canonicalize(folder).map_err(FileError::read(folder))?;
        if real.starts_with(&self.data) {
            // Only this folder: those above it may be others'.
            let _ = fs::remove_dir(folder);
            return Err(DoctorError::invalid(place(), "a folder outside the dataset's", "one inside"));
        }
        let manifest = serde_json::to_string_pretty(self).expect("paths are UTF-8 and keys are texts");
        atomic_write(&folder.join(MANIFEST), |file| file.write_all(manifest.as_bytes()))?;
        self.files.iter().try_for_each(|file| relocate(&self.data.join(&file.path), &folder.join(&file.path)))
    }

    /// Moves the files in `folder` back to where they were, and removes it; returns how many were moved. Files that are where they
    /// belong already, as after an interruption, are left alone.
    ///
    /// # Errors
    /// [`DoctorError::File`] if there is no manifest; [`DoctorError::Invalid`] if it is none, or a file is in both places or in neither:
    /// then nothing is moved.
    pub fn undo(folder: &Path) -> Result<usize, DoctorError> {
        let path = folder.join(MANIFEST);
        let text = read_text(&path, MOST_BYTES)?;
        let place = || path.display().to_string();
        let manifest: Self = serde_json::from_str(&text).map_err(|error| {
            DoctorError::invalid(place(), "the manifest of a quarantine", printable(&error.to_string(), 100))
        })?;
        if manifest.version != VERSION {
            return Err(DoctorError::invalid(place(), format!("version {VERSION}"), manifest.version));
        }
        let mut moves = Vec::new();
        for Quarantined { path, .. } in &manifest.files {
            if !path.components().all(|part| matches!(part, Component::Normal(_))) {
                return Err(DoctorError::invalid(place(), "paths inside the dataset", path.display()));
            }
            let (away, home) = (folder.join(path), manifest.data.join(path));
            match (exists(&away), exists(&home)) {
                (true, false) => moves.push((away, home)),
                (false, true) => {}
                (true, true) => {
                    return Err(DoctorError::invalid(home.display(), "no file, as it is in the quarantine", "one"));
                }
                (false, false) => {
                    return Err(DoctorError::invalid(home.display(), "a file there or in the quarantine", "none"));
                }
            }
        }
        for (away, home) in &moves {
            relocate(away, home)?;
        }
        fs::remove_file(&path).map_err(FileError::write(&path))?;
        remove_empty(folder).map_err(FileError::write(folder))?;
        Ok(moves.len())
    }
}

/// The images of a group that are moved.
fn moved(images: &Collection, examination: &Examination, check: Check, group: &Group) -> Vec<usize> {
    let all = || group.images.iter().copied();
    match check {
        Check::Unreadable => all().filter(|&image| examination.is_of_image(image)).collect(),
        Check::Duplicates | Check::NearDuplicates => all().skip(1).collect(),
        Check::Leakage | Check::NearLeakage | Check::Groups => {
            let last = all().map(|image| images.split(image)).max();
            all().filter(|&image| Some(images.split(image)) != last).collect()
        }
        _ => all().collect(),
    }
}

/// Whether there is something at `path`, be it a link to nothing.
fn exists(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

/// Renames a file; never over another one.
fn relocate(from: &Path, to: &Path) -> Result<(), DoctorError> {
    let failed = |source| DoctorError::Move { from: from.to_path_buf(), to: to.to_path_buf(), source };
    if exists(to) {
        return Err(failed(std::io::ErrorKind::AlreadyExists.into()));
    }
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    fs::rename(from, to).map_err(failed)
}

/// Removes a folder and those in it, if there are no files.
fn remove_empty(folder: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_empty(&entry.path())?;
        }
    }
    match fs::remove_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::DirectoryNotEmpty => Ok(()),
        removed => removed,
    }
}

fn outside(path: &Path) -> DoctorError {
    DoctorError::invalid(path.display(), "a file inside the dataset's folder", "one outside")
}
