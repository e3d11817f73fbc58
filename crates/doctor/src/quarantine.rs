//! Files at fault are moved to a folder of their own, and back.
//!
//! The manifest is written before the first file is moved, so that a killed process leaves nothing that cannot be moved back: each file
//! is in one of two places that the manifest names.

use crate::checks::classes::emptied;
use crate::{Check, Collection, DoctorError, Examination, Finding, Group};
use residual_data::Survey;
use residual_files::{FileError, atomic_write, printable, read_text};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs;
use std::path::{Component, Path, PathBuf};

/// The name of the manifest in the folder.
pub const MANIFEST: &str = "quarantine.json";
/// The version of the manifest.
const VERSION: u32 = 1;
/// Maximum size of a manifest.
const MOST_BYTES: u64 = 1 << 30;

/// The files to move, and why; and what the dataset is afterwards.
#[derive(Clone, Debug, PartialEq)]
pub struct Quarantine {
    manifest: Manifest,
    kept: Vec<Kept>,
    /// The checks of which images at fault stay.
    unsettled: BTreeSet<Check>,
    emptied: Option<Finding>,
}

/// What is written to the folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
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

/// A file at fault that is not moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The image, by its place in the collection.
    pub image: usize,
    /// Why it stays.
    pub reason: &'static str,
}

impl Quarantine {
    /// The checks whose images are moved if nothing else is said: those that are sure.
    pub const DEFAULT: [Check; 4] = [Check::Unreadable, Check::Contradictory, Check::Leakage, Check::Duplicates];

    /// What is to be moved by the findings of these checks.
    ///
    /// Of files that are there several times in a class the first one stays that is no link; of near duplicates the first one; of those in
    /// several splits the ones of the last split, so that the test images remain what they are; of files in several classes none stays.
    /// Of other checks every image is moved. What stays in any case are images that the system does not give, files in linked folders,
    /// which may lie outside the dataset, and files that links to images that stay lead to: see [`kept`](Self::kept).
    ///
    /// # Errors
    /// [`DoctorError::Invalid`] for data that are no class folders, and a check that names no images.
    pub fn plan(images: &Collection, examination: &Examination, checks: &BTreeSet<Check>) -> Result<Self, DoctorError> {
        let survey = class_folders(images)?;
        Self::check_kinds(checks)?;
        let root = &survey.root;
        let data = fs::canonicalize(root).map_err(FileError::read(root))?;
        let mut links = Links::new(root, &data);
        let (mut wanted, mut unsettled) = (Vec::new(), BTreeSet::new());
        for finding in examination.findings.iter().filter(|finding| checks.contains(&finding.check)) {
            for group in &finding.groups {
                let moved = moved(images, finding.check, group);
                wanted.extend(moved.into_iter().map(|image| (image, finding.check, &group.detail)));
            }
        }
        if survey.splits.iter().flat_map(|split| &split.classes).any(|class| class.fault.is_some()) {
            unsettled.insert(Check::Unreadable);
        }
        let file = |image| images.file(image).expect("images in class folders are files");
        let mut reasons = BTreeMap::new();
        for &(image, ..) in &wanted {
            reasons.entry(image).or_insert_with(|| match examination.is_fault_of_system(image) {
                true => Some("the system does not give it"),
                false => links.reason_to_stay(file(image)),
            });
        }
        // What stays must still lead to its file.
        let staying = (0..images.len()).filter(|image| !matches!(reasons.get(image), Some(None)));
        let needed: HashSet<PathBuf> = staying.flat_map(|image| links.way(file(image))).collect();
        for (&image, reason) in &mut reasons {
            if reason.is_none() && needed.contains(&data.join(links.within(file(image)))) {
                *reason = Some("a link that stays leads to it");
            }
        }
        let mut files = BTreeMap::new();
        for (image, check, detail) in wanted {
            if reasons[&image].is_some() {
                unsettled.insert(check);
                continue;
            }
            let path = links.within(file(image)).to_path_buf();
            let file = Quarantined { path: path.clone(), check: check.name().to_owned(), detail: detail.clone() };
            files.entry(path).or_insert(file);
        }
        let kept = reasons.iter().filter_map(|(&image, reason)| Some(Kept { image, reason: (*reason)? })).collect();
        let gone: BTreeSet<&Path> =
            reasons.iter().filter(|(_, reason)| reason.is_none()).map(|(&image, _)| file(image)).collect();
        let emptied = emptied(survey, &gone);
        let checks = checks.iter().map(|check| check.name().to_owned()).collect();
        let manifest = Manifest { version: VERSION, data, checks, files: files.into_values().collect() };
        Ok(Self { manifest, kept, unsettled, emptied })
    }

