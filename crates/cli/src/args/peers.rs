//! Flags of other programs: spellings with the same meaning are translated before clap parses them; for the others the error
//! explains what to use instead.

use super::Arguments;
use crate::failure::Failure;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Command, CommandFactory};
use residual::files::nearest;
use residual::train::{Kind, SETTINGS, Setting};
use std::ffi::{OsStr, OsString};

/// Flags of `train` that stand for one of ours with a value.
const SAME: [(&str, &str); 2] = [("--no-aug", "--augment=none"), ("--freeze-backbone", "--freeze=backbone")];

/// Flags of `train` in other programs that change nothing here: they are accepted, with a line that says what happens
/// instead. Those of the second list are followed by a value.
const ACCEPTED: &[(&[&str], &[&str], &str)] = &[
    (&["--half", "--fp16"], &["--amp-dtype", "--amp-impl"], "training is in f32, or with --amp in bf16"),
    (&["--channels-last"], &[], "every network runs channels last"),
    (&["--torchcompile", "--torchscript", "--compile"], &[], "every network is compiled"),
    (
        &["--pin-mem", "--no-prefetcher", "--use-multi-epochs-loader"],
        &[],
        "batches are loaded ahead by --workers threads",
    ),
    (&["--deterministic"], &[], "every run is deterministic, for any number of threads"),
    (&["--model-ema-force-cpu"], &["--device"], "everything runs on the CPU"),
    (&[], &["--worker-seeding"], "augmentation does not depend on workers"),
];

/// Flags of other programs that do not exist here, and what to use instead.
const ANSWERS: &[(&[&str], &str)] = &[
    (&["gpu", "gpus", "cuda", "cpu"], "everything runs on the CPU; --threads sets the number of threads"),
    (
        &["local-rank", "distributed", "dist-backend", "world-size", "sync-bn", "dist-bn", "no-ddp-bb"],
        "a run is one process on one machine",
    ),
    (&["precision", "mixed-precision", "dtype"], "write --amp: activations and their gradients are in bf16 then"),
    (&["ra-magnitude"], "write it behind the name: --aa ra-m9"),
    (&["augmix-severity"], "write timm's form: --aa augmix-m3"),
    (&["aug-splits"], "every version of an image is augmented"),
    (&["random-erase", "erasing"], "write --reprob P --remode const"),
    (&["val-resize-size"], "write --test-size and --crop-pct"),
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
    (&["name"], "write --experiment NAME"),
    (&["project", "exist-ok"], "runs are numbered in the folder that --output names"),
    (&["start-epoch"], "--resume RUN resumes where the run was interrupted"),
    (&["save-images"], "images are not saved"),
    (&["train-split"], "see --val-split, and docs/datasets.md for the splits of a folder"),
    (&["plots", "log-file", "log-wandb"], "metrics.csv and events.jsonl in the run folder hold the course of a run"),
];

/// Values of `--opt` and `--sched` in other programs, and what to write instead.
const VALUES: &[(&str, &str, &str)] = &[
    ("opt", "nesterov", "--opt sgd --nesterov"),
    ("opt", "sgdw", "--opt sgd, or --opt adamw for decoupled weight decay"),
    ("opt", "nadamw", "--opt nadam"),
    ("opt", "lambc", "--opt lamb --trust-clip"),
    ("opt", "lambw", "--opt lamb"),
    ("opt", "rmsprop_tf", "--opt rmsproptf"),
    ("sched", "steplr", "--sched step"),
    ("sched", "multisteplr", "--sched multistep"),
    ("sched", "cosineannealinglr", "--sched cosine"),
    ("sched", "exponentiallr", "--sched step with --decay-epochs 1"),
    ("sched", "tanh", "--sched cosine"),
    ("sched", "onecycle", "--sched one-cycle"),
    ("sched", "polynomial", "--sched poly"),
    ("sched", "reducelronplateau", "--sched plateau"),
];

/// A hint for the error of a setting's value, if another program calls it like that.
pub(crate) fn value_hint(setting: &str, value: &str) -> Option<&'static str> {
    let value = value.to_lowercase();
    VALUES.iter().find(|(of, theirs, _)| *of == setting && *theirs == value).map(|(_, _, ours)| *ours)
}

/// Flags that do not exist in commands other than `train`.
const ELSEWHERE: &[(&[&str], &str)] = &[
    (&["checkpoint", "ckpt"], "write --weights"),
    (&["topk", "top-k"], "write --top"),
    (&["amp", "amp-dtype", "fp16", "half"], "write --precision bf16 where a command has it; --amp is of train"),
    (&["device", "gpu", "cuda"], "everything runs on the CPU"),
];

