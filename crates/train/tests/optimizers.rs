//! Every optimiser: its state is in the checkpoint, under torch's names, and its runs resume to the bit.

mod support;

use residual_train::{Job, Kind, Opt, Recipe, Setting, train};
use residual_weights::load_tensors;
use std::collections::BTreeSet;
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
