//! A folder with every fault planted is examined, and one without faults; what is found is what was planted.

use crate::support;

use residual_doctor::{Check, Examination, ExamineOptions, Finding, Quarantine, QuarantineFolder, Severity};
use residual_preprocess::Image;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use support::{Place, blurry, exif, photograph};

/// The names of the images of a check's finding, by group.
fn named(place: &Place, examination: &Examination, check: Check) -> Vec<Vec<String>> {
    let finding = examination.finding(check).unwrap_or_else(|| panic!("nothing found: {check}"));
    finding.groups.iter().map(|group| group.images.iter().map(|&image| place.name(image)).collect()).collect()
}

fn checks(findings: &[Finding]) -> BTreeSet<Check> {
    findings.iter().map(|finding| finding.check).collect()
}

#[test]
fn a_clean_folder_has_no_finding() {
    let place = Place::new();
    place.clean();
    let examination = place.examine();
    assert_eq!(examination.findings, [], "{:#?}", examination.findings);
    assert_eq!(examination.skipped, []);
}

#[test]
fn every_planted_fault_is_found_and_nothing_else() {
    let place = Place::new();
    place.clean();
    let bytes = |name: &str| fs::read(place.path(name)).unwrap();
    let first = bytes("train/bridge/0.png");

    // Unreadable: one byte, cut off, a header of a billion pixels, no image at all, a link to itself and one to nothing.
    let cut = &first[..first.len() / 2];
    let mut bomb = first.clone();
    bomb[16..24].copy_from_slice(&[0, 1, 0, 0, 0, 1, 0, 0]);
    place.write("train/bridge/byte.png", b"x");
    place.write("train/bridge/cut.png", cut);
    place.write("train/bridge/bomb.png", &bomb);
    place.write("train/bridge/text.jpg", b"<html>not found</html>");
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("loop.png", place.path("train/bridge/loop.png")).unwrap();
        std::os::unix::fs::symlink("gone.png", place.path("train/bridge/dangling.png")).unwrap();
        // A folder that contains itself is entered once.
        std::os::unix::fs::symlink(place.path("train/bridge"), place.path("train/bridge/again")).unwrap();
    }

    // The same file: twice in a class, in two classes, in two splits.
    place.write("train/bridge/same.png", &first);
    place.write("train/castle/contradiction.png", bytes("train/bridge/1.png"));
    place.write("test/bridge/leaked.png", bytes("train/bridge/2.png"));
    // Nearly the same: brighter, in the same split and in another.
    place.write("train/castle/brighter.png", place.brighter("train/castle/3.png"));
    place.write("test/castle/brighter.png", place.brighter("train/castle/4.png"));
    // One subject, and one series of shots, in two splits.
    place.write("train/castle/patient_7_a.png", photograph(900, [60, 60]).to_png().unwrap());
    place.write("test/castle/patient_7_b.png", photograph(901, [60, 60]).to_png().unwrap());
    place.write("train/castle/shot.jpg", exif("2024:05:17 10:03:21", None, 902));
    place.write("test/castle/series.jpg", exif("2024:05:17 10:03:21", None, 903));

    // Classes: unknown in the test split, missing there, empty, few images, named nearly alike.
    place.write("test/Bridge2/0.png", photograph(904, [60, 60]).to_png().unwrap());
    place.write("train/rare/0.png", photograph(905, [60, 60]).to_png().unwrap());
    fs::create_dir(place.path("train/empty")).unwrap();
    place.write("train/CASTLE/0.png", photograph(906, [60, 60]).to_png().unwrap());
    place.write("train/castle/Photo.png", photograph(907, [60, 60]).to_png().unwrap());
    place.write("train/castle/photo.png", photograph(908, [60, 60]).to_png().unwrap());

    // Single images.
    place.write("train/castle/wrong.jpg", photograph(909, [60, 60]).to_png().unwrap());
    place.write("train/castle/turned.jpg", exif("2024:05:18 11:00:00", Some(6), 910));
    place.write("train/castle/tiny.png", photograph(911, [6, 6]).to_png().unwrap());
    place.write("train/castle/huge.png", photograph(912, [300, 300]).to_png().unwrap());
    place.write("train/castle/long.png", photograph(913, [30, 100]).to_png().unwrap());
    place.write("train/castle/blurry.png", blurry());
    place.write("train/castle/dark.png", place.changed(915, |value| value * 0.25));
    place.write("train/castle/light.png", place.changed(916, |value| 248.0 + value * 0.005));
    place.write("train/castle/grey.png", photograph(917, [60, 60]).with_channels(1).unwrap().to_png().unwrap());
    place.write("train/castle/alpha.png", place.with_alpha(918));
    place.write("train/castle/cmyk.jpg", include_bytes!("../golden/cmyk.jpg"));

    let examination = place.examine();
    let one = |check| {
        let groups = named(&place, &examination, check);
        assert_eq!(groups.len(), 1, "{check}: {groups:?}");
        groups[0].clone()
    };
    let all = |check| named(&place, &examination, check).concat().into_iter().collect::<BTreeSet<String>>();
    let set = |names: &[&str]| names.iter().map(ToString::to_string).collect::<BTreeSet<String>>();

    let mut unreadable = vec!["byte.png", "cut.png", "bomb.png", "text.jpg"];
    if cfg!(unix) {
        unreadable.extend(["loop.png", "dangling.png"]);
    }
    let unreadable: Vec<String> = unreadable.iter().map(|name| format!("train/bridge/{name}")).collect();
    assert_eq!(all(Check::Unreadable), unreadable.into_iter().collect());
    assert_eq!(one(Check::Duplicates), ["train/bridge/0.png", "train/bridge/same.png"]);
    assert_eq!(one(Check::Contradictory), ["train/bridge/1.png", "train/castle/contradiction.png"]);
    assert_eq!(one(Check::Leakage), ["train/bridge/2.png", "test/bridge/leaked.png"]);
    assert_eq!(one(Check::NearDuplicates), ["train/castle/3.png", "train/castle/brighter.png"]);
    assert_eq!(one(Check::NearLeakage), ["train/castle/4.png", "test/castle/brighter.png"]);
    let groups = [
        vec!["train/castle/patient_7_a.png", "test/castle/patient_7_b.png"],
        vec!["train/castle/shot.jpg", "test/castle/series.jpg"],
    ];
    assert_eq!(named(&place, &examination, Check::Groups), groups);
    for (check, names) in [
        (Check::Extension, &["train/castle/wrong.jpg"][..]),
        (Check::Orientation, &["train/castle/turned.jpg"]),
        (Check::Tiny, &["train/castle/tiny.png"]),
        (Check::Huge, &["train/castle/huge.png"]),
        (Check::Aspect, &["train/castle/long.png"]),
        (Check::Blurry, &["train/castle/blurry.png"]),
        (Check::Dark, &["train/castle/dark.png"]),
        (Check::Light, &["train/castle/light.png"]),
        (Check::Flat, &["train/castle/light.png"]),
        (Check::Grey, &["train/castle/grey.png"]),
        (Check::Alpha, &["train/castle/alpha.png"]),
        (Check::Cmyk, &["train/castle/cmyk.jpg"]),
    ] {
        assert!(all(check).is_superset(&set(names)), "{check}: {:?}", all(check));
        assert!(all(check).len() <= names.len() + 2, "{check}: {:?}", all(check));
    }
    let message = |check| &examination.finding(check).unwrap_or_else(|| panic!("nothing found: {check}")).message;
    assert_eq!(
        *message(Check::Classes),
        "test has 1 class that train lacks: Bridge2; test lacks 2 classes of train: CASTLE, rare"
    );
    assert!(message(Check::EmptyClasses).ends_with("train/empty"), "{}", message(Check::EmptyClasses));
    assert_eq!(
        *message(Check::Names),
        "names that differ in case or composition only: classes \"CASTLE\" and \"castle\"; files \"Photo.png\" and \"photo.png\""
    );
    assert!(message(Check::Imbalance).starts_with("class \"CASTLE\" has 1 image for training and class"));

    let errors: BTreeSet<Check> = examination
        .findings
        .iter()
        .filter(|finding| finding.severity == Severity::Error)
        .map(|finding| finding.check)
        .collect();
    let expected = [Check::Unreadable, Check::Classes, Check::EmptyClasses, Check::Contradictory, Check::Leakage];
    assert_eq!(errors, expected.into());
    // What is left are checks of many images, which have tests of their own.
    let rest: Vec<Check> =
        Check::ALL.into_iter().filter(|check| !checks(&examination.findings).contains(check)).collect();
    assert!(rest.iter().all(|check| [Check::Labels, Check::Shortcut].contains(check)), "{rest:?}");
}

