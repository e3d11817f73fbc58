//! The `residual` command: arguments in, results on stdout, progress on stderr, an exit code.
#![forbid(unsafe_code)]

mod args;
mod commands;
mod drawing;
mod failure;
mod inputs;
mod machine;
mod noise;
mod output;
mod progress;
mod signals;
mod tuning;
mod weights;

use args::{Arguments, Command, Data, Models, Recipes, Runs};
use clap::{CommandFactory, Parser};
use failure::Failure;
use signals::{INTERRUPTED, Stop};
use std::path::Path;
use std::process::ExitCode;

/// How a command ended that did not fail.
enum Done {
    /// With its result.
    Finished,
    /// By a signal, after saving what it had done.
    Interrupted,
}

fn main() -> ExitCode {
    let (typed, ignored) = args::translate(std::env::args_os());
    let parsed = Arguments::try_parse_from(&typed).or_else(|error| match args::explain(error, &typed) {
        Ok(failure) => Err(failure),
        // Help and version are answers, and go to stdout.
        Err(error) => error.exit(),
    });
    let run = |arguments: Arguments| {
        output::configure(arguments.global);
        machine::configure_decoding()?;
        ignored.iter().for_each(|note| output::complain(note));
        run(arguments.command)
    };
    match parsed.and_then(run) {
        Ok(Done::Finished) => ExitCode::SUCCESS,
        Ok(Done::Interrupted) => ExitCode::from(INTERRUPTED),
        Err(failure) => {
            output::print_error(&failure.to_string());
            failure.exit_code()
        }
    }
}

/// Prints the completion script of a shell.
fn completions(shell: clap_complete::Shell) -> Result<Done, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "residual", &mut script);
    output::print(&String::from_utf8_lossy(&script))?;
    Ok(Done::Finished)
}

/// Writes the manual pages of every command to a folder.
fn man(folder: &Path) -> Result<Done, Failure> {
    std::fs::create_dir_all(folder).map_err(|error| Failure::at(folder.display(), &error))?;
    clap_mangen::generate_to(Arguments::command(), folder).map_err(|error| Failure::at(folder.display(), &error))?;
    Ok(Done::Finished)
}

fn run(command: Command) -> Result<Done, Failure> {
    let stop = Stop::new()?;
    match command {
        Command::Train(train) => commands::train::run(&train, &stop),
        Command::Eval(eval) => commands::eval::run(&eval, &stop),
        Command::Predict(predict) => commands::predict::run(&predict, &stop),
        Command::Features(features) => commands::features::run(&features, &stop),
        Command::Explain(explain) => commands::explain::run(&explain, &stop),
        Command::Inspect(inspect) => commands::inspect::run(&inspect),
        Command::Bench(bench) => commands::bench::run(&bench),
        Command::Distill(distill) => commands::distill::run(&distill, &stop),
        Command::Quantize(quantize) => commands::quantize::run(&quantize, &stop),
        Command::Prune(prune) => commands::prune::run(&prune, &stop),
        Command::Compress(compress) => commands::compress::run(&compress, &stop),
        Command::Search(search) => commands::search::run(&search, &stop),
        Command::Doctor(doctor) => commands::doctor::run(&doctor, &stop),
        Command::Tune(tune) => commands::tune::run(&tune, &stop),
        Command::Export(export) => commands::export::run(&export),
        Command::Average(average) => commands::average::run(&average),
        Command::Models { command: Models::List(list) } => commands::models::list(&list),
        Command::Data { command: Data::List(format) } => commands::data::list(format),
        Command::Data { command: Data::Fetch(fetch) } => commands::data::fetch(&fetch),
        Command::Data { command: Data::Convert(convert) } => commands::data::convert(&convert),
        Command::Data { command: Data::Export(export) } => commands::data::export(&export),
        Command::Recipes { command: Recipes::List(format) } => commands::recipes::list(format),
        Command::Recipes { command: Recipes::Show { name } } => commands::recipes::show(&name),
        Command::Recipes { command: Recipes::Verify(verify) } => commands::recipes::verify(&verify, &stop),
        Command::Runs { command: Runs::List(list) } => commands::runs::list(&list),
        Command::Runs { command: Runs::Compare(compare) } => commands::runs::compare(&compare),
        Command::Report(report) => commands::report::run(&report, &stop),
        Command::Reproduce(reproduce) => commands::reproduce::run(&reproduce, &stop),
        Command::Man { folder } => man(&folder),
        Command::Completions { shell } => completions(shell),
    }
}
