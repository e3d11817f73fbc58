//! Flags of other programs: spellings with the same meaning are translated before clap parses them; for the others the error
//! explains what to use instead.

use super::Arguments;
use crate::failure::Failure;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Command, CommandFactory};
use residual::files::nearest;
use residual::train::{Kind, SETTINGS, Setting};
use std::ffi::OsString;

/// Flags of `train` that stand for one of ours with a value.
const SAME: [(&str, &str); 2] = [("--no-aug", "--augment=none"), ("--freeze-backbone", "--freeze=backbone")];

/// Flags of other programs that do not exist here, and what to use instead.
const ANSWERS: &[(&[&str], &str)] = &[
    (&["amp", "amp-dtype", "amp-impl", "apex-amp", "native-amp", "fp16", "bf16", "half"], "training is f32 only"),
    (&["device", "gpu", "gpus", "cuda", "cpu"], "everything runs on the CPU; --threads sets the number of threads"),
    (
        &["local-rank", "distributed", "dist-backend", "world-size", "sync-bn", "dist-bn", "no-ddp-bb"],
        "a run is one process on one machine",
    ),
    (&["pretrained"], "name the weights: --weights torchvision:resnet18.v1 (see residual models list)"),
    (&["model-ema-force-cpu"], "everything runs on the CPU"),
    (&["ra-magnitude"], "write it behind the name: --aa ra-m9"),
    (&["augmix-severity"], "write timm's form: --aa augmix-m3"),
    (&["aug-splits"], "every version of an image is augmented"),
    (&["random-erase", "erasing"], "write --reprob P --remode const"),
    (
        &["val-crop-size", "val-resize-size"],
        "write --img-size and --crop-pct, and --train-img-sizes for another size in training",
    ),
    (&["drop-block"], "use --drop-path or --drop"),
    (&["gp", "bn-momentum", "bn-eps", "bn-tf"], "describe the network in a TOML file: --model FILE.toml"),
    (&["early-stopping"], "write --patience N: the epochs without a better --eval-metric after which a run ends"),
    (&["lr-warmup-decay", "lr-warmup-method"], "a warm-up rises linearly, from --warmup-lr"),
    (&["lrf"], "use --min-lr, which is a learning rate, not a factor"),
    (
        &["norm-weight-decay", "bias-weight-decay", "filter-bias-and-bn"],
        "--no-decay-norm-bias keeps weight decay from biases and norms",
    ),
    (&["jsd-loss"], "there are cross-entropy, --bce-loss and --focal-gamma"),
    (&["bce-pos-weight", "class-weight"], "--class-weights balanced weighs classes by their numbers of images"),
    (&["mixup-mode"], "MixUp and CutMix mix whole batches"),
    (&["deterministic"], "every run is deterministic: results are bit-identical for any number of threads"),
    (&["channels-last", "torchcompile", "torchscript", "compile"], "networks are always compiled"),
    (&["experiment", "name", "project", "exist-ok"], "runs are numbered in the folder that --output names"),
    (&["start-epoch"], "--resume RUN resumes where the run was interrupted"),
    (&["save-images"], "images are not saved"),
    (&["train-split"], "see --val-split, and docs/datasets.md for the splits of a folder"),
    (&["plots", "log-file", "log-wandb"], "metrics.csv and events.jsonl in the run folder hold the course of a run"),
];

/// Flags that do not exist in commands other than `train`.
const ELSEWHERE: &[(&[&str], &str)] = &[
    (&["checkpoint", "ckpt"], "write --weights"),
    (&["topk", "top-k"], "write --top"),
    (&["amp", "amp-dtype", "fp16", "half", "device", "gpu", "cuda"], "everything runs in f32 on the CPU"),
];