#[test]
fn sizes_that_tell_the_class_are_a_shortcut() {
    let place = Place::new();
    for index in 0..40 {
        let class = ["bridge", "castle"][index % 2];
        // Castles are larger, as if they came from another source.
        let side = 48 + 24 * (index % 2) + index % 5;
        place.write(&format!("{class}/{index}.png"), photograph(index as u64, [side, side]).to_png().unwrap());
    }
    for index in 40..60 {
        let (class, side) = (["bridge", "castle"][index % 2], 48 + 24 * (index % 2) + index % 5);
        place.write(&format!("{class}/{index}.png"), photograph(index as u64, [side, side]).to_png().unwrap());
    }
    let examination = place.examine();
    assert_eq!(checks(&examination.findings), [Check::Shortcut].into(), "{:#?}", examination.findings);
    let message = &examination.findings[0].message;
    assert!(message.starts_with("size alone tells the class of 100.0 %"), "{message}");
}

/// The files of a folder with their content, by their path in it; links by where they lead.
fn content(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let entry = entry.unwrap();
            let (path, kind) = (entry.path(), entry.file_type().unwrap());
            let name = path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_symlink() {
                files.insert(name, fs::read_link(path).unwrap().into_os_string().into_encoded_bytes());
            } else {
                files.insert(name, fs::read(path).unwrap());
            }
        }
    }
    files
}

