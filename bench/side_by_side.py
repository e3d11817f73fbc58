"""Runs residual and other programs in turn on the same networks, weights and inputs, and writes a table and a bar chart.

    python bench/side_by_side.py setup --scratch DIR
    python bench/side_by_side.py run --scratch DIR --residual target/release/residual --output bench/results/DATE-side-by-side.md
    python bench/side_by_side.py report --scratch DIR --output bench/results/DATE-side-by-side.md

`setup` makes a Python environment in DIR (or takes `--python`), builds the programs of `peers/rust` there, and writes weights
from a seed, ONNX files, batches, and the logits that PyTorch's plain form gives for them (`peers/inputs.py`).

`run` measures the rows below, or some of them (`--rows 'r50*,memory-r50'`). A row starts its contenders, one process each,
holds the logits of each against PyTorch's, and then times them in turn, all but one stopped at any time (`compare.py` says
how). Each round has new processes, as one keeps its luck with where its memory lies, but for contenders that take longer than
a few seconds to start. A contender that disagrees, or does not start, is not timed, and the table says so. What a row gave is
kept in DIR, so that rows can be measured on different days, or again.

`report` writes the markdown and the chart from all rows that DIR has. `run --output` does so too.

Needs nothing beyond Python's standard library; what the contenders need, `setup` gets.
"""

import argparse
import dataclasses
import datetime
import fnmatch
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path
from xml.sax.saxutils import escape

from compare import Contender, Failed, close_all, commit, cpu, middle_half, ratios_to

PEERS = Path(__file__).resolve().parent / "peers"
RUST_PEERS = ("rten", "tract", "candle", "burn")

# max |a - b| <= TOLERANCE * max |b|, over all logits of a batch; b is PyTorch's.
TOLERANCE = {"infer": 1e-3, "train": 2e-3}
# Of the five likeliest classes of the image.
PROBABILITY_TOLERANCE = 0.01
# Seconds that a contender may take for one answer; compiling a network takes minutes on a slow machine.
LIMIT = 1200
# A contender that was ready after so many seconds gets a new process each round.
QUICK_START = 8

