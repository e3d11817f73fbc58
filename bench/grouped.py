"""Times grouped and depthwise convolutions layer by layer beside PyTorch's, in turn, and writes a markdown table.

    cargo bench -p residual-kernels --bench grouped --no-run     # prints the program's path
    python bench/grouped.py --ours target/release/deps/grouped-HASH --threads 2 --rounds 5 \\
        --output bench/results/2025-01-31-grouped.md

Each round times every layer by our kernels, by PyTorch's with NCHW and with channels-last tensors. The ratio of a layer is our
least median of a round over PyTorch's least, of both layouts: what else the machine does only adds time, and most where
threads wait for each other. Below 1 is a win. Forward is without
gradients (ours: with weights packed before, as in a network that predicts); training is forward, backward-data and
backward-weights (ours: with packing weights).
"""

import argparse
import datetime
import platform
import statistics
import subprocess
import time
from pathlib import Path

import torch
from torch.nn.functional import conv2d

# size, channels, kernel, stride, groups
LAYERS = {
    "convnext_tiny": [(56, 96, 7, 1, 96), (28, 192, 7, 1, 192), (14, 384, 7, 1, 384), (7, 768, 7, 1, 768)],
    "resnext50_32x4d": [
        (56, 128, 3, 1, 32),
        (56, 256, 3, 2, 32),
        (28, 256, 3, 1, 32),
        (28, 512, 3, 2, 32),
        (14, 512, 3, 1, 32),
        (14, 1024, 3, 2, 32),
        (7, 1024, 3, 1, 32),
    ],
}
RUNS, SECONDS = 3, 0.06
FORMATS = [torch.contiguous_format, torch.channels_last]


def median_ms(run):
    run()
    times, start = [], time.perf_counter()
    while len(times) < RUNS or time.perf_counter() - start < SECONDS:
        begin = time.perf_counter()
        run()
        times.append(1e3 * (time.perf_counter() - begin))
    return statistics.median(times)


def torch_ms(images, layer, training, memory_format):
    size, channels, kernel, stride, groups = layer
    x = torch.randn(images, channels, size, size).to(memory_format=memory_format).requires_grad_()
    w = torch.randn(channels, channels // groups, kernel, kernel).to(memory_format=memory_format).requires_grad_()
    forward = lambda: conv2d(x, w, None, stride, kernel // 2, 1, groups)
    with torch.no_grad():
        if not training:
            return median_ms(forward)
        dy = torch.randn_like(forward())
    return median_ms(lambda: torch.autograd.grad(forward(), (x, w), dy))


def ours_ms(program, images, layer, training):
    print(images, *layer, file=program.stdin, flush=True)
    times = [float(word) for word in program.stdout.readline().split()]
    return times[3] if training else times[0]


def spread(times):
    return f"{statistics.median(times):.3f} ({min(times):.3f}–{max(times):.3f})"


def cpu():
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":")[1].strip()
    return platform.processor()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ours", required=True, help="the kernels' bench program `grouped`")
    parser.add_argument("--isa", default="avx512")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    command = [arguments.ours, str(arguments.threads), arguments.isa]
    program = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    cases = [
        (network, images, training, layer)
        for network, layers in LAYERS.items()
        for images, training in [(1, False), (8, False), (16, False), (16, True)]
        for layer in layers
    ]
    times = {case: ([], [], []) for case in cases}
    for _ in range(arguments.rounds):
        for case, (ours, *theirs) in times.items():
            _, images, training, layer = case
            for memory_format, rounds in zip(FORMATS, theirs):
                rounds.append(torch_ms(images, layer, training, memory_format))
            time.sleep(0.02)  # PyTorch's threads spin before they sleep
            ours.append(ours_ms(program, images, layer, training))
    lines = [
        f"{datetime.date.today()}, {cpu()}, {arguments.isa}, {arguments.threads} threads, torch {torch.__version__}, "
        f"{arguments.rounds} rounds; ms: median (least–most) of the rounds' medians.",
        "",
        "| network | batch | pass | layer | ours | torch | torch, channels last | ratio |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for (network, images, training, layer), (ours, *theirs) in times.items():
        size, channels, kernel, stride, groups = layer
        ratio = min(ours) / min(map(min, theirs))
        name = f"{kernel}×{kernel} {channels} @{size} /{stride} in {groups}"
        cells = [network, images, "training" if training else "forward", name, *map(spread, [ours, *theirs])]
        lines.append("| " + " | ".join(map(str, cells)) + f" | {ratio:.2f} |")
    text = "\n".join(lines) + "\n"
    print(text)
    if arguments.output:
        arguments.output.write_text("# Grouped and depthwise convolutions beside PyTorch\n\n" + text)


if __name__ == "__main__":
    main()