/// The clean folder with faults that are moved away.
fn faulty() -> Place {
    let place = Place::new();
    place.clean();
    let bytes = |name: &str| fs::read(place.path(name)).unwrap();
    place.write("train/bridge/byte.png", b"x");
    place.write("train/bridge/same.png", bytes("train/bridge/0.png"));
    place.write("train/castle/contradiction.png", bytes("train/bridge/1.png"));
    place.write("test/bridge/leaked.png", bytes("train/bridge/2.png"));
    place
}

#[test]
fn a_quarantine_leaves_a_folder_without_errors_and_is_undone_exactly() {
    let place = faulty();
    let before = content(&place.data());
    let examination = place.examine();
    let plan = Quarantine::plan(&place.collection(), &examination, &Quarantine::DEFAULT.into()).unwrap();
    let moved: Vec<&str> = plan.files().iter().map(|file| file.path.to_str().unwrap()).collect();
    assert_eq!(
        moved,
        [
            "train/bridge/1.png",
            "train/bridge/2.png",
            "train/bridge/byte.png",
            "train/bridge/same.png",
            "train/castle/contradiction.png"
        ]
    );
    assert!(examination.findings.iter().all(|finding| plan.settles(finding)));
    assert_eq!((plan.kept(), plan.emptied()), (&[][..], None));
    let folder = applied(&place, &plan);
    assert_eq!(folder, fs::canonicalize(place.data()).unwrap().with_file_name("data-quarantine"));
    assert!(place.examine().findings.is_empty());
    // A second one has a name of its own, and is removed if nothing is put into it.
    let second = QuarantineFolder::beside(&place.collection()).unwrap();
    let path = second.path().to_path_buf();
    assert_eq!((path.file_name().unwrap().to_str(), path.is_dir()), (Some("data-quarantine-2"), true));
    drop(second);
    assert!(!path.exists() && folder.is_dir());

    // As after a kill in the middle: some files are where they belong.
    let killed = folder.join("train/bridge/same.png");
    fs::rename(&killed, place.path("train/bridge/same.png")).unwrap();
    assert_eq!(Quarantine::undo(&folder).unwrap(), 4);
    assert_eq!(content(&place.data()), before);
    assert!(!folder.exists());
}

