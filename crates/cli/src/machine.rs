//! What the commands run on: the one place that reads the environment.

use crate::args::{Compute, Threads};
use crate::failure::Failure;
use residual::engine::Options;
use residual::{Isa, Pool};
use std::sync::Arc;

/// The variable that forces an instruction set: `portable`, `avx2` or `avx512`.
const ISA: &str = "RESIDUAL_ISA";

/// Instruction set and threads.
pub(crate) fn options(threads: Threads) -> Result<Options, Failure> {
    let isa = match std::env::var(ISA) {
        Ok(name) => Isa::from_name(&name).map_err(|error| Failure::usage(format!("{ISA}: {error}")))?,
        Err(std::env::VarError::NotPresent) => Isa::detect(),
        Err(error) => return Err(Failure::usage(format!("{ISA}: {error}"))),
    };
    let threads = threads.threads.map_or_else(cores, |threads| threads.get().into());
    Ok(Options::new(isa, Arc::new(Pool::new(threads))))
}

/// Instruction set, threads, and what else was asked for.
pub(crate) fn compute_options(compute: Compute) -> Result<Options, Failure> {
    Ok(Options { low_memory: compute.low_memory, ..options(compute.threads)? })
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
