//! The one walk over a folder of images.

use residual_files::{FileCause, images_below};
use std::fs;
use std::path::{Path, PathBuf};

fn write(root: &Path, name: &str) {
    let path = root.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, "").unwrap();
}

fn below(root: &Path, paths: &[PathBuf]) -> Vec<String> {
    paths.iter().map(|path| path.strip_prefix(root).unwrap().to_str().unwrap().replace('\\', "/")).collect()
}

#[test]
fn images_are_found_in_order_and_hidden_names_are_skipped() {
    let folder = tempfile::tempdir().unwrap();
    let names = [
        "b/2.PNG",
        "b/10.jpeg",
        "a.b/x.webp",
        "a/1.bmp",
        "z.jpg",
        "notes.txt",
        "b/labels.csv",
        "b/._2.png",
        ".ipynb_checkpoints/2-checkpoint.png",
        "b/.hidden/3.png",
        "noending",
    ];
    names.iter().for_each(|name| write(folder.path(), name));
    let found = images_below(folder.path()).unwrap();
    assert_eq!(below(folder.path(), &found.images), ["a/1.bmp", "a.b/x.webp", "b/10.jpeg", "b/2.PNG", "z.jpg"]);
    assert_eq!(below(folder.path(), &found.ignored), ["b/labels.csv", "noending", "notes.txt"]);
}

#[cfg(unix)]
#[test]
fn links_are_followed_and_loops_are_not() {
    use std::os::unix::fs::symlink;
    let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    write(elsewhere.path(), "cats/1.png");
    write(elsewhere.path(), "2.png");
    symlink(elsewhere.path().join("cats"), folder.path().join("cat")).unwrap();
    symlink(elsewhere.path().join("2.png"), folder.path().join("dog.png")).unwrap();
    symlink(folder.path(), elsewhere.path().join("cats/round")).unwrap();
    let found = images_below(folder.path()).unwrap();
    assert_eq!(below(folder.path(), &found.images), ["cat/1.png", "dog.png"]);
}

#[cfg(target_os = "linux")]
#[test]
fn a_name_that_is_no_text_stays_the_path_of_its_file() {
    use std::os::unix::ffi::OsStrExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(std::ffi::OsStr::from_bytes(b"\xff.png"));
    fs::write(&path, "").unwrap();
    assert_eq!(images_below(folder.path()).unwrap().images, [path]);
}

#[test]
fn folders_may_not_be_nested_without_end() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &format!("{}1.png", "d/".repeat(16)));
    assert_eq!(images_below(folder.path()).unwrap().images.len(), 1);
    write(folder.path(), &format!("{}1.png", "d/".repeat(17)));
    let error = images_below(folder.path()).unwrap_err();
    assert!(matches!(error.cause, FileCause::TooDeep { limit: 16 }), "{error}");
    assert!(images_below(&folder.path().join("none")).is_err());
}
