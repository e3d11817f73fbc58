"""Times several programs in turn, so that a shared machine's drift hits all of them, and writes a markdown table.

    python bench/compare.py --rounds 10 --iterations 5 --title "ResNet-50, batch 1, 2 threads" \\
        --contender ours='target/release/residual bench resnet50 --batch 1 --threads 2 --serve' \\
        --contender torch='python bench/peers/torch_peer.py infer --model resnet50 --threads 2 --variant channels_last --serve' \\
        --output bench/results/2025-01-31-resnet50-b1.md

A contender is a command that, once warm, prints one line `{"ready": {...}}` on stdout (what it says about itself goes into the
table), answers each line `run N` on stdin with `{"ms": [N times]}` on stdout, and leaves at `quit` or the end of input.

Each round runs every contender once, in an order that turns by one each round. Between its turns a contender's whole
process group is stopped (SIGSTOP), so that spinning worker threads take nothing from the others; the first iteration of a
turn, which finds cold caches, is not counted. The ratio of a contender is the median over the rounds of its time in that
round over the first contender's.
"""

import argparse
import datetime
import json
import os
import platform
import shlex
import signal
import statistics
import subprocess
import sys
from pathlib import Path


class Contender:
    def __init__(self, spec):
        self.name, separator, self.command = spec.partition("=")
        if not separator or not self.command:
            raise SystemExit(f"--contender {spec!r}: expected NAME=COMMAND")
        self.rounds = []  # one list of times in ms a round
        words = shlex.split(self.command)
        try:
            self.process = subprocess.Popen(
                words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
            )
        except OSError as error:
            raise SystemExit(f"{self.name}: {error}")
        # In the table: results are published, and where this machine keeps its files is nobody's business.
        self.shown = shlex.join(Path(word).name if word.startswith(("/", "~")) else word for word in words)

    def read(self, key):
        line = self.process.stdout.readline()
        try:
            answer = json.loads(line)
            return answer[key]
        except (ValueError, KeyError, TypeError):
            raise SystemExit(f"{self.name}: expected a line with {key!r}, got {line.strip() or 'the end of its output'!r}")

    def wait_ready(self):
        self.about = self.read("ready")
        self.signal(signal.SIGSTOP)

    def turn(self, iterations):
        self.signal(signal.SIGCONT)
        self.process.stdin.write(f"run {iterations + 1}\n")
        self.process.stdin.flush()
        self.rounds.append(self.read("ms")[1:])
        self.signal(signal.SIGSTOP)

    def signal(self, number):
        os.killpg(self.process.pid, number)

    def close(self):
        """Lets the process leave by itself, and ends it if it does not."""
        try:
            self.signal(signal.SIGCONT)
            self.process.stdin.close()
            self.process.wait(10)
        except (subprocess.TimeoutExpired, OSError):
            self.process.kill()
            self.process.wait()


def cpu():
    """The processor's name and the instruction sets that matter here."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor() or platform.machine(), "unknown"
    fields = dict(line.split(":", 1) for line in text.split("\n\n")[0].splitlines() if ":" in line)
    fields = {key.strip(): value.strip() for key, value in fields.items()}
    known = ("avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "asimd")
    flags = set(fields.get("flags", fields.get("Features", "")).split())
    name = f"{fields.get('model name', platform.machine())} (family {fields.get('cpu family', '?')}, model {fields.get('model', '?')})"
    return name, " ".join(flag for flag in known if flag in flags)


def commit():
    def git(*words):
        return subprocess.run(["git", *words], cwd=Path(__file__).parent, capture_output=True, text=True).stdout.strip()

    changed = " with uncommitted changes" if git("status", "--porcelain", "--untracked-files=no") else ""
    return (git("rev-parse", "--short", "HEAD") or "unknown") + changed


def table(contenders, options):
    name, isa = cpu()
    out = [
        f"# {options.title}",
        "",
        f"- date {datetime.date.today()}, commit {commit()}",
        f"- CPU {name}, {len(os.sched_getaffinity(0))} usable cores, {isa}",
        f"- {options.rounds} rounds of {options.iterations} iterations each, alternating, times in ms",
        "",
        "| contender | median | min | middle half | ratio to first | ratio's middle half |",
        "|---|---|---|---|---|---|",
    ]
    base = [statistics.median(times) for times in contenders[0].rounds]
    for contender in contenders:
        times = [t for turn in contender.rounds for t in turn]
        ratios = [statistics.median(turn) / first for turn, first in zip(contender.rounds, base)]
        out.append(
            f"| {contender.name} | {statistics.median(times):.2f} | {min(times):.2f} | {middle_half(times)} "
            f"| {statistics.median(ratios):.2f} | {middle_half(ratios)} |"
        )
    out += [""] + [f"- `{c.name}`: `{c.shown}`, {json.dumps(c.about)}" for c in contenders]
    return "\n".join(out) + "\n"


def middle_half(values):
    """The quartiles, as text."""
    if len(values) < 2:
        return "-"
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return f"{low:.2f}–{high:.2f}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--contender", action="append", required=True, metavar="NAME=COMMAND", help="the first is the base")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--iterations", type=int, default=5, help="counted iterations a turn")
    parser.add_argument("--title", default="Comparison")
    parser.add_argument("--output", type=Path, help="markdown file (default: stdout)")
    options = parser.parse_args()

    contenders = []
    try:
        for spec in options.contender:
            contenders.append(Contender(spec))
            contenders[-1].wait_ready()
        for index in range(options.rounds):
            shift = index % len(contenders)
            for contender in contenders[shift:] + contenders[:shift]:
                contender.turn(options.iterations)
            print(f"round {index + 1} of {options.rounds}", file=sys.stderr)
        result = table(contenders, options)
    finally:
        for contender in contenders:
            contender.close()
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(result)
    else:
        print(result, end="")


if __name__ == "__main__":
    main()