/// `arguments`, those of `train` in our spelling: lists of numbers that were typed with spaces have commas.
pub(crate) fn translate(arguments: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut rest = arguments.into_iter().peekable();
    let mut translated: Vec<OsString> = rest.by_ref().take(2).collect();
    if translated.get(1).is_none_or(|command| command != "train") {
        translated.extend(rest);
        return translated;
    }
    while let Some(argument) = rest.next() {
        let Some(flag) = argument.to_str().filter(|text| text.starts_with("--") && *text != "--") else {
            let is_end = argument == "--";
            translated.push(argument);
            if is_end {
                break;
            }
            continue;
        };
        if let Some((_, ours)) = SAME.iter().find(|(theirs, _)| *theirs == flag) {
            translated.push(ours.into());
            continue;
        }
        let is_image_size = flag == "--input-size";
        if !is_image_size && !takes_numbers(&flag[2..]) {
            translated.push(argument);
            continue;
        }
        let mut numbers: Vec<String> = Vec::new();
        while let Some(text) = rest.peek().and_then(|next| next.to_str()).filter(|text| is_numbers(text)) {
            numbers.push(text.to_owned());
            rest.next();
        }
        match &numbers[..] {
            // timm's channels, height and width.
            [channels, height, width] if is_image_size && height == width => {
                translated.extend([format!("--in-chans={channels}").into(), format!("--img-size={height}").into()]);
            }
            [] => translated.push(argument),
            numbers => translated.push(format!("{flag}={}", numbers.join(",")).into()),
        }
    }
    translated.extend(rest);
    translated
}

/// Whether the flag of this name, without dashes, is a setting that is a list of numbers.
fn takes_numbers(flag: &str) -> bool {
    let name = flag.replace('-', "_");
    let is_it = |setting: &&Setting| setting.name == name || setting.aliases.contains(&name.as_str());
    let kind = SETTINGS.iter().find(is_it).map(|setting| setting.kind);
    matches!(kind, Some(Kind::Pair | Kind::Numbers | Kind::Wholes))
}

fn is_numbers(text: &str) -> bool {
    text.split(',').all(|number| number.is_empty() || number.parse::<f64>().is_ok()) && text != ","
}

/// The error for arguments that clap rejects: for a flag that does not exist, one line with the flag to use instead, or the
/// most similar one.
pub(crate) fn explain(error: clap::Error, arguments: &[OsString]) -> Result<Failure, clap::Error> {
    let Some(ContextValue::String(flag)) = error.get(ContextKind::InvalidArg) else { return Err(error) };
    let Some(name) = flag.strip_prefix("--").filter(|_| error.kind() == ErrorKind::UnknownArgument) else {
        return Err(error);
    };
    let name = name.split('=').next().unwrap_or(name);
    let command = arguments.get(1).and_then(|command| command.to_str()).unwrap_or_default();
    let answers = if command == "train" { ANSWERS } else { ELSEWHERE };
    if let Some((_, answer)) = answers.iter().find(|(names, _)| names.contains(&name)) {
        return Ok(Failure::usage(format!("--{name}: {answer}")));
    }
    let application = Arguments::command();
    let hint = application.find_subcommand(command).and_then(|command| similar(command, name));
    let hint = hint.map_or_else(String::new, |flag| format!(" (did you mean \"--{flag}\"?)"));
    Ok(Failure::usage(format!("expected a flag that `residual {command} --help` lists, got \"--{name}\"{hint}")))
}

/// The flag of `command` whose name, or other name, is most similar to `name`, if one is similar at all.
fn similar(command: &Command, name: &str) -> Option<String> {
    let flags = command.get_arguments().filter(|argument| !argument.is_hide_set());
    let spellings = flags.flat_map(|argument| {
        let aliases = argument.get_all_aliases().unwrap_or_default();
        argument
            .get_long()
            .into_iter()
            .flat_map(move |flag| aliases.clone().into_iter().chain([flag]).map(move |each| (each, flag)))
    });
    let spellings: Vec<(&str, &str)> = spellings.collect();
    let nearest = nearest(name, spellings.iter().map(|(spelling, _)| *spelling))?;
    spellings.into_iter().find(|(spelling, _)| *spelling == nearest).map(|(_, flag)| flag.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Such an answer would never be given.
    #[test]
    fn no_flag_that_exists_has_an_answer() {
        for setting in SETTINGS {
            for name in setting.aliases.iter().chain([&setting.name]) {
                let flag = name.replace('_', "-");
                let is_answered = ANSWERS.iter().any(|(flags, _)| flags.contains(&flag.as_str()));
                assert!(!is_answered, "--{flag}");
            }
        }
    }
}
