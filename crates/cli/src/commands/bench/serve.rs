//! `residual bench --serve`: measurements for a program that interleaves those of several programs (`bench/compare.py`).

use super::subject::Subject;
use crate::failure::Failure;
use crate::output::print;
use residual::engine::Options;
use std::io::BufRead;
use std::path::Path;

/// Answers lines `run N` with the times of N passes and `logits FILE.npy` with the outputs for those images, after
/// `warm_up` passes, until `quit` or the end of the input.
pub(super) fn serve(subject: &mut Subject, warm_up: usize, options: &Options) -> Result<(), Failure> {
    for _ in 0..warm_up {
        subject.pass()?;
    }
    print(&format!(
        "{{\"ready\": {{\"isa\": \"{}\", \"threads\": {}}}}}\n",
        options.isa.name(),
        options.pool.threads()
    ))?;
    for line in std::io::stdin().lock().lines() {
        let line = line.map_err(|error| Failure::at("stdin", &error))?;
        if line == "quit" {
            break;
        }
        if let Some(path) = line.strip_prefix("logits ") {
            let logits = subject.logits(Path::new(path))?;
            print(&format!("{}\n", serde_json::json!({ "logits": logits })))?;
            continue;
        }
        let count = line.strip_prefix("run ").and_then(|count| count.parse::<u32>().ok());
        let Some(count) = count else {
            return Err(Failure::usage(format!(
                "stdin: expected \"run N\", \"logits FILE\" or \"quit\", got \"{line}\""
            )));
        };
        let times = (0..count).map(|_| Ok(1e3 * subject.pass()?)).collect::<Result<Vec<f64>, Failure>>()?;
        print(&format!("{{\"ms\": {times:?}}}\n"))?;
    }
    Ok(())
}