AVX2 = {
    "residual": {"RESIDUAL_ISA": "avx2"},
    "torch": {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"},
    # Its convolutions and products; its poolings do not listen.
    "openvino": {"ONEDNN_MAX_CPU_ISA": "AVX2"},
}


# ---- what is measured ---------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Target:
    """What the ratio to the best of some contenders has to be, at least."""

    must: float
    wanted: float | None = None
    # The names of these contenders, or how they begin.
    against: tuple[str, ...] = ("torch", "onnxruntime")

    def best(self, ratios):
        """The name among `ratios` (by name) that comes closest, or None."""
        names = [name for name in ratios if name.startswith(self.against)]
        return min(names, key=ratios.get, default=None)


@dataclasses.dataclass(frozen=True)
class Row:
    title: str
    targets: tuple[Target, ...]
    contenders: tuple[str, ...]
    kind: str = "speed"
    mode: str = "infer"
    model: str = "resnet50"
    batch: int = 1
    side: int = 224
    isa: str | None = None
    unit: str = "ms"


INFER = (
    "residual",
    "torch_eager",
    "torch_channels_last",
    "torch_jit_frozen",
    "torch_jit_frozen_channels_last",
    "torch_compile",
    "onnxruntime",
    "openvino",
    "rten",
    "tract",
    "candle",
    "burn",
)
INFER_AVX2 = (
    "residual",
    "torch_channels_last",
    "torch_jit_frozen",
    "torch_jit_frozen_channels_last",
    "torch_compile",
    "openvino",
)
TRAIN = ("residual", "torch_eager", "torch_channels_last", "torch_compile", "torch_compile_channels_last")
TRAIN_AVX2 = ("residual", "torch_channels_last", "torch_compile", "torch_compile_channels_last")

TITLES = {
    "resnet18": "ResNet-18",
    "resnet50": "ResNet-50",
    "resnet20": "ResNet-20",
    "resnet56": "ResNet-56",
    "resnext50_32x4d": "ResNeXt-50 32×4d",
    "convnext_tiny": "ConvNeXt-T",
}


def rows():
    """All rows by key, in the order of the table."""
    speed = {
        "r50-b1": ("infer", "resnet50", 1, 224, 1.1, 1.3),
        "r50-b8": ("infer", "resnet50", 8, 224, 1.2, 1.4),
        "r18-b1": ("infer", "resnet18", 1, 224, 1.4, 1.7),
        "r18-b8": ("infer", "resnet18", 8, 224, 1.7, 2.1),
        "train-r20-b128": ("train", "resnet20", 128, 32, 2.0, 3.0),
        "train-r56-b128": ("train", "resnet56", 128, 32, 2.0, 3.0),
        "train-r18-b16": ("train", "resnet18", 16, 224, 1.8, 2.4),
        "train-r50-b16": ("train", "resnet50", 16, 224, 1.4, 1.8),
    }
    # Grouped and depthwise networks, which have no target but to be ahead.
    for short, model in (("rx50", "resnext50_32x4d"), ("cnx", "convnext_tiny")):
        speed |= {f"{short}-b{batch}": ("infer", model, batch, 224, 1.0, None) for batch in (1, 8)}
        speed[f"train-{short}-b16"] = ("train", model, 16, 224, 1.0, None)
    found, limited = {}, {}
    for key, (mode, model, batch, side, must, wanted) in speed.items():
        what = "inference" if mode == "infer" else "training step"
        title = f"{TITLES[model]} {what}, batch {batch} at {side}×{side}"
        contenders = INFER if mode == "infer" else TRAIN
        if key == "train-r20-b128":
            contenders += ("candle", "burn")
        shape = {"mode": mode, "model": model, "batch": batch, "side": side}
        found[key] = Row(title, (Target(must, wanted),), contenders, **shape)
        if wanted is None:
            continue
        contenders = INFER_AVX2 if mode == "infer" else TRAIN_AVX2
        limited[f"{key}-avx2"] = Row(f"{title}, AVX2", (Target(1.0),), contenders, **shape, isa="avx2")
    start = (Target(10.0, against=("torch",)), Target(2.0, against=("onnxruntime",)))
    found["start"] = Row("Process start to first prediction, ResNet-50", start, ("residual", "torch", "onnxruntime"), "start")
    found["memory-r50"] = Row(
        "Peak resident memory, ResNet-50 training, batch 16",
        (Target(1 / 0.7),),
        TRAIN,
        "memory",
        mode="train",
        batch=16,
        unit="MiB",
    )
    return found | limited


ROWS = rows()


# ---- setup --------------------------------------------------------------------------------------------------------------


def setup(options):
    scratch = options.scratch.resolve()
    scratch.mkdir(parents=True, exist_ok=True)
    if "python" in options.parts:
        python = options.python.absolute() if options.python else None
        if python is None:
            python = scratch / "venv/bin/python"
            if not python.exists():
                subprocess.run([sys.executable, "-m", "venv", scratch / "venv"], check=True)
            subprocess.run([python, "-m", "pip", "install", "-r", PEERS / "requirements.txt"], check=True)
        (scratch / "setup.json").write_text(json.dumps({"python": str(python)}) + "\n")
    if "inputs" in options.parts:
        words = [python_of(scratch), PEERS / "inputs.py", "--output", scratch / "inputs"]
        subprocess.run(words + (["--image", options.image.resolve()] if options.image else []), check=True)
    # Not in this repository: its target folder, and its compiler flags, are its own.
    shutil.copytree(PEERS / "rust", scratch / "rust", dirs_exist_ok=True)
    for peer in RUST_PEERS:
        if peer not in options.parts:
            continue
        words = ["cargo", "build", "--release", "--locked", "-p", f"peer-{peer}", "--target-dir", "target"]
        flags = {"RUSTFLAGS": "-C target-cpu=native"}
        if subprocess.run(words, cwd=scratch / "rust", env=os.environ | flags).returncode != 0:
            print(f"{peer}: not built; its rows will say so", file=sys.stderr)


def python_of(scratch):
    try:
        return json.loads((scratch / "setup.json").read_text())["python"]
    except OSError:
        raise SystemExit(f"{scratch}: run `setup --scratch {scratch}` first")


# ---- contenders ---------------------------------------------------------------------------------------------------------


class Bench:
    """Where everything is, and how each contender is called."""

    def __init__(self, options):
        self.options = options
        self.scratch = options.scratch.resolve()
        self.inputs = self.scratch / "inputs"
        self.logs = self.scratch / "logs"
        self.logs.mkdir(parents=True, exist_ok=True)
        self.python = python_of(self.scratch)
        self.residual = str(options.residual.resolve())
        # A residual of before `bench` read bare weights is timed on random ones, and not checked.
        help_text = subprocess.run([self.residual, "bench", "--help"], capture_output=True, text=True).stdout
        self.reads_weights = "--model" in help_text

    def command(self, name, row):
        """The words of a contender's command."""
        threads = str(self.options.threads)
        images = str(self.images(row))
        if name == "residual":
            what = [row.model]
            if self.reads_weights:
                # A network that a peer builds otherwise than its name says is described beside it.
                described = PEERS / f"{row.model}.toml"
                network = str(described) if described.exists() else row.model
                what = [str(self.inputs / f"{row.model}.safetensors"), "--model", network]
            shape = ["--mode", row.mode, "--batch", str(row.batch)]
            return [self.residual, "bench", *what, *shape, "--threads", threads, "--serve"]
        if name.startswith("torch_"):
            weights = str(self.inputs / f"{row.model}.pth")
            words = [self.python, str(PEERS / "torch_peer.py"), row.mode, "--model", row.model, "--weights", weights]
            return words + ["--input", images, "--threads", threads, "--variant", name.removeprefix("torch_"), "--serve"]
        onnx = str(self.inputs / f"{row.model}-b{row.batch}.onnx")
        if name in ("onnxruntime", "openvino"):
            words = [self.python, str(PEERS / "onnx_peer.py"), name, "--onnx", onnx]
            return words + ["--input", images, "--threads", threads]
        weights = onnx if name in ("rten", "tract") else str(self.inputs / f"{row.model}.safetensors")
        return [str(self.scratch / f"rust/target/release/peer-{name}"), row.mode, row.model, weights, images]

    def environment(self, name, row):
        env = {"RAYON_NUM_THREADS": str(self.options.threads)} if name in RUST_PEERS else {}
        return env | (AVX2[name.partition("_")[0]] if row.isa == "avx2" else {})

    def images(self, row):
        return self.inputs / f"{row.batch}x{row.side}.npy"

    def start(self, key, name):
        """A contender that is ready, and stopped."""
        log = self.logs / f"{key}-{name}.log"
        row = ROWS[key]
        log.unlink(missing_ok=True)
        contender = Contender(name, self.command(name, row), self.environment(name, row), log, LIMIT)
        try:
            contender.wait_ready()
            # It may leave instead of answering; then its last words say why.
        except Failed as failure:
            contender.close()
            raise Failed(last_words(log) or str(failure)) from None
        return contender

    def check(self, contender, row):
        """How far the contender's logits are from PyTorch's, in words; Failed if that is too far."""
        if contender.name == "residual" and not self.reads_weights:
            return "not checked"
        expected = json.loads((self.inputs / f"{row.mode}-{row.model}-b{row.batch}.json").read_text())
        got = contender.ask(f"logits {self.images(row)}", "logits")
        if [len(one) for one in got] != [len(one) for one in expected]:
            raise Failed(f"logits of {len(got)} images, expected {len(expected)}")
        pairs = [(a, b) for one, other in zip(got, expected) for a, b in zip(one, other)]
        off = max(abs(a - b) for a, b in pairs) / max(abs(b) for _, b in pairs)
        # A NaN among them makes this false, or leaves one as `off`.
        if any(a != a for a, _ in pairs) or not off <= TOLERANCE[row.mode]:
            raise Failed(f"logits are off by {off:.1e}, tolerance {TOLERANCE[row.mode]:.0e}")
        return f"{off:.0e}"


def last_words(log):
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return " ".join(Path(word).name if word.startswith("/") else word for word in lines[-1].split()) if lines else ""


# ---- measurements: each takes a row and returns one entry a contender ---------------------------------------------------


def measure_speed(bench, key, names):
    row, options = ROWS[key], bench.options
    entries = {name: {"name": name} for name in names}
    ready = []
    try:
        for name in names:
            print(f"{key}: {name}", file=sys.stderr)
            try:
                contender = bench.start(key, name)
            except Failed as failure:
                entries[name]["failure"] = str(failure)
                continue
            ready.append(contender)
            entries[name] |= {"command": contender.shown, "about": contender.about}
            try:
                entries[name]["check"] = bench.check(contender, row)
                contender.usual = contender.ask("run 2", "ms")[1]
            except Failed as failure:
                entries[name]["failure"] = str(failure)
                ready.remove(contender)
                contender.close()
        slow = 1000 * options.turn_seconds
        for index in range(options.rounds):
            shift = index % max(1, len(ready))
            for contender in ready[shift:] + ready[:shift]:
                # One that is slow, and far behind, takes part in every third round only.
                if index % 3 and contender.usual > max(slow, 4 * ready[0].usual):
                    contender.rounds.append([])
                    continue
                try:
                    if index and contender.start_seconds < QUICK_START:
                        contender.restart()
                        contender.ask("run 1", "ms")
                    contender.turn(max(1, min(options.iterations, int(slow / contender.usual))))
                except Failed as failure:
                    entries[contender.name]["failure"] = str(failure)
                    ready.remove(contender)
                    contender.close()
            print(f"{key}: round {index + 1} of {options.rounds}", file=sys.stderr)
        for contender in ready:
            entries[contender.name]["rounds"] = contender.rounds
    finally:
        close_all(ready)
    return list(entries.values())


def measure_memory(bench, key, names):
    entries = []
    for name in names:
        print(f"{key}: {name}", file=sys.stderr)
        try:
            contender = bench.start(key, name)
            try:
                contender.turn(2)
                entries.append({"name": name, "command": contender.shown, "about": contender.about})
                entries[-1]["rounds"] = [[contender.peak_mib()]]
            finally:
                contender.close()
        except Failed as failure:
            entries.append({"name": name, "failure": str(failure)})
    return entries


def measure_start(bench, key, names):
    inputs, image = bench.inputs, str(bench.inputs / "image.jpg")
    predict = [bench.residual, "predict", "--model", "resnet50", "--weights", str(inputs / "resnet50.safetensors"), image]
    commands = {
        "residual": predict,
        "torch": [bench.python, str(PEERS / "first_torch.py"), str(inputs / "resnet50.pth"), image],
        "onnxruntime": [bench.python, str(PEERS / "first_onnxruntime.py"), str(inputs / "resnet50-b1.onnx"), image],
    }

    def once(words):
        start = time.perf_counter()
        done = subprocess.run(words, capture_output=True, text=True, env=os.environ | threads, timeout=LIMIT)
        elapsed = 1000 * (time.perf_counter() - start)
        if done.returncode != 0:
            raise Failed((done.stderr.strip().splitlines() or [f"left with {done.returncode}"])[-1])
        return elapsed, done.stdout

    # The answers are compared first, which also brings every file into memory.
    threads = {"OMP_NUM_THREADS": str(bench.options.threads)}
    top = {name: json.loads(once(commands[name])[1]) for name in ("torch", "onnxruntime") if name in names}
    if "residual" in names:
        answer = json.loads(once(predict + ["--json"])[1])["predictions"][0]["top"]
        top["residual"] = [[one["index"], one["probability"]] for one in answer]
    entries = []
    for name in names:
        shown = [Path(word).name if word.startswith("/") else word for word in commands[name]]
        entry = {"name": name, "command": " ".join(shown), "about": {}, "check": "reference", "rounds": []}
        if name != "torch" and "torch" in top:
            off = max(abs(a[1] - b[1]) for a, b in zip(top[name], top["torch"]))
            entry["check"] = f"top 5 within {off:.0e}"
            if [index for index, _ in top[name]] != [index for index, _ in top["torch"]] or not off < PROBABILITY_TOLERANCE:
                entry = {"name": name, "failure": f"names {top[name]}, torch {top['torch']}"}
        entries.append(entry)
    timed = [entry for entry in entries if "failure" not in entry]
    for index in range(bench.options.rounds):
        shift = index % len(timed)
        for entry in timed[shift:] + timed[:shift]:
            entry["rounds"].append([round(once(commands[entry["name"]])[0], 2)])
        print(f"{key}: round {index + 1} of {bench.options.rounds}", file=sys.stderr)
    return entries


MEASURE = {"speed": measure_speed, "memory": measure_memory, "start": measure_start}


def run(options):
    chosen = [key for key in ROWS if any(fnmatch.fnmatchcase(key, pattern) for pattern in options.rows.split(","))]
    if not chosen:
        raise SystemExit(f"--rows {options.rows}: no such row; there are {', '.join(ROWS)}")
    # Contenders must not stay behind, stopped, when this is told to end.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))
    bench = Bench(options)
    version = subprocess.run([bench.residual, "--version"], capture_output=True, text=True).stdout.strip()
    for key in chosen:
        row = ROWS[key]
        wanted = options.contenders.split(",")
        names = [name for name in row.contenders if any(fnmatch.fnmatchcase(name, pattern) for pattern in wanted)]
        started = time.monotonic()
        try:
            entries = MEASURE[row.kind](bench, key, names)
        except Failed as failure:
            print(f"{key}: {failure}", file=sys.stderr)
            continue
        name, flags = cpu()
        result = {
            "row": key,
            "date": str(datetime.date.today()),
            "commit": commit(),
            "residual": version,
            "cpu": name,
            "isa": flags,
            "cores": len(os.sched_getaffinity(0)),
            "threads": options.threads,
            "iterations": options.iterations,
            "contenders": entries,
        }
        path = bench.scratch / "results" / f"{key}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(result, indent=1) + "\n")
        print(f"{key}: {time.monotonic() - started:.0f} s", file=sys.stderr)
        for entry in entries:
            print(f"    {entry['name']}: {summary(entry, row)}", file=sys.stderr)
    if options.output:
        report(options)


def summary(entry, row):
    if "failure" in entry:
        return entry["failure"]
    return f"{median(entry):.2f} {row.unit}, {entry.get('check', '')}"


# ---- report -------------------------------------------------------------------------------------------------------------


def median(entry):
    return statistics.median(time for turn in entry["rounds"] for time in turn)


class Measured:
    """A row with its result."""

    def __init__(self, key, result):
        self.key, self.row, self.result = key, ROWS[key], result
        self.timed = [Timed(entry) for entry in result["contenders"] if entry.get("rounds")]
        self.failed = [entry for entry in result["contenders"] if "failure" in entry]
        self.absent = [name for name in self.row.contenders if name not in {entry["name"] for entry in result["contenders"]}]
        self.ours = next((one for one in self.timed if one.name == "residual"), None)
        # The median, over the rounds, of the contender's time over ours.
        self.ratios = {}
        if self.ours:
            others = [one for one in self.timed if one is not self.ours]
            spreads = {one.name: ratios_to(self.ours, one) for one in others}
            self.spreads = {name: spread for name, spread in spreads.items() if spread}
            self.ratios = {name: statistics.median(spread) for name, spread in self.spreads.items()}

    def figure(self, name):
        return next(statistics.median(one.times) for one in self.timed if one.name == name)

    def verdict(self, target):
        best = target.best(self.ratios)
        if best is None:
            return "?"
        ratio = self.ratios[best]
        if target.wanted and ratio >= target.wanted:
            return "wanted"
        return "met" if ratio >= target.must else "missed"


class Timed:
    """A contender's times, in the form that `ratios_to` takes."""

    def __init__(self, entry):
        self.name, self.rounds, self.entry = entry["name"], entry["rounds"], entry
        self.times = [time for turn in self.rounds for time in turn]


def report(options):
    folder = options.scratch.resolve() / "results"
    found = [Measured(key, json.loads((folder / f"{key}.json").read_text())) for key in ROWS if (folder / f"{key}.json").exists()]
    if not found:
        raise SystemExit(f"{folder}: no results")
    options.output.parent.mkdir(parents=True, exist_ok=True)
    chart = options.output.with_suffix(".svg")
    chart.write_text(draw([one for one in found if one.row.kind == "speed" and one.ratios]))
    options.output.write_text("\n".join([*head(found, chart), *table(found), *losses(found), *details(found)]) + "\n")
    print(f"{options.output}, {chart}", file=sys.stderr)


def joined(found, key):
    """The different values of a field of the results, in order."""
    return ", ".join(dict.fromkeys(str(one.result[key]) for one in found))


def head(found, chart):
    versions = {}
    for one in found:
        for entry in one.result["contenders"]:
            versions |= entry.get("about", {}).get("versions", {})
    tools = ", ".join(f"{name} {version}" for name, version in sorted(versions.items()))
    out = [
        "# Side by side with other programs",
        "",
        "Made with `bench/side_by_side.py`: the same weights and batches for all; a process each, in turn, the others stopped",
        f"meanwhile, and new ones each round but for programs that take {QUICK_START} s and more to start; logits held against",
        "PyTorch's before anything is timed. A ratio is the median, over the rounds, of the other's time over ours in that round;",
        "above 1 we are faster.",
        "",
        f"- date {joined(found, 'date')}, commit {joined(found, 'commit')}, {joined(found, 'residual')}",
        f"- CPU {joined(found, 'cpu')}, {joined(found, 'cores')} usable cores, {joined(found, 'isa')}",
        f"- {joined(found, 'threads')} threads, float32",
        f"- {tools}",
        "- burn with its `flex` backend; candle with AVX-512 products and batch norms",
        "  folded; both and rten and tract built with `-C target-cpu=native`",
        "- rten and tract do not train; ONNX Runtime and the programs in Rust have no switch that keeps them to AVX2",
        "",
        f"![Speed relative to the faster of PyTorch and ONNX Runtime]({chart.name})",
        "",
    ]
    return out


def table(found):
    out = [
        "| row | residual | best of PyTorch and ONNX Runtime | ratio | target | wanted | | ratio to the others |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for one in found:
        for target in one.row.targets:
            best = target.best(one.ratios)
            ours = f"{one.figure('residual'):.2f} {one.row.unit}" if one.ours else "-"
            theirs = f"{best} {one.figure(best):.2f} {one.row.unit}" if best else "-"
            ratio = f"**{one.ratios[best]:.2f}**" if best else "-"
            wanted = f"{target.wanted:.2f}" if target.wanted else "-"
            others = [f"{name} {value:.2f}" for name, value in one.ratios.items() if name != best]
            if len(one.row.targets) > 1:
                others = []
            others += [f"{entry['name']} failed" for entry in one.failed]
            if one.absent:
                others.append(f"not run: {' '.join(one.absent)}")
            cells = (one.row.title, ours, theirs, ratio, f"{target.must:.2f}", wanted, one.verdict(target), ", ".join(others))
            out.append("| " + " | ".join(cells) + " |")
    missing = [key for key in ROWS if key not in {one.key for one in found}]
    if missing:
        out += ["", f"Not measured: {', '.join(missing)}."]
    return out


def losses(found):
    """Where we are behind, or below target."""
    out = []
    for one in found:
        out += [f"- {one.row.title}: {e['name']} failed, {e['failure']}" for e in one.failed if e["name"] == "residual"]
        behind = [f"{name} {value:.2f}" for name, value in one.ratios.items() if value < 1]
        if behind:
            out.append(f"- {one.row.title}: behind {', '.join(behind)}")
        for target in one.row.targets:
            if one.verdict(target) == "missed":
                best = target.best(one.ratios)
                out.append(f"- {one.row.title}: {one.ratios[best]:.2f} to {best}, target {target.must:.2f}")
    return ["", "## Behind, or below target", "", *(out or ["Nowhere."])]


def details(found):
    out = []
    for one in found:
        result = one.result
        counts = [len(turn) for turn in one.ours.rounds] if one.ours else [0]
        out += [
            "",
            f"## {one.row.title}",
            "",
            f"- {result['date']}, commit {result['commit']}; {len(counts)} rounds, {max(counts)} iterations each of ours",
            "",
            f"| contender | median {one.row.unit} | min | middle half | ratio | ratio's middle half | logits off by |",
            "|---|---|---|---|---|---|---|",
        ]
        for timed in one.timed:
            ratio, spread = one.ratios.get(timed.name), one.spreads.get(timed.name) if one.ours else None
            cells = (
                timed.name,
                f"{statistics.median(timed.times):.2f}",
                f"{min(timed.times):.2f}",
                middle_half(timed.times),
                f"{ratio:.2f}" if ratio else "1.00" if timed is one.ours else "-",
                middle_half(spread) if spread else "-",
                timed.entry.get("check", "-"),
            )
            out.append("| " + " | ".join(cells) + " |")
        out += [f"| {entry['name']} | {entry['failure'].replace('|', '/')} | | | | | |" for entry in one.failed]
        out.append("")
        out += [f"- `{timed.name}`: `{timed.entry['command']}`, {json.dumps(timed.entry['about'])}" for timed in one.timed]
    return out


# ---- chart --------------------------------------------------------------------------------------------------------------

STYLE = """
  text { font: 13px system-ui, sans-serif; fill: #57606a }
  .small { font-size: 11px }
  .bar { fill: #3f7fbf } .dot { fill: #eaeef2; stroke: #57606a } .grid { stroke: #8c959f; stroke-opacity: .25 }
  .one { stroke: #8c959f; stroke-width: 1.5 } .must { stroke: #d1762a; stroke-width: 2.5 }
  .wanted { stroke: #d1762a; stroke-width: 2.5; stroke-dasharray: 3 2 }
  @media (prefers-color-scheme: dark) { text { fill: #adb5bd } }
"""


def draw(found):
    """Speed relative to the faster of PyTorch and ONNX Runtime, as an SVG."""
    left, width, pitch, top = 330, 460, 26, 66
    longest = max([2.0] + [one.ratios[best] for one in found if (best := one.row.targets[0].best(one.ratios))])
    longest = max([longest] + [target.wanted or target.must for one in found for target in one.row.targets])
    scale = width / (longest * 1.05)
    height = top + pitch * len(found) + 12
    total = left + width + 60
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {total} {height}" width="{total}" height="{height}" role="img">',
        "<title>Speed relative to the faster of PyTorch and ONNX Runtime</title>",
        f"<style>{STYLE}</style>",
        f'<text x="{left}" y="16">Speed relative to the faster of PyTorch and ONNX Runtime (line at 1)</text>',
        *legend(left, 36),
    ]
    for tick in range(1, 2 * int(longest * 1.05) + 1):
        x, grid = left + scale * tick / 2, "one" if tick == 2 else "grid"
        out.append(f'<line class="{grid}" x1="{x:.1f}" x2="{x:.1f}" y1="{top - 6}" y2="{height - 8}"/>')
        if tick % 2 == 0:
            out.append(f'<text class="small" x="{x:.1f}" y="{top - 10}" text-anchor="middle">{tick // 2}×</text>')
    for index, one in enumerate(found):
        target = one.row.targets[0]
        best = target.best(one.ratios)
        if best is None:
            continue
        y, ours = top + pitch * index, one.ratios[best]
        out += [
            f'<text x="{left - 10}" y="{y + 14}" text-anchor="end">{escape(one.row.title)}</text>',
            f'<rect class="bar" x="{left}" y="{y + 2}" width="{scale * ours:.1f}" height="{pitch - 10}" rx="2"/>',
        ]
        for name, ratio in one.ratios.items():
            x = left + scale * ours / ratio
            out.append(f'<circle class="dot" cx="{x:.1f}" cy="{y + 10}" r="3"><title>{escape(name)}</title></circle>')
        for mark, value in (("must", target.must), ("wanted", target.wanted)):
            if value:
                x = left + scale * value
                out.append(f'<line class="{mark}" x1="{x:.1f}" x2="{x:.1f}" y1="{y}" y2="{y + pitch - 6}"/>')
        end = left + scale * max(ours, target.wanted or target.must) + 8
        out.append(f'<text class="small" x="{end:.1f}" y="{y + 14}">{ours:.2f}</text>')
    return "\n".join([*out, "</svg>"]) + "\n"


def legend(x, y):
    return [
        f'<rect class="bar" x="{x}" y="{y - 9}" width="18" height="10" rx="2"/>',
        f'<text class="small" x="{x + 24}" y="{y}">residual</text>',
        f'<circle class="dot" cx="{x + 86}" cy="{y - 4}" r="3"/>',
        f'<text class="small" x="{x + 94}" y="{y}">the others</text>',
        f'<line class="must" x1="{x + 166}" x2="{x + 166}" y1="{y - 11}" y2="{y + 2}"/>',
        f'<text class="small" x="{x + 173}" y="{y}">target</text>',
        f'<line class="wanted" x1="{x + 220}" x2="{x + 220}" y1="{y - 11}" y2="{y + 2}"/>',
        f'<text class="small" x="{x + 227}" y="{y}">wanted</text>',
    ]


# ---- command line -------------------------------------------------------------------------------------------------------


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)

    one = commands.add_parser("setup", help="get and build what the contenders need, and write their inputs")
    parts = ("python", "inputs", *RUST_PEERS)
    one.add_argument("--python", type=Path, help="take this environment instead of making one")
    one.add_argument("--image", type=Path, help="a JPEG photograph for the row `start` (default: one is drawn)")
    one.add_argument("--parts", type=lambda text: text.split(","), default=parts, help=f"some of {','.join(parts)}")
    one.set_defaults(function=setup)

    two = commands.add_parser("run", help="measure rows")
    two.add_argument("--residual", type=Path, default=Path("target/release/residual"), help="the binary (default: %(default)s)")
    two.add_argument("--rows", default="*", help=f"keys or patterns, separated by commas: {', '.join(ROWS)}")
    two.add_argument("--contenders", default="*", help="names or patterns; without residual there are no ratios")
    two.add_argument("--rounds", type=int, default=10)
    two.add_argument("--iterations", type=int, default=10, help="counted iterations a turn, at most")
    two.add_argument("--turn-seconds", type=float, default=2.0, help="a turn has fewer iterations if it would take longer")
    two.add_argument("--threads", type=int, default=2)
    two.add_argument("--output", type=Path, help="write the report here when done; the chart goes beside it")
    two.set_defaults(function=run)

    three = commands.add_parser("report", help="write the markdown and the chart from all rows measured so far")
    three.add_argument("--output", type=Path, required=True)
    three.set_defaults(function=report)

    for command in (one, two, three):
        command.add_argument("--scratch", type=Path, required=True, help="folder for everything that is not in this repository")
    options = parser.parse_args()
    options.function(options)


if __name__ == "__main__":
    main()
