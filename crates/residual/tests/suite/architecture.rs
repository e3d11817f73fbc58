//! Manifests and sources follow ARCHITECTURE.md: exactly its edges between crates; `unsafe`, printing and the environment only
//! where it says; crates that can be packaged.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The crates that may hold `unsafe`, and how many blocks of it: as many as their kernels need, or so many exactly. A crate
/// that calls foreign code joins this list when it comes.
const UNSAFE: [(&str, Option<usize>); 2] = [("kernels", None), ("threads", Some(1))];

/// The files that read environment variables: those for the binary, and those for downloaded weights.
const ENVIRONMENT: [&str; 2] = ["cli/src/machine.rs", "hub/src/lib.rs"];

type Edges = BTreeMap<String, BTreeSet<String>>;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The crates' folders, by name.
fn crates() -> Vec<(String, PathBuf)> {
    let folders = std::fs::read_dir(root().join("crates")).expect("the crates");
    let mut crates: Vec<(String, PathBuf)> = folders
        .map(|entry| entry.expect("a folder"))
        .filter(|entry| entry.path().join("Cargo.toml").is_file())
        .map(|entry| (entry.file_name().into_string().expect("a plain name"), entry.path()))
        .collect();
    crates.sort();
    crates
}

fn documented() -> Edges {
    let text = read(&root().join("ARCHITECTURE.md"));
    let list = text.split("```edges\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a block of edges");
    list.lines()
        .map(|line| {
            let (name, uses) = line.split_once(':').expect("crate: crates it uses");
            (name.to_owned(), uses.split_whitespace().map(str::to_owned).collect())
        })
        .collect()
}

fn declared() -> Edges {
    crates()
        .into_iter()
        .map(|(name, folder)| {
            let manifest: toml::Table = read(&folder.join("Cargo.toml")).parse().expect("a manifest");
            let mut uses = BTreeSet::new();
            for table in ["dependencies", "build-dependencies"] {
                for key in
                    manifest.get(table).and_then(|table| table.as_table()).into_iter().flat_map(|table| table.keys())
                {
                    if key == "residual" {
                        uses.insert(key.clone());
                    } else if let Some(short) = key.strip_prefix("residual-") {
                        uses.insert(short.to_owned());
                    }
                }
            }
            (name, uses)
        })
        .collect()
}

#[test]
fn the_manifests_have_exactly_the_documented_edges() {
    assert_eq!(declared(), documented());
}

#[test]
fn edges_point_down() {
    let text = read(&root().join("ARCHITECTURE.md"));
    let layer = |name: &str| -> u32 {
        let row = text.lines().find(|line| line.contains(&format!("| `crates/{name}` |"))).expect("a row in the map");
        row.split('|').nth(1).and_then(|cell| cell.trim().parse().ok()).expect("a layer")
    };
    for (name, uses) in documented() {
        for used in uses {
            assert!(layer(&used) < layer(&name), "{name} uses {used}");
        }
    }
}

fn sources(folder: &Path, visit: &mut dyn FnMut(&Path, &str)) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, visit);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            visit(&path, &read(&path));
        }
    }
}

/// The lines of a file that are neither comments nor its unit tests, which are at its end.
fn code(text: &str) -> impl Iterator<Item = &str> {
    let text = text.split("#[cfg(test)]\nmod ").next().expect("a first part");
    text.lines().filter(|line| !line.trim_start().starts_with("//"))
}

/// The places of the crates' sources, as `crate/src/file.rs`, with a line that holds one of `needles`.
fn places(needles: &[&str]) -> BTreeSet<String> {
    let mut places = BTreeSet::new();
    for (_, folder) in crates() {
        sources(&folder.join("src"), &mut |path, text| {
            if code(text).any(|line| needles.iter().any(|needle| line.contains(needle))) {
                let path = path.strip_prefix(root().join("crates")).expect("a crate's file");
                places.insert(path.to_str().expect("a plain path").replace('\\', "/"));
            }
        });
    }
    places
}

#[test]
fn unsafe_is_only_where_the_architecture_says() {
    for (name, folder) in crates() {
        let mut blocks = 0;
        sources(&folder.join("src"), &mut |_, text| {
            blocks += code(text).filter(|line| line.contains("unsafe {") || line.contains("unsafe impl")).count();
        });
        match UNSAFE.iter().find(|(listed, _)| *listed == name) {
            Some((_, Some(exactly))) => assert_eq!(blocks, *exactly, "{name}"),
            Some((_, None)) => assert!(blocks > 0, "{name} needs no place in the list"),
            None => {
                let root = ["src/lib.rs", "src/main.rs"].map(|file| folder.join(file));
                let root = root.iter().find(|path| path.is_file()).expect("a crate root");
                assert!(read(root).contains("#![forbid(unsafe_code)]"), "{name}");
                assert_eq!(blocks, 0, "{name}");
            }
        }
    }
}

#[test]
fn only_the_binary_prints_reads_its_arguments_and_exits() {
    let needles = ["print!(", "println!(", "dbg!(", "stdout()", "stderr()", "stdin()", "env::args", "process::exit"];
    let places = places(&needles);
    let outside: Vec<&String> = places.iter().filter(|place| !place.starts_with("cli/")).collect();
    assert!(outside.is_empty(), "{outside:?}");
    assert!(!places.is_empty(), "the binary prints");
}

#[test]
fn environment_variables_are_read_only_where_the_architecture_says() {
    assert_eq!(places(&["env::var"]), ENVIRONMENT.map(str::to_owned).into());
}

/// A file that a crate includes from outside its folder is missing from the package that cargo makes of it.
#[test]
fn crates_include_only_files_of_their_own() {
    for (name, folder) in crates() {
        sources(&folder.join("src"), &mut |path, text| {
            let code: String = code(text).collect();
            for after in code.split("include_str!(").chain(code.split("include_bytes!(")) {
                let Some(included) = after.trim_start_matches("concat!(").strip_prefix('"') else { continue };
                let included = included.split('"').next().expect("a path");
                let mut target = path.parent().expect("a folder").to_path_buf();
                for part in included.split('/') {
                    if part == ".." {
                        assert!(target.pop());
                    } else {
                        target.push(part);
                    }
                }
                assert!(target.starts_with(&folder), "{name}: {} includes {included}", path.display());
            }
        });
    }
}

/// Paths of this repository in backticks, relative to its root, `crates/` or a crate's `src/`.
#[test]
fn documents_name_files_that_exist() {
    for document in ["ARCHITECTURE.md", "CONTRIBUTING.md"] {
        let text = read(&root().join(document));
        let named = text.split('`').skip(1).step_by(2).filter(|name| {
            let is_path = name.contains('/') && !name.contains([' ', '*', '<', '{']);
            is_path && (name.ends_with(".rs") || name.starts_with("crates/"))
        });
        let mut checked = 0;
        for name in named {
            let mut places = vec![root().join(name), root().join("crates").join(name)];
            places.extend(crates().into_iter().map(|(_, folder)| folder.join("src").join(name)));
            assert!(places.iter().any(|place| place.exists()), "{document} names {name}, which does not exist");
            checked += 1;
        }
        assert!(checked > 10, "{document}: {checked}");
    }
}