#[test]
fn an_undo_never_replaces_a_file_and_never_leaves_the_dataset() {
    let place = faulty();
    let examination = place.examine();
    let plan = Quarantine::plan(&place.collection(), &examination, &Quarantine::DEFAULT.into()).unwrap();
    let folder = applied(&place, &plan);
    let after = content(&folder);
    place.write("train/bridge/1.png", b"another file of this name");
    let error = Quarantine::undo(&folder).unwrap_err().to_string();
    assert!(error.ends_with("train/bridge/1.png: expected no file, as it is in the quarantine, got one"), "{error}");
    assert_eq!(content(&folder), after, "nothing was moved");
    fs::remove_file(place.path("train/bridge/1.png")).unwrap();

    let manifest = folder.join("quarantine.json");
    let text = fs::read_to_string(&manifest).unwrap();
    for (changed, message) in [
        (text.replace("train/bridge/byte.png", "../escaped"), "expected paths inside the dataset, got ../escaped"),
        (text.replace("train/bridge/byte.png", "/etc/passwd"), "expected paths inside the dataset, got /etc/passwd"),
        (text.replace("\"version\": 1", "\"version\": 2"), "expected version 1, got 2"),
        (text[..text.len() / 2].to_owned(), "expected the manifest of a quarantine, got EOF"),
    ] {
        fs::write(&manifest, changed).unwrap();
        let error = Quarantine::undo(&folder).unwrap_err().to_string();
        assert!(error.contains(message) && error.lines().count() == 1, "{error}");
    }
    fs::write(&manifest, text).unwrap();
    assert_eq!(Quarantine::undo(&folder).unwrap(), 5);
}

#[test]
fn what_cannot_be_moved_is_refused_by_name() {
    let place = faulty();
    let examination = place.examine();
    let plan =
        |checks: &[Check]| Quarantine::plan(&place.collection(), &examination, &checks.iter().copied().collect());
    let error = plan(&[Check::Imbalance]).unwrap_err().to_string();
    assert_eq!(error, "fix-kinds: expected checks that name images, got imbalance");
    for (folder, message) in [
        (place.path("train/new/quarantine"), "expected a folder outside the dataset's, got one inside"),
        (place.path("train"), "expected a new folder, got one that exists"),
        (place.path("train/bridge/0.png/quarantine"), "cannot be written: Not a directory (os error 20)"),
    ] {
        let error = QuarantineFolder::create(&place.collection(), &folder).unwrap_err().to_string();
        assert!(error.ends_with(message) || cfg!(not(unix)), "{error}");
    }
    assert!(!place.path("train/new").exists(), "what was made is removed");
}

/// Moves the files of a plan to a folder beside the dataset's.
fn applied(place: &Place, plan: &Quarantine) -> PathBuf {
    let folder = QuarantineFolder::beside(&place.collection()).unwrap();
    plan.apply(&folder).unwrap();
    folder.path().to_path_buf()
}

