//! Suggestions for a path without weights.

use crate::InferError;
use residual_hub::pretrained;
use residual_weights::weights_file;
use residual_zoo::{ZooError, find};
use std::path::{Path, PathBuf};

/// Maximum number of suggestions of one kind.
const MOST: usize = 3;

/// Why `path`, which is neither a file nor a run folder nor a name, has no weights, with suggestions.
pub fn no_weights(path: impl AsRef<Path>) -> InferError {
    let path = path.as_ref();
    if path.is_dir() {
        let runs = run_folders(path, "");
        return InferError::NoWeights {
            path: path.to_path_buf(),
            expected: "a run folder, with weights/best.safetensors in it, or a file",
            got: "a folder without",
            suggestions: runs,
        };
    }
    let mut suggestions = Vec::new();
    if let Some(name) = path.file_name() {
        let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        suggestions = run_folders(folder, &format!("{}-", name.to_string_lossy()));
    }
    suggestions.extend(names(&path.to_string_lossy()));
    InferError::NoWeights {
        path: path.to_path_buf(),
        expected: "a file, a run folder or a name of published weights",
        got: "none of that name",
        suggestions,
    }
}

/// The newest run folders in `folder` whose names begin with `start`.
fn run_folders(folder: &Path, start: &str) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let named = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(start));
    let mut runs: Vec<PathBuf> =
        entries.filter(named).filter(|path| path.is_dir() && weights_file(path).is_file()).collect();
    let number = |path: &PathBuf| -> Option<u64> { path.file_name()?.to_str()?.split_once('-')?.0.parse().ok() };
    runs.sort_unstable_by_key(|path| std::cmp::Reverse(number(path)));
    runs.into_iter().take(MOST).map(|path| path.display().to_string()).collect()
}

/// Names of published weights of the network that `text` names, or nearly names: torchvision's newest and timm's
/// default.
fn names(text: &str) -> Vec<String> {
    let network = match find(&text.to_ascii_lowercase()) {
        Ok(entry) => entry.name.to_owned(),
        Err(ZooError::Name { nearest: Some(nearest), .. }) => nearest.to_string(),
        Err(_) => return Vec::new(),
    };
    let all = pretrained();
    let of_source = |source: &'static str| {
        all.iter()
            .filter(|entry| entry.network == network)
            .map(|entry| entry.name)
            .filter(move |name| name.starts_with(source))
    };
    let chosen = [of_source("torchvision:").next_back(), of_source("timm:").next()];
    chosen.into_iter().flatten().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_networks_name_leads_to_the_names_of_its_weights() {
        for (typed, name) in [
            ("resnet50", "torchvision:resnet50.v2"),
            ("ResNet50", "torchvision:resnet50.v2"),
            ("resnet50", "timm:resnet50.a1_in1k"),
            ("resnet5O", "torchvision:resnet50.v2"),
        ] {
            let message = no_weights(Path::new(typed)).to_string();
            assert!(message.starts_with(&format!("{typed}: expected a file, a run folder or ")), "{message}");
            assert!(message.contains(name), "{message}");
        }
        assert!(names("holiday photos.jpg").is_empty());
    }

    #[test]
    fn the_beginning_of_a_runs_name_and_the_folder_of_runs_lead_to_the_run() {
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path().join("2-resnet18-bees");
        std::fs::create_dir_all(run.join("weights")).unwrap();
        std::fs::write(run.join("weights/best.safetensors"), "").unwrap();
        std::fs::create_dir_all(folder.path().join("20-empty")).unwrap();
        for typed in [folder.path().join("2"), folder.path().to_path_buf()] {
            let message = no_weights(&typed).to_string();
            assert!(message.contains(&format!("did you mean {}?", run.display())), "{message}");
        }
        let message = no_weights(folder.path().join("20-empty")).to_string();
        assert!(message.ends_with("or a file, got a folder without"), "{message}");
    }
}