    /// Whether the images of these checks can be moved.
    ///
    /// # Errors
    /// [`DoctorError::Invalid`] for a check that names no images.
    pub fn check_kinds<'a>(checks: impl IntoIterator<Item = &'a Check>) -> Result<(), DoctorError> {
        match checks.into_iter().find(|check| !check.names_images()) {
            Some(check) => Err(DoctorError::invalid("fix-kinds", "checks that name images", check)),
            None => Ok(()),
        }
    }

    /// The files.
    pub fn files(&self) -> &[Quarantined] {
        &self.manifest.files
    }

    /// The files at fault that stay where they are, and why.
    pub fn kept(&self) -> &[Kept] {
        &self.kept
    }

    /// The class folders that are left without images, as a finding: an error if training refuses them.
    pub fn emptied(&self) -> Option<&Finding> {
        self.emptied.as_ref()
    }

    /// Whether nothing is left of a finding once the files are moved.
    pub fn settles(&self, finding: &Finding) -> bool {
        self.manifest.checks.contains(finding.check.name()) && !self.unsettled.contains(&finding.check)
    }

    /// Moves the files to `folder`. If it fails or is killed, [`undo`](Self::undo) moves back what was moved.
    ///
    /// # Errors
    /// [`DoctorError::File`] if the manifest cannot be written; [`DoctorError::Move`] for a file that cannot be moved.
    pub fn apply(&self, folder: &QuarantineFolder) -> Result<(), DoctorError> {
        let folder = folder.path();
        let manifest = serde_json::to_string_pretty(&self.manifest).expect("paths are UTF-8 and keys are texts");
        atomic_write(&folder.join(MANIFEST), |file| file.write_all(manifest.as_bytes()))?;
        self.files().iter().try_for_each(|Quarantined { path, .. }| {
            let to = folder.join(path);
            if let Some(parent) = to.parent() {
                fs::create_dir_all(parent).map_err(FileError::write(parent))?;
            }
            relocate(&self.manifest.data.join(path), &to)
        })
    }

    /// Moves the files in `folder` back to where they were, and removes it; returns how many were moved. Files that are where they
    /// belong already, as after an interruption, are left alone.
    ///
    /// # Errors
    /// [`DoctorError::File`] if there is no manifest; [`DoctorError::Invalid`] if it is none, a folder that files were moved from is
    /// missing or elsewhere by now, or a file is in both places or in neither: then nothing is moved.
    pub fn undo(folder: &Path) -> Result<usize, DoctorError> {
        let path = folder.join(MANIFEST);
        let text = read_text(&path, MOST_BYTES)?;
        let place = || path.display().to_string();
        let manifest: Manifest = serde_json::from_str(&text).map_err(|error| {
            DoctorError::invalid(place(), "the manifest of a quarantine", printable(&error.to_string(), 100))
        })?;
        if manifest.version != VERSION {
            return Err(DoctorError::invalid(place(), format!("version {VERSION}"), manifest.version));
        }
        let real = fs::canonicalize(folder).map_err(FileError::read(folder))?;
        check_unmoved(&manifest.data, &manifest.data)?;
        let mut moves = Vec::new();
        for Quarantined { path, .. } in &manifest.files {
            if !path.components().all(|part| matches!(part, Component::Normal(_))) {
                return Err(DoctorError::invalid(place(), "paths inside the dataset", path.display()));
            }
            let (away, home) = (real.join(path), manifest.data.join(path));
            match (exists(&away), exists(&home)) {
                (true, false) => {
                    for (file, base) in [(&away, &real), (&home, &manifest.data)] {
                        check_unmoved(file.parent().unwrap_or(base), base)?;
                    }
                    moves.push((away, home));
                }
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

/// A new folder for the files of a quarantine. It is removed again if nothing was put into it.
#[derive(Debug)]
pub struct QuarantineFolder {
    path: PathBuf,
    /// It and the folders above it that were made for it, the innermost first.
    made: Vec<PathBuf>,
}

impl QuarantineFolder {
    /// Makes `folder` for the files of a dataset of class folders.
    ///
    /// # Errors
    /// [`DoctorError::Invalid`] for other data, and if the folder exists, is inside the dataset's, or is on another file system, to which
    /// files cannot be moved in one step; [`DoctorError::File`] if it cannot be made.
    pub fn create(images: &Collection, folder: &Path) -> Result<Self, DoctorError> {
        let root = &class_folders(images)?.root;
        let data = fs::canonicalize(root).map_err(FileError::read(root))?;
        let refused = |expected, got| Err(DoctorError::invalid(folder.display(), expected, got));
        if exists(folder) {
            return refused("a new folder", "one that exists");
        }
        let is_missing = |path: &&Path| !path.as_os_str().is_empty() && !path.exists();
        let made = folder.ancestors().take_while(is_missing).map(Path::to_path_buf).collect();
        // From here on it removes what it made.
        let new = Self { path: folder.to_path_buf(), made };
        fs::create_dir_all(folder).map_err(FileError::write(folder))?;
        if fs::canonicalize(folder).map_err(FileError::read(folder))?.starts_with(&data) {
            return refused("a folder outside the dataset's", "one inside");
        }
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt;
            let device = |path: &Path| fs::metadata(path).map(|facts| facts.dev()).map_err(FileError::read(path));
            if device(folder)? != device(&data)? {
                return refused("a folder on the file system of the dataset", "one on another");
            }
        }
        Ok(new)
    }

    /// Makes a folder beside the dataset's: `photos-quarantine`, `photos-quarantine-2`, ….
    ///
    /// # Errors
    /// As [`create`](Self::create).
    pub fn beside(images: &Collection) -> Result<Self, DoctorError> {
        let root = &class_folders(images)?.root;
        let data = fs::canonicalize(root).map_err(FileError::read(root))?;
        let name = data.file_name().unwrap_or_default().to_string_lossy();
        let numbered = |number: u32| match number {
            1 => format!("{name}-quarantine"),
            number => format!("{name}-quarantine-{number}"),
        };
        let beside = data.parent().unwrap_or(&data);
        let free = (1..).map(|number| beside.join(numbered(number))).find(|path| !exists(path));
        Self::create(images, &free.expect("some name is free"))
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for QuarantineFolder {
    fn drop(&mut self) {
        // One with content stays, and so do those above it.
        let _ = self.made.iter().try_for_each(fs::remove_dir);
    }
}

/// What lies in the class folders.
fn class_folders(images: &Collection) -> Result<&Survey, DoctorError> {
    images.survey().ok_or_else(|| DoctorError::invalid("fix", "a folder of class folders", images.name()))
}

/// What links there are between a dataset's files. Folders are looked up once.
struct Links<'a> {
    root: &'a Path,
    /// The real path of the root.
    data: &'a Path,
    /// The real path of each folder; `None` where it leads nowhere.
    folders: HashMap<PathBuf, Option<PathBuf>>,
}

impl<'a> Links<'a> {
    fn new(root: &'a Path, data: &'a Path) -> Self {
        Self { root, data, folders: HashMap::new() }
    }

    /// A file's path in the dataset.
    fn within<'b>(&self, path: &'b Path) -> &'b Path {
        path.strip_prefix(self.root).expect("a dataset's files are below its root")
    }

    fn real(&mut self, folder: &Path) -> Option<&Path> {
        if !self.folders.contains_key(folder) {
            self.folders.insert(folder.to_path_buf(), fs::canonicalize(folder).ok());
        }
        self.folders[folder].as_deref()
    }

    /// Why the file at `path` must not be moved, if it is so.
    fn reason_to_stay(&mut self, path: &Path) -> Option<&'static str> {
        let within = self.within(path);
        let own = within.parent().map(|folder| self.data.join(folder));
        let is_linked = path.parent().and_then(|folder| self.real(folder)) != own.as_deref();
        match (is_linked, within.to_str()) {
            (true, _) => Some("it is in a linked folder"),
            (false, None) => Some("its name is not UTF-8"),
            (false, Some(_)) => None,
        }
    }

    /// What the way from `path` to its file passes, by the real folder of each: links and at last the file. Empty for a file that is
    /// where its path says.
    fn way(&mut self, path: &Path) -> Vec<PathBuf> {
        /// Links that lead to links, as many as Linux follows.
        const MOST: usize = 40;
        if self.reason_to_stay(path).is_none() && !path.is_symlink() {
            return Vec::new();
        }
        let (mut way, mut next) = (Vec::new(), path.to_path_buf());
        while way.len() < MOST {
            let (Some(folder), Some(name)) = (next.parent(), next.file_name()) else { break };
            let Some(folder) = self.real(folder) else { break };
            let at = folder.join(name);
            let target = fs::read_link(&at).map(|target| folder.join(target));
            way.push(at);
            match target {
                Ok(target) => next = target,
                Err(_) => break,
            }
        }
        way
    }
}

/// An error unless `folder`, which is or is below `base`, a real path, is where its path says.
fn check_unmoved(folder: &Path, base: &Path) -> Result<(), DoctorError> {
    match fs::canonicalize(folder) {
        Ok(real) if real == folder => Ok(()),
        Ok(real) => Err(DoctorError::invalid(
            folder.display(),
            format!("a folder in {}, from where files were moved", base.display()),
            format!("a link to {}", real.display()),
        )),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Err(DoctorError::invalid(folder.display(), "the folder that files were moved from", "none"))
        }
        Err(error) => Err(FileError::read(folder)(error).into()),
    }
}

/// The images of a group that are moved.
fn moved(images: &Collection, check: Check, group: &Group) -> Vec<usize> {
    let all = || group.images.iter().copied();
    match check {
        Check::Duplicates => {
            let is_file = |&image: &usize| images.file(image).is_some_and(|path| !path.is_symlink());
            let first = all().find(is_file).or(group.images.first().copied());
            all().filter(|&image| Some(image) != first).collect()
        }
        Check::NearDuplicates => all().skip(1).collect(),
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
