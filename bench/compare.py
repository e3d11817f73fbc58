"""Times several programs in turn, so that a shared machine's drift hits all of them, and writes a markdown table.

    python bench/compare.py --rounds 10 --iterations 5 --title "ResNet-50, batch 1, 2 threads" \\
        --contender ours='target/release/residual bench resnet50 --batch 1 --threads 2 --serve' \\
        --contender torch='python bench/peers/torch_peer.py infer --model resnet50 --threads 2 --variant channels_last --serve' \\
        --output bench/results/2025-01-31-resnet50-b1.md

A contender is a command that, once warm, prints one line `{"ready": {...}}` on stdout (what it says about itself goes into the
table), answers each line `run N` on stdin with `{"ms": [N times]}` on stdout, and leaves at `quit` or the end of input. To
`logits FILE.npy` (f32, N x 3 x H x W, normalised) it answers `{"logits": [N rows]}`: what the network says of these images by
the weights it was given, in training mode for one that trains. This script never asks; `side_by_side.py`, which uses the
classes below, does.

Each round runs every contender once, in an order that turns by one each round. Between its turns a contender's whole
process group is stopped (SIGSTOP), so that spinning worker threads take nothing from the others; the first iteration of a
turn, which finds cold caches, is not counted. The ratio of a contender is the median over the rounds of its time in that
round over the first contender's.
"""

import argparse
import contextlib
import datetime
import json
import os
import platform
import shlex
import signal
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path


class Failed(Exception):
    """A contender did not start, or gave no proper answer."""


class Contender:
    """A program that answers on stdout what it is asked on stdin, in a process group of its own.

    `env` is added to this process's; what it says on stderr goes to the end of the file `log`; one that takes longer than `limit`
    seconds for an answer is ended.
    """

    def __init__(self, name, words, env=None, log=None, limit=None):
        self.name, self.words, self.env, self.log = name, words, env, log
        self.limit = limit
        self.rounds = []  # one list of times in ms a round
        # In the table: results are published, and where this machine keeps its files is nobody's business.
        shown = [Path(word).name if word.startswith(("/", "~")) else word for word in words]
        self.shown = shlex.join([f"{key}={value}" for key, value in (env or {}).items()] + shown)
        self.open()

    def open(self):
        try:
            with self.log.open("a") if self.log else contextlib.nullcontext() as stderr:
                self.process = subprocess.Popen(
                    self.words,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=stderr,
                    text=True,
                    start_new_session=True,
                    env=os.environ | (self.env or {}),
                )
        except OSError as error:
            raise Failed(f"{self.name}: {error}") from error

    def restart(self):
        """A new process in the place of this one: where its memory lies is drawn again."""
        self.close()
        self.open()
        self.wait_ready()

    @classmethod
    def from_spec(cls, spec):
        name, separator, command = spec.partition("=")
        if not separator or not command:
            raise Failed(f"--contender {spec!r}: expected NAME=COMMAND")
        return cls(name, shlex.split(command))

    def read(self, key):
        watchdog = threading.Timer(self.limit or threading.TIMEOUT_MAX, self.signal, [signal.SIGKILL])
        watchdog.daemon = True
        watchdog.start()
        line = self.process.stdout.readline()
        watchdog.cancel()
        try:
            return json.loads(line)[key]
        except (ValueError, KeyError, TypeError):
            got = line.strip() or "the end of its output"
            raise Failed(f"{self.name}: expected a line with {key!r}, got {got!r}") from None

    def wait_ready(self):
        began = time.monotonic()
        self.about = self.read("ready")
        self.start_seconds = time.monotonic() - began
        self.signal(signal.SIGSTOP)

    def ask(self, line, key):
        """Wakes the contender for one question, and has it sleep again."""
        self.signal(signal.SIGCONT)
        try:
            self.process.stdin.write(line + "\n")
            self.process.stdin.flush()
        except OSError:
            pass  # It has left: reading says so.
        answer = self.read(key)
        self.signal(signal.SIGSTOP)
        return answer

    def turn(self, iterations):
        self.rounds.append(self.ask(f"run {iterations + 1}", "ms")[1:])

    def peak_mib(self):
        """The largest resident memory that the process has had so far."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
        raise Failed(f"{self.name}: the kernel does not say how much memory it has had")

    def signal(self, number):
        try:
            os.killpg(self.process.pid, number)
        except ProcessLookupError:
            pass  # It has left; whoever reads its answer will notice.

    def close(self):
        """Lets the process leave by itself, and ends it if it does not."""
        try:
            self.signal(signal.SIGCONT)
            self.process.stdin.close()
            self.process.wait(10)
        except (subprocess.TimeoutExpired, OSError):
            self.signal(signal.SIGKILL)
            self.process.wait()


def close_all(contenders):
    for contender in contenders:
        contender.close()


def ratios_to(base, contender):
    """The contender's time over the base's, round by round, in the rounds in which both ran."""
    pairs = zip(contender.rounds, base.rounds)
    return [statistics.median(theirs) / statistics.median(ours) for theirs, ours in pairs if theirs and ours]


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
    for contender in contenders:
        times = [t for turn in contender.rounds for t in turn]
        ratios = ratios_to(contenders[0], contender)
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
            contenders.append(Contender.from_spec(spec))
            contenders[-1].wait_ready()
        for index in range(options.rounds):
            shift = index % len(contenders)
            for contender in contenders[shift:] + contenders[:shift]:
                contender.turn(options.iterations)
            print(f"round {index + 1} of {options.rounds}", file=sys.stderr)
        result = table(contenders, options)
    except Failed as failure:
        raise SystemExit(str(failure))
    finally:
        close_all(contenders)
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(result)
    else:
        print(result, end="")


if __name__ == "__main__":
    main()