#[cfg(unix)]
#[test]
fn links_keep_leading_to_their_files_and_what_lies_outside_stays() {
    use std::os::unix::fs::symlink;
    let place = Place::new();
    place.clean();
    let outside = place.data().with_file_name("outside");
    fs::create_dir(&outside).unwrap();
    // A class of linked folder; one of its files is damaged.
    fs::rename(place.path("train/castle"), outside.join("castle")).unwrap();
    symlink("../../outside/castle", place.path("train/castle")).unwrap();
    place.write("train/castle/damaged.png", b"x");
    // Links before and behind their target, and one to another link.
    symlink("0.png", place.path("train/bridge/!before.png")).unwrap();
    symlink("!before.png", place.path("train/bridge/zz.png")).unwrap();
    // A link to a file outside, of which there is a copy in the test split.
    fs::write(outside.join("leaked.png"), photograph(700, [60, 60]).to_png().unwrap()).unwrap();
    symlink("../../../outside/leaked.png", place.path("train/bridge/linked.png")).unwrap();
    fs::copy(outside.join("leaked.png"), place.path("test/bridge/copy.png")).unwrap();
    // The test split has a link to a training image.
    symlink("../../train/bridge/2.png", place.path("test/bridge/training.png")).unwrap();
    let (before, around) = (content(&place.data()), content(&outside));

    let examination = place.examine();
    let plan = Quarantine::plan(&place.collection(), &examination, &Quarantine::DEFAULT.into()).unwrap();
    let moved: Vec<&str> = plan.files().iter().map(|file| file.path.to_str().unwrap()).collect();
    assert_eq!(moved, ["train/bridge/!before.png", "train/bridge/linked.png", "train/bridge/zz.png"]);
    let kept: Vec<(String, &str)> = plan.kept().iter().map(|kept| (place.name(kept.image), kept.reason)).collect();
    let expected = [
        ("train/bridge/2.png".to_owned(), "a link that stays leads to it"),
        ("train/castle/damaged.png".to_owned(), "it is in a linked folder"),
    ];
    assert_eq!(kept, expected);
    let settled = |check| plan.settles(examination.finding(check).unwrap());
    assert_eq!([Check::Duplicates, Check::Leakage, Check::Unreadable].map(settled), [true, false, false]);

    let folder = applied(&place, &plan);
    assert_eq!(content(&outside), around);
    let left = place.examine();
    let errors: BTreeSet<Check> = checks(&left.findings);
    assert_eq!(errors, [Check::Unreadable, Check::Leakage].into(), "every other image can still be read");
    assert_eq!(left.finding(Check::Unreadable).unwrap().images(), 1);
    assert_eq!(Quarantine::undo(&folder).unwrap(), 3);
    assert_eq!((content(&place.data()), content(&outside)), (before, around));
}

#[cfg(unix)]
#[test]
fn an_undo_whose_folders_are_gone_or_lead_elsewhere_moves_nothing() {
    let place = faulty();
    let examination = place.examine();
    let plan = Quarantine::plan(&place.collection(), &examination, &Quarantine::DEFAULT.into()).unwrap();
    let folder = applied(&place, &plan);
    let after = content(&folder);
    let refused = |message: &str| {
        let error = Quarantine::undo(&folder).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
        assert_eq!(content(&folder), after);
    };
    let elsewhere = place.data().with_file_name("elsewhere");
    for name in ["", "train", "train/bridge"] {
        let home = if name.is_empty() { place.data() } else { place.path(name) };
        fs::rename(&home, &elsewhere).unwrap();
        refused(": expected the folder that files were moved from, got none");
        assert!(!home.exists(), "nothing is made");
        std::os::unix::fs::symlink(&elsewhere, &home).unwrap();
        refused(", from where files were moved, got a link to ");
        fs::remove_file(&home).unwrap();
        fs::rename(&elsewhere, &home).unwrap();
    }
    // A quarantine whose folder leads elsewhere moves no file of there.
    fs::rename(folder.join("train"), &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, folder.join("train")).unwrap();
    let error = Quarantine::undo(&folder).unwrap_err().to_string();
    assert!(error.contains(", from where files were moved, got a link to "), "{error}");
    fs::remove_file(folder.join("train")).unwrap();
    fs::rename(&elsewhere, folder.join("train")).unwrap();
    assert_eq!(Quarantine::undo(&folder).unwrap(), 5);
}

