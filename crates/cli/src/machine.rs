//! Instruction set, threads, cache folder, colours and limits of images: the one place that reads environment variables, besides `hub` for weights.

use crate::args::{Compute, Threads};
use crate::failure::Failure;
use crate::output::{complain, count};
use residual::engine::Options;
use residual::preprocess::{Decoding, SixteenBit, use_instructions};
use residual::{Isa, Pool, PoolError};
use std::path::PathBuf;
use std::sync::Arc;

/// The variable that forces an instruction set: `portable`, `avx2` or `avx512`.
const ISA: &str = "RESIDUAL_ISA";

/// The variables that say what is accepted of images, and how 16-bit values become bytes.
const MAX_PIXELS: &str = "RESIDUAL_MAX_PIXELS";
const SIXTEEN_BIT: &str = "RESIDUAL_SIXTEEN_BIT";

/// Threads per core beyond which a note warns that they slow each other down.
const MANY: usize = 4;

/// Whether the user wants no colours (no-color.org).
pub(crate) fn refuses_colour() -> bool {
    std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
}

/// Sets how image files are decoded, once for the process.
pub(crate) fn configure_decoding() -> Result<(), Failure> {
    let text = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let mut decoding = Decoding::default();
    if let Some(value) = text(MAX_PIXELS) {
        let pixels = value.to_str().and_then(|text| text.parse().ok());
        decoding.max_pixels =
            pixels.filter(|pixels| (1..=Decoding::MOST_PIXELS).contains(pixels)).ok_or_else(|| {
                let got = value.to_string_lossy();
                Failure::usage(format!(
                    "{MAX_PIXELS}: expected a number of 1 to {}, got \"{got}\"",
                    Decoding::MOST_PIXELS
                ))
            })?;
    }
    if let Some(value) = text(SIXTEEN_BIT) {
        let known = SixteenBit::NAMES.iter().find(|(name, _)| value == *name);
        decoding.sixteen_bit = known.map(|(_, choice)| *choice).ok_or_else(|| {
            let names = SixteenBit::NAMES.map(|(name, _)| name).join(", ");
            Failure::usage(format!("{SIXTEEN_BIT}: expected {names}, got \"{}\"", value.to_string_lossy()))
        })?;
    }
    decoding.set_for_process();
    Ok(())
}

/// Instruction set and threads.
pub(crate) fn options(threads: Threads) -> Result<Options, Failure> {
    let isa = match std::env::var(ISA) {
        Ok(name) => Isa::from_name(&name).map_err(|error| Failure::usage(format!("{ISA}: {error}")))?,
        Err(std::env::VarError::NotPresent) => Isa::detect(),
        Err(error) => return Err(Failure::usage(format!("{ISA}: {error}"))),
    };
    use_instructions(isa);
    let cores = cores();
    let pool = match threads.threads {
        None => Pool::new(cores),
        Some(threads) => Pool::try_new(threads.get().into()).map_err(|error| match error {
            PoolError::Count(_) => Failure::usage(error.to_string()),
            PoolError::Refused { .. } => error.into(),
        })?,
    };
    match pool.threads() {
        started if started < cores && threads.threads.is_none() => {
            complain(&format!("note: the system started {started} of {cores} compute threads"));
        }
        started if started > MANY * cores => {
            let cores = count(cores as u64, "core");
            complain(&format!("note: --threads {started} on {cores} is usually slower than without --threads"));
        }
        _ => {}
    }
    Ok(Options::new(isa, Arc::new(pool)))
}

/// Instruction set, threads and memory use.
pub(crate) fn compute_options(compute: Compute) -> Result<Options, Failure> {
    Ok(Options { low_memory: compute.low_memory, ..options(compute.threads)? })
}

/// The folder for cached files: `$RESIDUAL_HOME`, or one of ours in the user's cache folder.
pub(crate) fn cache_folder() -> Option<PathBuf> {
    residual::hub::cache_folder(|name| std::env::var_os(name))
}

/// The processor's name, or its architecture where the system does not give one.
pub(crate) fn processor() -> String {
    let named = |text: String| {
        let line = text.lines().find(|line| line.starts_with("model name"))?;
        line.split_once(':').map(|(_, name)| name.trim().to_owned())
    };
    std::fs::read_to_string("/proc/cpuinfo").ok().and_then(named).unwrap_or_else(|| std::env::consts::ARCH.to_owned())
}

/// The most memory that this process had, in bytes; `None` where the system does not say.
pub(crate) fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes << 10)
}

/// Seconds of processor time of this process; `None` where the system does not say.
pub(crate) fn cpu_seconds() -> Option<f64> {
    // Fields 14 and 15, in hundredths of a second (proc_pid_stat(5)); the name before them may contain spaces.
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let [user, system] = [11, 12].map(|field| fields.get(field)?.parse::<f64>().ok());
    Some((user? + system?) / 100.0)
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
