"""Transfers CIFAR-10 weights to CIFAR-100 in four ways and writes a table: what is trained decides how well it goes.

    python bench/transfer.py --residual target/release/residual --data-dir DIR/cifar-100-binary \
        --weights DIR/akamaster/resnet56-4bfd9763.th

The published resnet56_a of CIFAR-10 gets a new head and is trained on the first images of CIFAR-100 with its backbone frozen,
with the last stage trained as well, and in full; the same network is trained from new weights beside it. All have the same
epochs, batches, augmentation and schedule; the learning rate is each setting's own. Images are normalised as for those weights.

Writes bench/results/DATE-transfer.md. Takes about 20 minutes on two cores; needs nothing beyond Python's standard library.
"""

import argparse
import csv
import datetime
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from compare import commit, cpu

MODEL = "resnet56_a"
PREPROCESSING = ["--mean", "0.485,0.456,0.406", "--std", "0.229,0.224,0.225"]
COMMON = ["--sched", "cosine", "--warmup-epochs", "1", "--weight-decay", "5e-4", "--augment", "crop", "--hflip", "0.5"]

# name, whether it starts from the weights, learning rate, what else
SETTINGS = [
    ("frozen", True, 0.1, ["--freeze", "backbone", "--freeze-bn"]),
    ("last stage", True, 0.05, ["--freeze", "layer1..layer2", "--freeze-bn"]),
    ("full", True, 0.05, []),
    ("scratch", False, 0.1, []),
]
WHAT = {
    "frozen": "the head alone",
    "last stage": "`layer3` and the head",
    "full": "everything",
    "scratch": "everything, from new weights",
}


def flags(arguments, name, pretrained, lr, extra, seed):
    """The command line of one run."""
    line = ["train", "--model", MODEL, "--data", "cifar100", "--data-dir", str(arguments.data_dir)]
    line += ["--recipe", "cifar-quick", "--epochs", str(arguments.epochs), "--batch-size", str(arguments.batch_size)]
    line += COMMON + PREPROCESSING + ["--lr", str(arguments.lr.get(name, lr)), "--seed", str(seed)] + extra
    if pretrained:
        line += ["--weights", str(arguments.weights)]
    return line


def run(arguments, line, output):
    """Runs one training; its rows of metrics.csv."""
    command = [str(arguments.residual), *line, "--output", output, "--json"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}\n{done.stderr.strip().splitlines()[-1]}")
    folder = json.loads(done.stdout)["run"]
    with open(Path(folder) / "metrics.csv", newline="") as file:
        return list(csv.DictReader(file))


def seconds_an_epoch(rows):
    """Medians, so that a disturbance does not count: evaluation included."""
    ends = [0.0] + [float(row["seconds"]) for row in rows]
    return statistics.median(end - start for start, end in zip(ends, ends[1:]))


def verdict(means):
    """What came out of what was expected, in words."""
    lines = []
    for better, worse, strict in [("full", "last stage", False), ("last stage", "frozen", False), ("full", "scratch", True)]:
        if better in means and worse in means:
            holds = means[better] > means[worse] if strict else means[better] >= means[worse]
            sign = ">" if strict else "≥"
            lines.append(f"- {better} {sign} {worse}: **{'yes' if holds else 'no'}** ({means[better]:.2f} and {means[worse]:.2f})")
    return lines


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--residual", type=Path, default=Path("target/release/residual"))
    parser.add_argument("--data-dir", type=Path, required=True, help="where the files of CIFAR-100 lie")
    parser.add_argument("--weights", type=Path, required=True, help="resnet56-4bfd9763.th of akamaster/pytorch_resnet_cifar10")
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--seeds", type=lambda text: [int(seed) for seed in text.split(",")], default=[0, 1])
    parser.add_argument("--only", help="settings, with commas between")
    parser.add_argument("--lr", action="append", default=[], metavar="SETTING=LR", help="another learning rate")
    parser.add_argument("--output", type=Path, help="default: bench/results/DATE-transfer.md")
    arguments = parser.parse_args()
    arguments.lr = {name: float(lr) for name, lr in (text.split("=") for text in arguments.lr)}
    date = datetime.date.today().isoformat()
    output = arguments.output or Path(__file__).resolve().parent / "results" / f"{date}-transfer.md"
    settings = [setting for setting in SETTINGS if not arguments.only or setting[0] in arguments.only.split(",")]

    results = {}
    with tempfile.TemporaryDirectory() as scratch:
        for seed in arguments.seeds:
            for name, pretrained, lr, extra in settings:
                rows = run(arguments, flags(arguments, name, pretrained, lr, extra, seed), scratch)
                results.setdefault(name, []).append(rows)
                print(f"{name}, seed {seed}: {float(rows[-1]['top1']):.2f} %, {seconds_an_epoch(rows):.1f} s an epoch", flush=True)

    last = {name: [float(rows[-1]["top1"]) for rows in runs] for name, runs in results.items()}
    means = {name: statistics.mean(values) for name, values in last.items()}
    seeds = ", ".join(map(str, arguments.seeds))
    text = [
        "# CIFAR-10 weights on CIFAR-100: what is trained",
        "",
        f"- {date}, {cpu()[0]}, commit {commit()}, `bench/transfer.py`",
        f"- `{MODEL}` from `{arguments.weights.name}` (93.39 % on CIFAR-10), {arguments.epochs} epochs of the training images in "
        f"`--data-dir`, batch {arguments.batch_size}, seeds {seeds}; top-1 on the test images there after the last epoch",
        f"- all: `{' '.join(COMMON + PREPROCESSING)}`; the learning rate is each setting's own",
        "",
        "| setting | what is trained | peak lr | " + " | ".join(f"seed {seed}" for seed in arguments.seeds) + " | mean top-1 % | seconds an epoch |",
        "|---|---|---|" + "---|" * (len(arguments.seeds) + 2),
    ]
    for name, _, lr, extra in settings:
        values = " | ".join(f"{value:.2f}" for value in last[name])
        seconds = statistics.median(seconds_an_epoch(rows) for rows in results[name])
        what = WHAT[name] + (f" (`{' '.join(extra)}`)" if extra else "")
        text.append(f"| {name} | {what} | {arguments.lr.get(name, lr)} | {values} | **{means[name]:.2f}** | {seconds:.1f} |")
    text += ["", "Seconds are those of training and evaluation.", "", *verdict(means), ""]
    text += ["By epoch, top-1 %, mean of the seeds:", "", "| epoch | " + " | ".join(results) + " |", "|---|" + "---|" * len(results)]
    for epoch in range(arguments.epochs):
        by_setting = [statistics.mean(float(rows[epoch]["top1"]) for rows in runs) for runs in results.values()]
        text.append(f"| {epoch + 1} | " + " | ".join(f"{value:.2f}" for value in by_setting) + " |")
    output.write_text("\n".join(text) + "\n")
    print(f"written: {output}")


if __name__ == "__main__":
    main()
