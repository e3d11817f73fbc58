//! `residual explain`: what a network looks at.

mod class;
mod features;
mod flow;
mod images;
mod layers;
mod maps;
mod output;
mod predictions;

use crate::args::{Explain, Subject};
use crate::failure::Failure;
use crate::inputs::{Images, listed};
use crate::output::complain;
use crate::signals::Stop;
use crate::tuning::tune;
use crate::{Done, machine, weights};
use images::Subjects;
use residual::engine::{Mode, Options};
use residual::infer::{Head, ModelRequest};
use residual::model::{Model, dequantize};

/// Images of a dataset that are shown, if no number was typed.
const SHOWN: usize = 16;
/// Images of a batch whose gradients are computed, if no number was typed.
const BATCH: usize = 64;
/// Images of a dataset that are only computed with, if no number was typed.
const COMPUTED: usize = 1000;

pub(crate) fn run(arguments: &Explain, stop: &Stop) -> Result<Done, Failure> {
    let subject = arguments.subject();
    check(arguments, subject)?;
    output::check(arguments, subject)?;
    let mut options = machine::compute_options(arguments.compute)?;
    let usual = match subject {
        Subject::Maps | Subject::FeatureMaps | Subject::Predictions | Subject::Filters => SHOWN,
        Subject::Gradients => BATCH,
        Subject::Neighbours if arguments.gallery.is_some() => SHOWN,
        Subject::Neighbours | Subject::Patches | Subject::Embedding(_) | Subject::Activations => COMPUTED,
    };
    // For images that are files the flags of a dataset are the gallery's.
    let images = match (&arguments.gallery, &arguments.images.data) {
        (Some(_), None) => None,
        _ => Images::open(&arguments.images, Some(usual))?,
    };
    let has_inputs = images.is_none() && !arguments.inputs.is_empty();
    let typed = if has_inputs { Some(listed(&arguments.inputs)?) } else { None };
    weights::fetch(&arguments.weights.weights, arguments.weights.download)?;
    let head = match subject {
        Subject::Maps | Subject::Predictions | Subject::Gradients => Head::default(),
        _ => Head::Optional,
    };
    let request = ModelRequest { head, ..weights::request(&arguments.weights)? };
    let format = images.as_ref().map(|images| images.dataset.format());
    let model = weights::resolve(&arguments.weights.weights, request.open()?, format)?;
    let mut model = arguments.image.apply(model)?;
    if model.graph.is_quantized() {
        // Bytes have no gradients.
        complain("note: explaining the network in f32 with the quantized weights, without the rounding of values");
        model = dequantize(&model);
    }
    if subject == Subject::Filters {
        return layers::filters(&Context { arguments, model: &model, options: &options, stop });
    }
    let subjects = Subjects::new(images, typed, &model)?;
    if arguments.compute.autotune {
        let (mode, batch) = match subject {
            Subject::Gradients => (Mode::Train, subjects.len()),
            Subject::Maps => (Mode::Eval, arguments.batch_size.get().into()),
            _ => (Mode::Infer, arguments.batch_size.get().into()),
        };
        options = tune(options, &model, &[(mode, batch)], model.preprocessing.size)?;
    }
    let context = Context { arguments, model: &model, options: &options, stop };
    match subject {
        Subject::Maps => maps::run(&context, &subjects),
        Subject::FeatureMaps => layers::feature_maps(&context, &subjects),
        Subject::Patches => layers::patches(&context, &subjects),
        Subject::Predictions => predictions::run(&context, &subjects),
        Subject::Neighbours => features::neighbours(&context, &subjects),
        Subject::Embedding(kind) => features::embedding(&context, &subjects, kind),
        Subject::Gradients => flow::gradients(&context, &subjects),
        Subject::Activations => flow::activations(&context, &subjects),
        Subject::Filters => unreachable!("returned above"),
    }
}

/// What every subject needs.
struct Context<'a> {
    arguments: &'a Explain,
    model: &'a Model,
    options: &'a Options,
    stop: &'a Stop,
}

impl Context<'_> {
    fn batch(&self) -> usize {
        self.arguments.batch_size.get().into()
    }
}

/// Refuses flags that say nothing about the subject.
fn check(arguments: &Explain, subject: Subject) -> Result<(), Failure> {
    use crate::args::Embedding;
    use residual::explain::Method;
    let has = |method: Method| arguments.method.contains(&method);
    let windows = arguments.window.is_some() || arguments.stride.is_some();
    let window = if arguments.window.is_some() { "--window" } else { "--stride" };
    let noise = if arguments.samples.is_some() { "--samples" } else { "--noise" };
    let noisy = arguments.samples.is_some() || arguments.noise.is_some();
    let takes_channels = matches!(subject, Subject::FeatureMaps | Subject::Patches);
    let takes_top = matches!(subject, Subject::Neighbours | Subject::Patches);
    let is_tsne = subject == Subject::Embedding(Embedding::Tsne);
    let takes_layer = !matches!(subject, Subject::Predictions | Subject::Gradients | Subject::Activations);
    let rules = [
        (arguments.steps.is_some(), has(Method::IntegratedGradients), "--method integrated-gradients", "--steps"),
        (noisy, has(Method::SmoothGrad), "--method smooth-grad", noise),
        (windows, has(Method::Occlusion), "--method occlusion", window),
        (!arguments.channels.is_empty(), takes_channels, "--feature-maps or --patches", "--channels"),
        (arguments.top.is_some(), takes_top, "--patches or --neighbours", "--top"),
        (arguments.gallery.is_some(), subject == Subject::Neighbours, "--neighbours", "--gallery"),
        (arguments.perplexity.is_some(), is_tsne, "--embedding tsne", "--perplexity"),
        (arguments.lr.is_some(), subject == Subject::Gradients, "--gradients", "--lr"),
    ];
    if let Some((.., needed, flag)) = rules.into_iter().find(|(given, holds, ..)| *given && !holds) {
        return Err(Failure::usage(format!("{needed} is required for {flag}")));
    }
    if !arguments.layer.is_empty() && !takes_layer {
        return Err(Failure::usage("layer: expected none, as all layers are shown"));
    }
    if subject == Subject::Filters && (!arguments.inputs.is_empty() || arguments.images.data.is_some()) {
        return Err(Failure::usage("inputs: expected no images for --filters"));
    }
    Ok(())
}
