//! A deep network on few images.

use crate::finding::Measure;
use crate::training::training_errors;
use crate::{Claim, Context, Finding, Form, ReproduceError};
use residual_report::{Axis, Chart, Paint, Series};

pub(super) const CLAIM: Claim = Claim {
    name: "overfitting",
    title: "A deep network overfits few images; augmentation and weight decay reduce that",
    source: "lecture notes on ResNet, limits",
    runs: "trains resnet56 on 1,000 images of CIFAR-10 for 60 epochs, with and without augmentation and weight decay 5e-4",
    expected: "without them, a smaller training error and a larger test error than with them",
    forms: &[(Form::Short, 20.0)],
    run,
};

fn run(context: &mut Context<'_>) -> Result<Finding, ReproduceError> {
    if let Some(missing) = context.missing_cifar("cifar10") {
        return Ok(missing);
    }
    let mut chart =
        Chart::new("Error on 1,000 training images and on held-out ones", Axis::new("epoch").whole(), Axis::new("%"));
    let (mut measures, mut errors) = (Vec::new(), Vec::new());
    for (index, (name, extra)) in [
        ("without", "augment = \"none\"\nweight_decay = 0.0\n"),
        ("with", "augment = \"crop\"\nhflip = 0.5\nweight_decay = 5e-4\n"),
    ]
    .into_iter()
    .enumerate()
    {
        let settings = format!(
            "model = \"resnet56\"\n{}val_split = 0.98\nepochs = 60\nbatch_size = 50\nlr = 0.05\nmomentum = 0.9\nnesterov = true\n\
             sched = \"cosine\"\nval_interval = 15\n{extra}",
            context.cifar("cifar10")
        );
        let run = context.train(&format!("overfitting-{name}"), None, &settings)?;
        let training = training_errors(&run);
        let test: Vec<(f64, f64)> =
            run.rows.iter().filter_map(|row| Some((row.epoch as f64, 100.0 - row.top1?))).collect();
        let last = [&training, &test].map(|points| points.last().map_or(f64::NAN, |(_, error)| *error));
        measures.push(Measure::seen(
            format!("{name} augmentation and weight decay"),
            format!("training error {:.2} %, test error {:.2} %", last[0], last[1]),
        ));
        errors.push(last);
        chart = chart.with(Series::line(format!("{name}: training"), Paint::Series(index), training));
        chart = chart.with(Series::line(format!("{name}: test"), Paint::Series(index), test).dashed());
    }
    let [without, with] = errors[..] else { unreachable!("two trainings") };
    for (what, expected, a, b) in [
        ("training error, without against with", "smaller", without[0], with[0]),
        ("test error, with against without", "smaller", with[1], without[1]),
    ] {
        measures.push(Measure::judged(what, expected, format!("{a:.2} % against {b:.2} %"), a < b));
    }
    Ok(Finding::of(measures).with_picture("errors", chart.draw()?))
}
