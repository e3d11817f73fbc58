//! A folder to work in, and the program run there.

#![allow(dead_code, reason = "every test file uses its own part of this")]

use residual::model::{Initialisation, Model, initialise};
use residual::preprocess::Preprocessing;
use residual::tensor::{NamedTensors, Stream, Tensor};
use residual::weights::save_tensors;
use residual::{weights, zoo};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A temporary folder, which the program is run in.
pub(crate) struct Place {
    folder: tempfile::TempDir,
}

/// The result of a process: exit code, stdout, stderr.
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    /// The program with these arguments, in this folder, on one thread.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_residual"));
        command.args(arguments).current_dir(self.folder.path()).env_remove("RESIDUAL_ISA");
        command.env("RESIDUAL_HOME", self.path("home"));
        for name in ["RESIDUAL_OFFLINE", "HF_HUB_OFFLINE", "RESIDUAL_HUB_ENDPOINT", "HF_ENDPOINT", "HF_TOKEN"] {
            command.env_remove(name);
        }
        command
    }

    /// Random weights of `torchvision:resnet18.v1` in the cache, written down as the published file.
    pub(crate) fn resnet18(&self) {
        let tensors = initialise(&zoo::build("resnet18", 1000).unwrap(), Initialisation::Torch, 1);
        let folder = "home/hub/torchvision";
        self.write(&format!("{folder}/resnet18-f37072fd.pth"), []);
        let path = self.path(&format!("{folder}/resnet18-f37072fd.pth"));
        save_tensors(&path, &tensors, &Default::default()).unwrap();
        let metadata = std::fs::metadata(path).unwrap();
        let written = metadata.modified().unwrap().duration_since(std::time::UNIX_EPOCH).unwrap();
        let checked = format!("f37072fd {} {}", metadata.len(), written.as_nanos());
        self.write(&format!("{folder}/.resnet18-f37072fd.pth.checked"), checked);
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        ran(self.command(arguments).output().unwrap())
    }

    /// Runs the program, which must succeed; its stdout.
    pub(crate) fn done(&self, arguments: &[&str]) -> String {
        let ran = self.run(arguments);
        assert_eq!(ran.code, Some(0), "{arguments:?}: {}", ran.stderr);
        ran.stdout
    }

    /// Runs the program, which must fail with `code`, nothing on stdout and this one line as the last on stderr.
    pub(crate) fn refused(&self, arguments: &[&str], code: i32, line: &str) {
        let ran = self.run(arguments);
        let last = ran.stderr.lines().last().unwrap_or_default();
        assert_eq!((ran.code, last), (Some(code), line), "{arguments:?}: {}", ran.stderr);
        assert_eq!(ran.stderr.lines().filter(|line| line.starts_with("error")).count(), 1, "{}", ran.stderr);
        assert_eq!(ran.stdout, "");
    }

    /// `tiny.safetensors`: 32 normalised images of 12×12 in two classes.
    pub(crate) fn tiny_data(&self) -> &'static str {
        let (n, side) = (32, 12);
        let mut random = Stream::new(3, &[]);
        let images = (0..n * 3 * side * side).map(|index| {
            let class = index / (3 * side * side) % 2;
            random.normal() + class as f32
        });
        let tensors = NamedTensors::from_iter([
            ("images".to_owned(), Tensor::f32(&[n, 3, side, side], images.collect())),
            ("labels".to_owned(), Tensor::i64(&[n], (0..n as i64).map(|index| index % 2).collect())),
        ]);
        save_tensors(&self.path("tiny.safetensors"), &tensors, &Default::default()).unwrap();
        "tiny.safetensors"
    }

    /// `photos/`: an ImageFolder of six 16×16 BMPs in the classes `ants` and `bees`.
    pub(crate) fn photos(&self) -> &'static str {
        for index in 0..6u8 {
            let class = if index % 2 == 0 { "ants" } else { "bees" };
            self.write(&format!("photos/{class}/{index}.bmp"), bmp(16, 16, 40 * index));
        }
        "photos"
    }
}

/// `w.safetensors`: a resnet20 with new weights for two named classes, on images of 16×16.
pub(crate) fn small_model(place: &Place) -> Model {
    let graph = zoo::build("resnet20", 2).unwrap();
    let tensors = initialise(&graph, Initialisation::Torch, 1);
    let preprocessing = Preprocessing::unscaled([16, 16], &[0.5; 3], &[0.25; 3]);
    let model = Model::new(graph, tensors, preprocessing, vec!["ant".into(), "bee, bumble".into()]).unwrap();
    weights::save(&place.path("w.safetensors"), &model, None).unwrap();
    model
}

pub(crate) fn ran(output: Output) -> Ran {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ran { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

pub(crate) fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap()
}

/// Flags of a training on [`Place::tiny_data`] that takes 3 epochs of 8 steps in a second.
pub(crate) const TINY: [&str; 16] = [
    "train",
    "--model",
    "resnet20",
    "--data",
    "tiny.safetensors",
    "--augment",
    "none",
    "--warmup-epochs",
    "1",
    "-b",
    "4",
    "--epochs",
    "3",
    "--threads",
    "1",
    "--json",
];

/// An uncompressed 24-bit BMP of one colour. Decoders look at the content, not at the file's name.
pub(crate) fn bmp(width: u32, height: u32, value: u8) -> Vec<u8> {
    let row = (width * 3).next_multiple_of(4);
    let mut bytes = b"BM".to_vec();
    for field in [54 + row * height, 0, 54, 40, width, height] {
        bytes.extend(field.to_le_bytes());
    }
    bytes.extend([1, 0, 24, 0]);
    bytes.extend([0; 24]);
    bytes.extend(std::iter::repeat_n(value, (row * height) as usize));
    bytes
}

/// The folder of test data, or `None` with a note; a failure where data is required.
pub(crate) fn test_data() -> Option<PathBuf> {
    let data = std::env::var_os("RESIDUAL_TEST_DATA").filter(|data| !data.is_empty()).map(PathBuf::from);
    if data.is_none() {
        let required = std::env::var("RESIDUAL_REQUIRE_DATA").is_ok_and(|required| required == "1");
        assert!(!required, "RESIDUAL_REQUIRE_DATA is set, but RESIDUAL_TEST_DATA is not");
        eprintln!("skipped: RESIDUAL_TEST_DATA is not set");
    }
    data.map(|path| std::fs::canonicalize(Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)).unwrap())
}

/// The words of a command, some of which are quoted.
pub(crate) fn words(command: &str) -> Vec<&str> {
    let parts = command.split('"').enumerate();
    parts
        .flat_map(|(index, part)| if index % 2 == 1 { vec![part] } else { part.split_whitespace().collect() })
        .collect()
}
