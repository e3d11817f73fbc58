//! `residual average`.

use crate::Done;
use crate::args::Average;
use crate::failure::Failure;
use crate::output::{facts, path_text, print, print_json};
use crate::weights::{self, Named};
use residual::model::{Model, average};
use residual::weights::save;

pub(crate) fn run(arguments: &Average) -> Result<Done, Failure> {
    let open = |path: &std::path::PathBuf| match weights::named(&path.to_string_lossy(), None, arguments.download)? {
        Named::Model(model) => Ok(model),
        Named::Network(_) => Err(Failure::usage(format!("expected weights, got the network {}", path.display()))),
    };
    let models = arguments.weights.iter().map(open).collect::<Result<Vec<Model>, Failure>>()?;
    let place = |error: residual::model::ModelError| Failure::at("weights of different networks", &error);
    let averaged = average(&models).map_err(place)?;
    save(&arguments.output, &averaged, None)?;
    let (file, count) = (path_text(&arguments.output), models.len());
    if arguments.format.json {
        print_json(&serde_json::json!({ "file": file, "models": count, "model": averaged.graph.name }))?;
    } else {
        print(&facts(&[("file", file), ("network", averaged.graph.name.clone()), ("models", count.to_string())]))?;
    }
    Ok(Done::Finished)
}
