//! `residual compress`.

use super::changed::{Images, fine_tuning, show_pruning};
use super::judged::Found;
use super::train::named_recipe;
use crate::args::{Compress, Judged, Split};
use crate::failure::Failure;
use crate::output::{bytes, count, facts, grouped, path_text, print, print_json, quoted_path, table};
use crate::progress::Progress;
use crate::signals::Stop;
use crate::tuning::measurements;
use crate::{Done, machine, weights};
use residual::compress::{
    Budget, Compressed, Event, FineTuning, ImageSet, Pipeline, Point, PruningTargets, Settings, Start, Student,
    TrainingImages, choose_images,
};
use residual::data::{Dataset, Split as Part};
use residual::engine::Options;
use residual::files::atomic_write;
use residual::infer::network;
use residual::model::{Model, ModelError};
use residual::report::{Candidate, TradeOff};
use residual::train::Layer;
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;

pub(crate) fn run(arguments: &Compress, stop: &Stop) -> Result<Done, Failure> {
    stop.handle_warnings()?;
    let options = machine::options(arguments.threads)?;
    let opened = weights::open(&arguments.weights)?;
    let recipe = opened.recipe().map(str::to_owned);
    let found = found(arguments, recipe.as_deref())?;
    let images = Images::find(&found, arguments.calib.get().into(), arguments.seed, arguments.limit)?;
    found.check_val_split(images.part)?;
    let model = weights::resolve(&arguments.weights.weights, opened, Some(images.judged.format()))?;
    let model = arguments.image.apply(model)?;
    if model.graph.is_quantized() {
        return Err(ModelError::Quantized.into());
    }
    if let Some(flag) = arguments.settings.typed_of(&["teacher", "keep_zeros"]) {
        return Err(Failure::usage(format!(
            "{flag}: expected none, as the original teaches the others and pruned channels are gone"
        )));
    }
    let training = |recipe: &str| {
        let typed = (recipe, &arguments.settings);
        fine_tuning(typed, &found, images.part, arguments.reading, arguments.seed, &model, "")
    };
    let finetune = training(&arguments.finetune)?;
    let student = match (&arguments.student, &arguments.distill) {
        (Some(name), Some(recipe)) => {
            // Typed settings are those of fine-tuning.
            let training = FineTuning { recipe: named_recipe(recipe)?, flags: Layer::flags([])?, ..finetune.clone() };
            network(name)?;
            Some(Student { network: name.clone(), training })
        }
        _ => None,
    };
    let pipeline = Pipeline {
        original: &model,
        recipe: recipe.as_deref(),
        budget: arguments.budget,
        criterion: arguments.criterion,
        settings: settings(arguments, &options, &images, &finetune, student.as_ref())?,
        calibration: TrainingImages {
            dataset: Arc::clone(&images.calibration),
            workers: arguments.reading.workers.into(),
            skip_bad_images: arguments.reading.skip_bad_images,
        },
        judged: Arc::clone(&images.judged),
        test: test_images(arguments, &found)?,
        finetune,
        student,
        measurements: measurements(&options, "latency"),
        repeats: arguments.repeats.map(|repeats| repeats.get().into()),
        options: &options,
    };
    let mut shown = Shown(Progress::new());
    facts(&[
        ("network", format!("{} of {}", model.graph.name, path_text(&arguments.weights.weights))),
        ("budget", arguments.budget.to_string()),
        ("training", format!("{} of {}", images.calibration.len(), images.calibrated)),
        ("chosen by", images.judged.describe_set()),
        ("compute", format!("{}, {}", count(options.pool.threads() as u64, "thread"), options.isa.name())),
    ])
    .lines()
    .for_each(|line| shown.0.line(line));
    let done = pipeline.run(&arguments.output, stop.listen(), &mut |event| shown.event(event));
    shown.0.finish();
    let Some(compressed) = done.map_err(|error| Failure::from(error).or_skip())? else {
        shown.0.line("interrupted; the same command goes on");
        return Ok(Done::Interrupted);
    };
    let page = arguments.output.join("report.html");
    let text = page_of(arguments, &compressed, &model, &pipeline).html(&[]);
    atomic_write(&page, |file| file.write_all(text.as_bytes()))?;
    if arguments.format.json {
        print_json(&document(arguments, &compressed, &page))?;
    } else {
        report(arguments, &compressed, &page)?;
    }
    match compressed.choice {
        Ok(_) => Ok(Done::Finished),
        Err(nearest) => {
            let nearest = describe(&compressed.points[nearest], &compressed.points[0], &arguments.budget);
            let budget = arguments.budget;
            Err(Failure::new(format!("budget: expected a network within {budget}, got none; the nearest is {nearest}")))
        }
    }
}

