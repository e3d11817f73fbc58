//! `--autotune`: algorithms measured on this machine, cached between commands.

use crate::failure::Failure;
use crate::machine;
use crate::output::complain;
use residual::engine::{Engine, Mode, Options, Tuning};
use residual::infer::{read_tuning, write_tuning};
use residual::model::Model;
use std::path::PathBuf;
use std::sync::Arc;

/// `options` with the fastest algorithms for some plans of a model, each a mode and a batch size.
pub(crate) fn tune(
    options: Options,
    model: &Model,
    plans: &[(Mode, usize)],
    size: [usize; 2],
) -> Result<Options, Failure> {
    let path = measurements(&options, "autotune");
    let mut tuning = Tuning::default();
    if let Some(path) = path.as_deref().filter(|path| path.exists()) {
        match read_tuning(path) {
            Ok(known) => tuning = known,
            Err(error) => complain(&format!("warning: {}; measuring again", Failure::from(error))),
        }
    }
    let known = tuning.iter().count();
    for &(mode, batch) in plans {
        Engine::tune(model, mode, batch, size, &options, &mut tuning)?;
    }
    if let (Some(path), true) = (path, tuning.iter().count() > known) {
        let folder = path.parent().map_or(Ok(()), std::fs::create_dir_all);
        let written = folder.map_err(|error| Failure::at(path.display(), &error));
        if let Err(failure) = written.and_then(|()| Ok(write_tuning(&path, &tuning)?)) {
            complain(&format!("warning: {failure}; the measurements are not cached"));
        }
    }
    Ok(Options { tuning: Some(Arc::new(tuning)), ..options })
}

/// The file of a kind of measurements on this processor, with this instruction set and number of threads; `None` without a cache
/// folder.
pub(crate) fn measurements(options: &Options, kind: &str) -> Option<PathBuf> {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    let processor: String = machine::processor().chars().map(plain).take(80).collect();
    let name = format!("{processor}-{}-{}.json", options.isa.name(), options.pool.threads());
    machine::cache_folder().map(|folder| folder.join(kind).join(name))
}
