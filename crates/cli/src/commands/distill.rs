//! `residual distill`: a training run that needs a teacher.

use super::train;
use crate::Done;
use crate::args::Distill;
use crate::failure::Failure;
use crate::signals::Stop;

pub(crate) fn run(arguments: &Distill, stop: &Stop) -> Result<Done, Failure> {
    train::run_checked(&arguments.train, stop, |recipe| match recipe.teacher {
        Some(_) => Ok(()),
        None => Err(Failure::usage("--teacher is required: the weights of the network to learn from")),
    })
}
