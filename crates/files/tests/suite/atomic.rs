//! Files are written atomically, whatever happens meanwhile, and only regular files are replaced.

use residual_files::{AtomicFile, FileCause, Metadata, atomic_write, read_file, save_tensors, sweep};
use residual_tensor::{NamedTensors, Tensor};
use std::error::Error;
use std::fs;
use std::io::{self, Read, Seek, Write};
use std::path::Path;

fn state(values: usize) -> NamedTensors {
    NamedTensors::from([("state".into(), Tensor::full(&[values], 1.0))])
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_place_that_cannot_be_written_is_an_error_of_one_line_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("file"), "").unwrap();
    fs::create_dir(at("folder")).unwrap();
    let message = |name: &str| {
        let error = save_tensors(&at(name), &state(1), &Metadata::new()).unwrap_err();
        let source = error.source().map_or_else(String::new, |source| format!(": {source}"));
        assert!(!source.contains(['\n', '/']), "{source}");
        error.to_string()
    };
    assert_eq!(message("missing/a"), format!("{}: no such folder", at("missing").display()));
    assert_eq!(message("folder"), format!("{}: expected a file, got a folder", at("folder").display()));
    assert_eq!(message(".."), format!("{}: expected a file, got a folder", at("..").display()));
    assert_eq!(message("file/a"), format!("{}: cannot be written", at("file/a").display()));
    assert_eq!(names(folder.path()), ["file", "folder"]);
    assert!(names(&at("folder")).is_empty());
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
    drop(AtomicFile::create(&path).unwrap());
    assert_eq!((fs::read(&path).unwrap(), names(folder.path())), (b"old".to_vec(), vec!["a".into()]));
}

#[test]
fn a_file_written_in_parts_can_be_read_and_cut_before_it_has_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    let mut file = AtomicFile::create(&path).unwrap();
    file.write_all(b"-2345").unwrap();
    file.rewind().unwrap();
    file.write_all(b"1").unwrap();
    let mut rest = String::new();
    file.read_to_string(&mut rest).unwrap();
    file.set_len(4).unwrap();
    assert!(rest == "2345" && !path.exists());
    file.finish().unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"1234");
}

#[test]
fn a_name_as_long_as_file_systems_take_is_written_and_swept() {
    let folder = tempfile::tempdir().unwrap();
    for length in [10, 243, 244, 250, 255] {
        let path = folder.path().join("n".repeat(length));
        let file = AtomicFile::create(&path).unwrap();
        // What a killed process leaves.
        std::mem::forget(file);
        assert_eq!(names(folder.path()).len(), 1, "{length}");
        assert_eq!(sweep(&path).unwrap(), 1, "{length}");
        atomic_write(&path, |_| Ok(())).unwrap();
        fs::remove_file(&path).unwrap();
    }
    assert!(atomic_write(&folder.path().join("n".repeat(256)), |_| Ok(())).is_err());
    assert!(names(folder.path()).is_empty());
}

#[test]
fn only_temporary_files_of_the_path_itself_are_swept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("last.safetensors");
    let others = [
        ".best.safetensors.abc123.tmp",
        ".last.safetensors.abc123.bak",
        ".last.safetensors.mine.tmp",
        ".last.safetensors.tmp",
        "last.safetensors",
    ];
    for name in others.iter().chain(&[".last.safetensors.abc123.tmp", ".last.safetensors.XYZ789.tmp"]) {
        fs::write(folder.path().join(name), "").unwrap();
    }
    assert_eq!(sweep(&path).unwrap(), 2);
    assert_eq!(names(folder.path()), others);
}

#[cfg(unix)]
#[test]
fn a_link_stays_and_its_target_is_written() {
    use std::os::unix::fs::symlink;
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::create_dir(at("there")).unwrap();
    fs::write(at("there/old"), "old").unwrap();
    symlink("there/old", at("to_old")).unwrap();
    symlink("to_old", at("to_link")).unwrap();
    symlink("there/new", at("to_new")).unwrap();
    symlink("round", at("round")).unwrap();
    for (link, target) in [("to_link", "there/old"), ("to_new", "there/new")] {
        atomic_write(&at(link), |file| file.write_all(b"written")).unwrap();
        assert_eq!(fs::read(at(target)).unwrap(), b"written");
        assert!(at(link).is_symlink());
    }
    assert!(atomic_write(&at("round"), |_| Ok(())).is_err());
    assert_eq!(names(&at("there")), ["new", "old"]);
}

#[cfg(unix)]
#[test]
fn a_pipe_and_a_device_are_written_into_and_a_socket_is_refused() {
    use std::os::unix::fs::FileTypeExt;
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());
    let reader = std::thread::spawn({
        let pipe = pipe.clone();
        move || fs::read(pipe).unwrap()
    });
    atomic_write(&pipe, |file| file.write_all(b"through")).unwrap();
    assert_eq!(reader.join().unwrap(), b"through");
    assert!(fs::metadata(&pipe).unwrap().file_type().is_fifo());

    atomic_write(Path::new("/dev/null"), |file| file.write_all(b"away")).unwrap();
    assert!(fs::metadata("/dev/null").unwrap().file_type().is_char_device());

    let socket = folder.path().join("socket");
    let _listening = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let error = atomic_write(&socket, |_| Ok(())).unwrap_err();
    assert!(matches!(error.cause, FileCause::Kind { got: "a socket" }), "{error}");
}

#[cfg(unix)]
#[test]
fn a_path_that_is_not_a_regular_file_is_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    std::os::unix::fs::symlink("/dev/zero", folder.path().join("x.png")).unwrap();
    for (path, kind) in
        [(pipe, "a pipe"), (folder.path().join("x.png"), "a device"), (folder.path().to_owned(), "a folder")]
    {
        let error = read_file(&path, 10).unwrap_err().to_string();
        assert_eq!(error, format!("{}: expected a file, got {kind}", path.display()));
    }
    let file = folder.path().join("a");
    fs::write(&file, "0123456789").unwrap();
    assert_eq!(read_file(&file, 10).unwrap(), b"0123456789");
    assert!(read_file(&file, 9).unwrap_err().to_string().ends_with("a: expected at most 9 bytes, got more"));
}

#[cfg(unix)]
#[test]
fn a_new_file_is_as_readable_as_any_other() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let mode = |name: &str| fs::metadata(folder.path().join(name)).unwrap().permissions().mode();
    fs::write(folder.path().join("ordinary"), "").unwrap();
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
        .args(["--exact", "atomic::write_more_than_fits", "--ignored", "--nocapture"])
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
    let before = fs::read(&path).unwrap();
    // The limit comes with a signal that kills; ignored, it leaves the error.
    let output = write_under_a_limit(folder.path(), "trap '' XFSZ;");
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"), "{output:?}");
    assert_eq!(fs::read(&path).unwrap(), before);
    assert_eq!(names(folder.path()), ["state.safetensors"]);
}

#[cfg(unix)]
#[test]
fn a_process_killed_while_writing_leaves_the_old_file_and_what_it_left_is_swept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.safetensors");
    save_tensors(&path, &state(3), &Metadata::new()).unwrap();
    let before = fs::read(&path).unwrap();
    let output = write_under_a_limit(folder.path(), "");
    assert!(!output.status.success(), "{output:?}");
    assert_eq!(fs::read(&path).unwrap(), before);
    assert_eq!(sweep(&path).unwrap(), 1);
    assert_eq!(names(folder.path()), ["state.safetensors"]);
}
