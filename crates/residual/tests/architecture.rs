//! The manifests follow ARCHITECTURE.md: exactly its edges between crates, and `unsafe` only where it says.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

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

#[test]
fn unsafe_stands_only_where_the_architecture_says() {
    for (name, folder) in crates() {
        let mut blocks = 0;
        sources(&folder.join("src"), &mut |_, text| {
            let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
            blocks += code.filter(|line| line.contains("unsafe {") || line.contains("unsafe impl")).count();
        });
        match name.as_str() {
            "kernels" => assert!(blocks > 0),
            "threads" => assert_eq!(blocks, 1, "one lifetime is erased, nothing else"),
            _ => {
                let root = ["src/lib.rs", "src/main.rs"].map(|file| folder.join(file));
                let root = root.iter().find(|path| path.is_file()).expect("a crate root");
                assert!(read(root).contains("#![forbid(unsafe_code)]"), "{name}");
                assert_eq!(blocks, 0, "{name}");
            }
        }
    }
}