/// The data, with the images to choose by: never those of the test.
fn found(arguments: &Compress, recipe: Option<&str>) -> Result<Found, Failure> {
    let judged = Judged {
        data: arguments.data.clone(),
        data_dir: arguments.data_dir.clone(),
        split: Some(Split::Val),
        val_split: arguments.val_split,
    };
    let found = Found::new(&judged, &arguments.weights.weights, recipe)?;
    if found.held_out.is_none() && !found.source.splits().contains(&Part::Val) {
        let message = "--val-split: expected the share of the training images to choose by, as the data have no validation images \
                       and the run held none out, got none";
        return Err(Failure::usage(message));
    }
    Ok(found)
}

/// The images of the judgement at the end, where the data have some for it.
fn test_images(arguments: &Compress, found: &Found) -> Result<Option<Arc<dyn Dataset>>, Failure> {
    if !found.source.splits().contains(&Part::Test) {
        return Ok(None);
    }
    let images = found.source.split(Part::Test)?;
    Ok(Some(match arguments.limit {
        Some(limit) if limit < images.len() => {
            let [some, _] = choose_images(&images, limit, arguments.seed);
            Arc::new(some)
        }
        _ => images,
    }))
}

/// What decides the networks. Settings that do not go together are an error before any work.
fn settings(
    arguments: &Compress,
    options: &Options,
    images: &Images,
    finetune: &FineTuning,
    student: Option<&Student>,
) -> Result<Settings, Failure> {
    let sizes = match (&arguments.speedups[..], &arguments.macs[..]) {
        ([], []) => PruningTargets::Usual,
        ([], shares) => PruningTargets::Macs(shares.to_vec()),
        (factors, _) => PruningTargets::Speedups(factors.to_vec()),
    };
    sizes.check().map_err(|error| Failure::usage(error.to_string()))?;
    let recipe = |training: &FineTuning, start| {
        let resolved = training.resolve(&Pipeline::given(Path::new(""), start)?)?;
        Ok::<_, Failure>(resolved.recipe.to_toml())
    };
    let student_network = student.map(|student| Ok::<_, Failure>(format!("{:?}", network(&student.network)?)));
    let threads = count(options.pool.threads() as u64, "thread");
    Ok(Settings {
        compute: format!("{threads}, {}, {}", options.isa.name(), machine::processor()),
        judged: ImageSet::of(&*images.judged),
        calibration: ImageSet::of(&*images.calibration),
        seed: arguments.seed,
        criterion: arguments.criterion.to_string(),
        sizes,
        image_sizes: arguments.img_sizes.iter().map(|side| side.get().into()).collect(),
        finetune: recipe(finetune, Start::Weights(Path::new("pruned")))?,
        student: student.map(|student| recipe(&student.training, Start::Network(&student.network))).transpose()?,
        student_network: student_network.transpose()?,
    })
}

/// Shows the events of a pipeline.
struct Shown(Progress);

impl Shown {
    fn event(&mut self, event: &Event<'_>) {
        match event {
            Event::Begins(name) => {
                // Every training has a table of its own.
                self.0.finish();
                self.0 = Progress::new();
                self.0.line(&format!("{name}:"));
            }
            Event::Images(what, done, total) => self.0.images(what, *done as u64, *total as u64),
            Event::Pruning(event) => show_pruning(&self.0, event),
            Event::Training(event) => self.0.show(event),
            Event::Finished { point, original } => {
                self.0.line(&describe(point, original, &Budget::default()));
            }
            Event::Note(text) => self.0.line(text),
        }
    }
}

/// A network in a line.
fn describe(point: &Point, original: &Point, budget: &Budget) -> String {
    let batch = budget.batch();
    format!(
        "{}: Acc@1 {:.2} ({:+.2} points), {:.3} ms at batch size {batch}, {}, {} multiply-accumulates",
        point.name,
        point.top1(),
        point.top1() - original.top1(),
        point.latency_ms(batch, original),
        bytes(point.outcome.bytes),
        grouped(point.outcome.macs)
    )
}