/// `arguments`, those of a training run in our spelling: lists of numbers that were typed with spaces have commas, and flags that
/// change nothing here are removed. For each of these the second result has a line.
pub(crate) fn translate(arguments: impl IntoIterator<Item = OsString>) -> (Vec<OsString>, Vec<String>) {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let mut notes = Vec::new();
    let Some(place) = command_place(&arguments).filter(|&place| is_training(&arguments[place])) else {
        return (arguments, notes);
    };
    let mut rest = arguments.into_iter().peekable();
    let mut translated: Vec<OsString> = rest.by_ref().take(place + 1).collect();
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
        if let Some((has_value, answer)) = accepted(flag) {
            notes.push(format!("{flag} is ignored: {answer}"));
            if has_value && !flag.contains('=') {
                rest.next();
            }
            continue;
        }
        // timm's number of views.
        if flag == "--tta"
            && let Some(views) = rest.peek().and_then(|next| next.to_str()).and_then(views)
        {
            rest.next();
            translated.push(format!("--tta={views}").into());
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
    (translated, notes)
}

/// Whether `command` takes the settings of a training run.
fn is_training(command: &OsStr) -> bool {
    command == "train" || command == "distill"
}

/// Test-time augmentation by its number of views.
fn views(text: &str) -> Option<&'static str> {
    [("0", "none"), ("1", "none"), ("2", "flip"), ("5", "five-crop"), ("10", "ten-crop")]
        .into_iter()
        .find_map(|(count, name)| (count == text).then_some(name))
}

/// The place of the command: the first argument after the program's name that is no flag, nor the value of one.
fn command_place(arguments: &[OsString]) -> Option<usize> {
    let is_flag = |argument: &OsString| argument.to_str().is_some_and(|text| text.starts_with('-'));
    (1..arguments.len()).find(|&place| !is_flag(&arguments[place]) && arguments[place - 1] != "--color")
}

/// For a flag that changes nothing here: whether it has a value, and what happens instead.
fn accepted(flag: &str) -> Option<(bool, &'static str)> {
    let name = flag.split('=').next().unwrap_or(flag);
    let (plain, _, answer) =
        ACCEPTED.iter().find(|(plain, valued, _)| plain.contains(&name) || valued.contains(&name))?;
    Some((!plain.contains(&name), answer))
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
    let command = command_place(arguments).and_then(|place| arguments[place].to_str()).unwrap_or_default();
    let answers = if is_training(command.as_ref()) { ANSWERS } else { ELSEWHERE };
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
    use residual::train::Layer;

    /// timm's flags that the documentation promises, with a value where they have one.
    const TIMM: &[&str] = &[
        "--opt adamw",
        "--aa rand-m9-mstd0.5-inc1",
        "--mixup 0.2",
        "--cutmix 1.0",
        "--mixup 0.1 --mixup-prob 0.5",
        "--mixup 0.1 --cutmix 1 --mixup-switch-prob 0.3",
        "--model-ema",
        "--model-ema --model-ema-decay 0.999",
        "--drop 0.1",
        "--drop-path 0.1",
        "--reprob 0.25",
        "--reprob 0.25 --remode const",
        "--reprob 0.25 --recount 2",
        "--color-jitter 0.4",
        "--train-interpolation random",
        "--clip-grad 1.0",
        "--clip-grad 0.01 --clip-mode agc",
        "--grad-accum-steps 2",
        "--layer-decay 0.75",
        "--pretrained",
        "--initial-checkpoint weights.pth",
        "--no-aug",
        "--input-size 3 64 64",
        "--crop-mode border",
        "--test-size 96",
        "--bce-loss",
        "--hflip 0.4",
        "--vflip 0.1",
        "--scale 0.3 1.0",
        "--ratio 0.75 1.33",
        "--sched-on-updates",
        "--sched step --decay-epochs 30",
        "--sched multistep --decay-milestones 30 60",
        "--cooldown-epochs 2",
        "--sched plateau --patience-epochs 5",
        "--warmup-epochs 3 --warmup-lr 1e-5",
        "--min-lr 1e-5",
        "--opt adamw --opt-eps 1e-6",
        "--opt adamw --opt-betas 0.9 0.95",
        "--tta 2",
        "--eval-metric top1",
        "--experiment my-run",
        "--amp",
        "--amp --amp-dtype bfloat16",
        "--channels-last",
        "--pin-mem",
        "--worker-seeding all",
    ];

    #[test]
    fn timms_flags_are_accepted() {
        for flags in TIMM {
            let typed = ["residual", "train", "photos"].into_iter().chain(flags.split(' '));
            let (translated, notes) = translate(typed.map(OsString::from));
            let parsed = <Arguments as clap::Parser>::try_parse_from(&translated);
            let parsed = parsed.unwrap_or_else(|error| panic!("{flags}: {error}"));
            let super::super::Command::Train(train) = parsed.command else { panic!("{flags}") };
            let settings = train.settings.layer().unwrap_or_else(|error| panic!("{flags}: {error}"));
            let is_ignored = ["--amp-dtype", "--channels-last", "--pin-mem", "--worker-seeding"]
                .iter()
                .any(|flag| flags.contains(flag));
            assert_eq!(!notes.is_empty(), is_ignored, "{flags}");
            if !is_ignored && *flags != "--pretrained" && *flags != "--no-aug" {
                let recipe = residual::train::Recipe::resolve(&[Layer::preset("folder-quick").unwrap(), settings]);
                recipe.unwrap_or_else(|error| panic!("{flags}: {error}"));
            }
        }
    }

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
