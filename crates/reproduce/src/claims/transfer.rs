//! Transfer learning: from scratch, head only, fine-tuned.

use crate::finding::Measure;
use crate::{Claim, Context, Finding, Form, ReproduceError};
use residual_report::{Axis, Chart, Paint, Series};

pub(super) const CLAIM: Claim = Claim {
    name: "transfer",
    title: "On little data, pretrained weights reach a better accuracy than new ones",
    source: "lecture notes on ResNet, transfer learning",
    runs: "trains resnet20 on CIFAR-10 for ten epochs, then on 2,500 images of CIFAR-100 for 20: from scratch, the head only, and all weights",
    expected: "fine-tuned above from scratch",
    forms: &[(Form::Short, 25.0)],
    run,
};

fn run(context: &mut Context<'_>) -> Result<Finding, ReproduceError> {
    for data in ["cifar10", "cifar100"] {
        if let Some(missing) = context.missing_cifar(data) {
            return Ok(missing);
        }
    }
    let source = context.train("transfer-source", Some("cifar-quick"), &context.cifar("cifar10"))?;
    let weights = source.folder.last();
    let pretrained = format!("weights = {:?}\n", weights.display().to_string());
    let mut chart = Chart::new("Accuracy on held-out images of CIFAR-100", Axis::new("epoch").whole(), Axis::new("%"));
    let (mut measures, mut reached) = (Vec::new(), Vec::new());
    for (index, (name, extra)) in [
        ("from-scratch", "lr = 0.1\n".to_owned()),
        ("head-only", format!("{pretrained}freeze = \"backbone\"\nlr = 0.1\n")),
        ("fine-tuned", format!("{pretrained}lr = 0.03\n")),
    ]
    .into_iter()
    .enumerate()
    {
        let settings = format!(
            "model = \"resnet20\"\n{}val_split = 0.95\nepochs = 20\nbatch_size = 64\nmomentum = 0.9\nnesterov = true\n\
             weight_decay = 5e-4\nsched = \"cosine\"\naugment = \"crop\"\nhflip = 0.5\nval_interval = 5\n{extra}",
            context.cifar("cifar100")
        );
        let run = context.train(&format!("transfer-{name}"), None, &settings)?;
        let points: Vec<(f64, f64)> = run.rows.iter().filter_map(|row| Some((row.epoch as f64, row.top1?))).collect();
        let last = points.last().map_or(f64::NAN, |(_, top1)| *top1);
        measures.push(Measure::seen(format!("{name}: top-1"), format!("{last:.2} %")));
        reached.push(last);
        chart = chart.with(Series::line(name, Paint::Series(index), points));
    }
    let [scratch, _, tuned] = reached[..] else { unreachable!("three trainings") };
    let got = format!("{tuned:.2} % against {scratch:.2} %");
    measures.push(Measure::judged("fine-tuned against from scratch", "above", got, tuned > scratch));
    Ok(Finding::of(measures).with_picture("accuracy", chart.draw()?))
}