/// The page of all networks.
fn page_of(arguments: &Compress, compressed: &Compressed, model: &Model, pipeline: &Pipeline<'_>) -> TradeOff {
    let Budget { latency, drop, bytes, macs } = arguments.budget;
    let original = &compressed.points[0];
    let candidate = |point: &Point| Candidate {
        name: point.name.clone(),
        file: Some((point.outcome.file.clone(), point.outcome.bytes)),
        top1: point.top1(),
        interval: point.outcome.interval,
        latency_ms: point.outcome.latency.keys().map(|&batch| (batch, point.latency_ms(batch, original))).collect(),
        parameters: point.outcome.parameters as u64,
        macs: point.outcome.macs,
    };
    let mut notes = vec![
        format!("Judged on {}, {}.", pipeline.judged.describe_set(), count(original.outcome.images, "image")),
        "The latency of a network is the original's, divided by the ratio of both measured in turns.".to_owned(),
        choice(arguments, compressed),
    ];
    notes.extend(compressed.tests.zip(pipeline.test.as_ref()).map(|([before, after], images)| {
        format!("On {}: Acc@1 {before:.2} % before, {after:.2} % after.", images.describe_set())
    }));
    notes.extend(compressed.skipped.iter().map(|(name, reason)| format!("Without {name}: {reason}.")));
    TradeOff {
        title: format!("Compression of {}", model.graph.name),
        notes,
        candidates: compressed.points.iter().map(candidate).collect(),
        original: Some(0),
        chosen: compressed.choice.ok(),
        latency_limit: latency.map(|latency| (latency.milliseconds, latency.batch)),
        accuracy_limit: drop.map(|drop| original.top1() - drop),
        macs_limit: macs.map(|macs| macs.count(original.outcome.macs as f64)),
        size_limit: bytes,
    }
}

/// The choice as a sentence.
fn choice(arguments: &Compress, compressed: &Compressed) -> String {
    let budget = arguments.budget;
    match compressed.choice {
        Ok(place) => format!("Chosen within {budget}: {}.", compressed.points[place].name),
        Err(place) => format!("No network is within {budget}; the nearest is {}.", compressed.points[place].name),
    }
}

fn document(arguments: &Compress, compressed: &Compressed, page: &Path) -> Value {
    let original = &compressed.points[0];
    let point = |point: &Point| {
        let batches = point.outcome.latency.keys();
        let latency: serde_json::Map<String, Value> =
            batches.map(|&batch| (batch.to_string(), json!(point.latency_ms(batch, original)))).collect();
        let mut value = json!(point.outcome);
        value["name"] = json!(point.name);
        value["file"] = json!(path_text(&arguments.output.join(&point.outcome.file)));
        value["image_size"] = json!(point.image_size);
        value["drop"] = json!(point.drop());
        value["latency_ms"] = json!(latency);
        value
    };
    let name = |place: Option<usize>| place.map(|place| compressed.points[place].name.clone());
    json!({
        "budget": arguments.budget.to_string(),
        "points": compressed.points.iter().map(point).collect::<Vec<_>>(),
        "chosen": name(compressed.choice.ok()),
        "nearest": name(compressed.choice.err()),
        "weights": compressed.choice.ok().map(|_| path_text(&arguments.output.join("chosen.safetensors"))),
        "test_top1_before": compressed.tests.map(|[before, _]| before),
        "test_top1": compressed.tests.map(|[_, after]| after),
        "skipped": compressed.skipped,
        "report": path_text(page),
    })
}

fn report(arguments: &Compress, compressed: &Compressed, page: &Path) -> Result<(), Failure> {
    let original = &compressed.points[0];
    let batches: Vec<usize> = original.outcome.latency.keys().copied().collect();
    let mut head: Vec<String> = ["network", "Acc@1", "change"].map(str::to_owned).to_vec();
    head.extend(batches.iter().flat_map(|batch| [format!("ms@{batch}"), "faster".to_owned()]));
    head.extend(["MACs", "size"].map(str::to_owned));
    let mut rows = vec![head];
    for point in &compressed.points {
        let change = format!("{:+.2}", point.top1() - original.top1());
        let interval = point.outcome.interval.filter(|_| point != original);
        let interval = interval.map_or(String::new(), |[low, high]| format!(" ({low:+.2} to {high:+.2})"));
        let mut row = vec![point.name.clone(), format!("{:.2}", point.top1()), change + &interval];
        for &batch in &batches {
            let ms = point.latency_ms(batch, original);
            row.push(format!("{ms:.3}"));
            row.push(format!("{:.2}x", original.latency_ms(batch, original) / ms));
        }
        row.extend([grouped(point.outcome.macs), bytes(point.outcome.bytes)]);
        rows.push(row);
    }
    print(&format!("{}\n", table(&rows)))?;
    let mut rows = vec![("choice", choice(arguments, compressed))];
    if let Some([before, after]) = compressed.tests {
        rows.push(("test", format!("Acc@1 {before:.2} -> {after:.2}")));
    }
    rows.extend(compressed.skipped.iter().map(|(name, reason)| ("skipped", format!("{name}: {reason}"))));
    let chosen = arguments.output.join("chosen.safetensors");
    if compressed.choice.is_ok() {
        rows.push(("weights", path_text(&chosen)));
    }
    rows.push(("report", path_text(page)));
    print(&facts(&rows))?;
    match compressed.choice {
        Ok(_) => print(&format!("\nNext:\n  residual bench {}\n", quoted_path(&chosen))),
        Err(_) => Ok(()),
    }
}