#[test]
fn a_class_that_a_quarantine_would_empty_is_named() {
    let place = Place::new();
    place.clean();
    let damage = |split: &str| {
        for path in fs::read_dir(place.path(split)).unwrap() {
            fs::write(path.unwrap().path(), b"x").unwrap();
        }
    };
    let emptied = || {
        let examination = place.examine();
        let plan = Quarantine::plan(&place.collection(), &examination, &Quarantine::DEFAULT.into()).unwrap();
        plan.emptied().map(|finding| (finding.severity, finding.message.clone()))
    };
    assert_eq!(emptied(), None);
    // One of two classes of the test split may be missing; all of them, or one for training, may not.
    damage("test/bridge");
    let (severity, message) = emptied().unwrap();
    assert!(
        message.starts_with("1 class folder left without images: ") && message.ends_with("test/bridge"),
        "{message}"
    );
    assert_eq!(severity, Severity::Warning);
    damage("test/castle");
    assert_eq!(emptied().unwrap().0, Severity::Error);
    place.clean();
    damage("train/castle");
    assert_eq!(emptied().unwrap().0, Severity::Error);
}

#[test]
fn a_contradictory_file_is_a_leak_and_a_duplicate_as_well() {
    let place = Place::new();
    place.clean();
    let first = fs::read(place.path("train/bridge/0.png")).unwrap();
    for name in ["train/bridge/same.png", "train/castle/other.png", "test/castle/leaked.png"] {
        place.write(name, &first);
    }
    let examination = place.examine();
    let all = ["train/bridge/0.png", "train/bridge/same.png", "train/castle/other.png", "test/castle/leaked.png"];
    assert_eq!(named(&place, &examination, Check::Contradictory), [all]);
    assert_eq!(named(&place, &examination, Check::Leakage), [all]);
    assert_eq!(named(&place, &examination, Check::Duplicates), [&all[..2]]);
}

#[test]
fn near_duplicates_are_near_to_the_first_of_their_group_and_have_limits_of_their_own() {
    let place = Place::new();
    place.clean();
    for (number, name) in ["c1", "c2", "c3"].iter().enumerate() {
        let from = if number == 0 { "train/castle/3.png".to_owned() } else { format!("train/castle/c{number}.png") };
        place.write(&format!("train/castle/{name}.png"), place.brighter(&from));
    }
    let image = Image::decode(&fs::read(place.path("train/castle/4.png")).unwrap()).unwrap();
    let grain = |(at, &value): (usize, &u8)| value.saturating_add((at / 3 * 37 % 50) as u8);
    let pixels = image.pixels().iter().enumerate().map(grain).collect();
    let grained = Image::new(image.height(), image.width(), 3, pixels).unwrap();
    place.write("test/castle/grained.png", grained.to_png().unwrap());
    let examination = place.examine();
    let groups = named(&place, &examination, Check::NearDuplicates);
    assert_eq!(groups, [["train/castle/3.png", "train/castle/c1.png", "train/castle/c2.png", "train/castle/c3.png"]]);
    let finding = examination.finding(Check::NearDuplicates).unwrap();
    assert_eq!(finding.message, "3 images that are nearly the same as an earlier one of their split");
    assert!(finding.groups[0].detail.ends_with(" of 63 bits differ from the first"), "{}", finding.groups[0].detail);
    let plan = Quarantine::plan(&place.collection(), &examination, &[Check::NearDuplicates].into()).unwrap();
    assert_eq!(plan.files().len(), 3);
    assert!(plan.files().iter().all(|file| file.path != Path::new("train/castle/3.png")), "the first stays");

    let with = |changes: &[(Check, f32)]| {
        let mut options = ExamineOptions::new(residual_engine::Options::threads(2));
        options.checks = [Check::NearDuplicates, Check::NearLeakage].into();
        changes.iter().for_each(|(check, limit)| options.thresholds.set(*check, *limit).unwrap());
        let examined = residual_doctor::examine(&place.collection(), None, &options, &Default::default(), &mut |_| {});
        checks(&examined.unwrap().unwrap().findings)
    };
    // A limit of one does not change the other.
    assert_eq!(with(&[]), [Check::NearDuplicates, Check::NearLeakage].into());
    assert_eq!(with(&[(Check::NearLeakage, 0.0)]), [Check::NearDuplicates].into());
}
