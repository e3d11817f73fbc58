//! Every optimiser: its state is in the checkpoint, under torch's names, and its runs resume to the bit.

use crate::support;

use residual_train::{Job, Kind, Opt, Recipe, Setting, train};
use residual_weights::load_tensors;
use std::collections::BTreeSet;
use std::path::Path;
use support::{assert_same_run, dataset, finished, interrupted, never, options, recipe};

fn optimizers() -> impl Iterator<Item = Opt> {
    let Kind::Choice(names) = Setting::find("opt").unwrap().kind else { panic!("opt is a choice") };
    names.iter().map(|name| toml::Value::from(*name).try_into().unwrap())
}

/// The resumed process has one thread, the other two.
#[test]
fn every_optimizer_resumes_to_the_bit_on_any_number_of_threads() {
    let folder = tempfile::tempdir().unwrap();
    let data = dataset(folder.path(), None);
    for opt in optimizers() {
        let recipe = Recipe { opt, nesterov: None, lr: 0.002, max_steps: Some(9), ..recipe(&data) };
        let job = Job::prepare(recipe).unwrap();
        let runs = folder.path().join(opt.name());
        let reference = finished(&train(&job, &runs, &options(2), &never(), &mut |_| {}).unwrap());
        let (interruptions, outcome) = interrupted(&job, &runs, &[2], &[5]);
        assert_eq!(interruptions, 2, "{opt:?}");
        assert_same_run(&reference, &finished(&outcome));
    }
}

#[test]
fn state_tensors_have_torchs_names() {
    let folder = tempfile::tempdir().unwrap();
    let data = dataset(folder.path(), None);
    let moments = &["exp_avg", "exp_avg_sq", "step"][..];
    for opt in optimizers() {
        let job = Job::prepare(Recipe { opt, nesterov: None, lr: 0.002, max_steps: Some(1), ..recipe(&data) }).unwrap();
        let run = finished(&train(&job, folder.path(), &options(1), &never(), &mut |_| {}).unwrap());
        let (tensors, _) = load_tensors(&run.state()).unwrap();
        let names = |parameter: &str| -> Vec<String> {
            let name = |key: &String| {
                let name = key.strip_prefix("optimizer.")?.strip_suffix(parameter)?.strip_suffix('.')?;
                Some(name.to_owned()).filter(|name| !name.contains('.'))
            };
            tensors.keys().filter_map(name).collect::<BTreeSet<_>>().into_iter().collect()
        };
        let [matrix, other] = match opt {
            Opt::Sgd | Opt::Momentum => [&["momentum_buffer", "step"][..]; 2],
            Opt::Adam | Opt::AdamW | Opt::NAdam | Opt::Lamb => [moments; 2],
            Opt::RmsProp | Opt::RmsPropTf => [&["momentum_buffer", "square_avg", "step"][..]; 2],
            Opt::Lion => [&["exp_avg", "step"][..]; 2],
            Opt::Muon => [&["momentum_buffer", "step"][..], moments],
        };
        assert_eq!(names("conv1.weight"), matrix, "{opt:?}");
        assert_eq!(names("layer1.0.bn1.weight"), other, "{opt:?}");
        assert_eq!(names("fc.weight"), other, "{opt:?}");
    }
}

/// Grouped convolutions are matrices of all their outputs, which Muon updates; depthwise ones, layer scales and the head are on
/// AdamW. A step changes all of them.
#[test]
fn muon_trains_grouped_and_depthwise_networks() {
    let folder = tempfile::tempdir().unwrap();
    let resnext = "family = \"cifar_resnext\"\ncardinality = 2\nbase_width = 4\nout_width = 16\nstem_width = 8\n";
    let convnext = "family = \"convnext\"\nwidths = [8, 8, 16, 16]\n";
    for (description, muon, adamw) in [
        (format!("{resnext}depths = [1, 1, 1]\n"), ".conv2.weight", "fc.weight"),
        (format!("{convnext}depths = [1, 1, 1, 1]\n"), ".block.3.weight", ".block.0.weight"),
    ] {
        let model = folder.path().join("net.toml");
        std::fs::write(&model, format!("{description}name = \"net\"\nimage_size = 32\n")).unwrap();
        let recipe = Recipe {
            model: model.display().to_string(),
            val_split: Some(0.0),
            opt: Opt::Muon,
            nesterov: None,
            lr: 0.002,
            warmup_steps: None,
            max_steps: Some(2),
            ..recipe(Path::new("shapes10"))
        };
        let job = Job::prepare(recipe).unwrap();
        let run = finished(&train(&job, &folder.path().join("runs"), &options(2), &never(), &mut |_| {}).unwrap());
        let (state, _) = load_tensors(&run.state()).unwrap();
        let has = |name: &str, key: &str| state.keys().any(|state| state.contains(name) && state.ends_with(key));
        assert!(has("momentum_buffer", muon) && !has("exp_avg", muon), "{description}");
        assert!(has("exp_avg_sq", adamw) && !has("momentum_buffer", adamw), "{description}");
        for (key, before) in &job.model.tensors {
            if let (Some(before), Some(after)) = (before.as_f32(), state[format!("model.{key}").as_str()].as_f32()) {
                assert!(before != after && after.iter().all(|value| value.is_finite()), "{key}");
            }
        }
    }
}
