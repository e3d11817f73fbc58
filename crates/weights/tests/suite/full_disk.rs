//! A file that cannot be written is an error, and what was there before stays.

use residual_tensor::{NamedTensors, Tensor};
use residual_weights::{Metadata, atomic_write, load_tensors, save_tensors};
use std::error::Error;
use std::io;
use std::path::Path;

fn state(values: usize) -> NamedTensors {
    NamedTensors::from([("state".into(), Tensor::full(&[values], 1.0))])
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_place_that_cannot_be_written_is_an_error_of_one_line() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("file"), "").unwrap();
    std::fs::create_dir(folder.path().join("folder")).unwrap();
    for place in ["missing/a", "file/a", "folder", ".."] {
        let path = folder.path().join(place);
        let error = save_tensors(&path, &state(1), &Metadata::new()).unwrap_err();
        assert_eq!(error.to_string(), format!("{}: cannot be written", path.display()));
        assert!(!error.source().unwrap().to_string().contains('\n'));
    }
    assert_eq!(names(folder.path()), ["file", "folder"]);
    assert!(names(&folder.path().join("folder")).is_empty());
}

#[test]
fn a_writer_that_fails_half_way_leaves_the_old_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    atomic_write(&path, |file| file.write_all(b"old")).unwrap();
    let error = atomic_write(&path, |file| {
        file.write_all(&[0; 1 << 20])?;
        Err(io::ErrorKind::StorageFull.into())
    });
    assert_eq!(error.unwrap_err().source().unwrap().to_string(), "no storage space");
    assert_eq!((std::fs::read(&path).unwrap(), names(folder.path())), (b"old".to_vec(), vec!["a".into()]));
}

#[cfg(unix)]
#[test]
fn a_new_file_is_as_readable_as_any_other() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let mode = |name: &str| std::fs::metadata(folder.path().join(name)).unwrap().permissions().mode();
    std::fs::write(folder.path().join("ordinary"), "").unwrap();
    atomic_write(&folder.path().join("ours"), |_| Ok(())).unwrap();
    assert_eq!(mode("ours"), mode("ordinary"));
}

/// Set in a process that this test starts under a limit, to the folder it writes to.
const FOLDER: &str = "RESIDUAL_TEST_FULL_DISK";

/// Runs [`write_more_than_fits`] in another process, in which files end at a few kilobytes.
#[cfg(unix)]
fn write_under_a_limit(folder: &Path, before: &str) -> std::process::Output {
    let script = format!("{before} ulimit -f 8; exec \"$0\" \"$@\"");
    std::process::Command::new("sh")
        .args(["-c", &script])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "full_disk::write_more_than_fits", "--ignored", "--nocapture"])
        .env(FOLDER, folder)
        .output()
        .unwrap()
}

#[test]
#[ignore = "started by the tests below, in a process of its own"]
fn write_more_than_fits() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let path = Path::new(&folder).join("state.safetensors");
    let error = save_tensors(&path, &state(1 << 20), &Metadata::new()).unwrap_err();
    assert_eq!(error.to_string(), format!("{}: cannot be written", path.display()));
    let source = error.source().unwrap().downcast_ref::<io::Error>().unwrap();
    assert_eq!(source.kind(), io::ErrorKind::FileTooLarge);
}

/// A full disk answers a write as a file past its limit does: with an error.
#[cfg(unix)]
#[test]
fn a_full_disk_leaves_the_old_file_and_no_temporary_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.safetensors");
    save_tensors(&path, &state(3), &Metadata::new()).unwrap();
    // The limit comes with a signal that kills; ignored, it leaves the error.
    let output = write_under_a_limit(folder.path(), "trap '' XFSZ;");
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"), "{output:?}");
    assert_eq!(load_tensors(&path).unwrap().0, state(3));
    assert_eq!(names(folder.path()), ["state.safetensors"]);
}

#[cfg(unix)]
#[test]
fn a_process_killed_while_writing_leaves_the_old_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.safetensors");
    save_tensors(&path, &state(3), &Metadata::new()).unwrap();
    let output = write_under_a_limit(folder.path(), "");
    assert!(!output.status.success(), "{output:?}");
    assert_eq!(load_tensors(&path).unwrap().0, state(3));
}
