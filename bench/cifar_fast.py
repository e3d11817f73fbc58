"""An epoch of the recipe cifar-fast in `residual` and in PyTorch, in turns.

    python bench/cifar_fast.py --residual target/release/residual --data-dir cifar-10-batches-bin --turns 5 --steps 120

PyTorch gets the recipe's network (ResNet-20, option B), batch size 128, Muon on the convolutions and AdamW on the rest, and the
recipe's augmentation (reflected padding of 2 pixels, random crop, alternating flip), which it computes for a whole batch at once on
images that are already in memory as floats. The faster of its memory formats, NCHW and channels_last, is measured first and
compared. Both print the seconds of an epoch of 50,000 images and the processor time that it takes.
"""

import argparse
import csv
import json
import os
import pathlib
import resource
import statistics
import subprocess
import tempfile
import time

import numpy
import torch
from torch import nn
from torch.nn import functional

IMAGES, BATCH, CHANNELS = 50_000, 128, (16, 32, 64)


class Matrix(nn.Module):
    """A convolution whose weight is a matrix of outputs × the rest, as torch.optim.Muon wants it."""

    def __init__(self, inputs, outputs, kernel, stride):
        super().__init__()
        self.shape = (outputs, inputs, kernel, kernel)
        self.weight = nn.Parameter(torch.randn(outputs, inputs * kernel * kernel) * (2 / (inputs * kernel**2)) ** 0.5)
        self.stride, self.padding = stride, kernel // 2

    def forward(self, x):
        return functional.conv2d(x, self.weight.view(self.shape), stride=self.stride, padding=self.padding)


class Block(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1, self.bn1 = Matrix(inputs, outputs, 3, stride), nn.BatchNorm2d(outputs)
        self.conv2, self.bn2 = Matrix(outputs, outputs, 3, 1), nn.BatchNorm2d(outputs)
        self.downsample = nn.Identity()
        if stride > 1:
            self.downsample = nn.Sequential(Matrix(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs))

    def forward(self, x):
        y = functional.relu(self.bn1(self.conv1(x)))
        return functional.relu(self.bn2(self.conv2(y)) + self.downsample(x))


class ResNet20(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = Matrix(3, 16, 3, 1), nn.BatchNorm2d(16)
        blocks, inputs = [], 16
        for stage, outputs in enumerate(CHANNELS):
            for block in range(3):
                blocks.append(Block(inputs, outputs, 2 if stage > 0 and block == 0 else 1))
                inputs = outputs
        self.blocks, self.fc = nn.Sequential(*blocks), nn.Linear(64, 10)

    def forward(self, x):
        x = self.blocks(functional.relu(self.bn1(self.conv1(x))))
        return self.fc(x.mean((2, 3)))


class Torch:
    def __init__(self, data, memory_format):
        files = [data / f"data_batch_{index}.bin" for index in range(1, 6)]
        rows = numpy.concatenate([numpy.fromfile(file, numpy.uint8).reshape(-1, 3073) for file in files])
        mean = torch.tensor([0.4914, 0.4822, 0.4465]).view(3, 1, 1)
        std = torch.tensor([0.247, 0.2435, 0.2616]).view(3, 1, 1)
        images = (torch.from_numpy(rows[:, 1:].reshape(-1, 3, 32, 32)).float() / 255 - mean) / std
        self.images = functional.pad(images, (2, 2, 2, 2), mode="reflect")
        self.labels = torch.from_numpy(rows[:, 0].astype(numpy.int64))
        self.format = memory_format
        self.net = ResNet20().to(memory_format=memory_format)
        matrices = [module.weight for module in self.net.modules() if isinstance(module, Matrix)]
        chosen = {id(weight) for weight in matrices}
        others = [parameter for parameter in self.net.parameters() if id(parameter) not in chosen]
        muon = torch.optim.Muon(
            matrices, lr=0.01, weight_decay=0.05, momentum=0.95, nesterov=True, adjust_lr_fn="match_rms_adamw"
        )
        self.optimizers = [muon, torch.optim.AdamW(others, lr=0.01, weight_decay=0.0)]
        self.order, self.place = torch.randperm(IMAGES), 0

    def batch(self):
        if self.place + BATCH > IMAGES:
            self.order, self.place = torch.randperm(IMAGES), 0
        chosen = self.order[self.place : self.place + BATCH]
        self.place += BATCH
        shift = torch.randint(0, 5, (2, BATCH, 1))
        pixels = torch.arange(32).expand(BATCH, 32)
        rows, columns = pixels + shift[0], pixels + shift[1]
        columns = torch.where((chosen % 2 == 0)[:, None], columns, columns.flip(1))
        index = torch.arange(BATCH)[:, None, None, None]
        channel = torch.arange(3)[None, :, None, None]
        images = self.images[chosen][index, channel, rows[:, None, :, None], columns[:, None, None, :]]
        return images.contiguous(memory_format=self.format), self.labels[chosen]

    def run(self, steps):
        """Seconds and processor seconds of an epoch."""
        self.step()
        start, used = time.perf_counter(), processor(resource.RUSAGE_SELF)
        for _ in range(steps):
            self.step()
        share = IMAGES / (steps * BATCH)
        return (time.perf_counter() - start) * share, (processor(resource.RUSAGE_SELF) - used) * share

    def step(self):
        images, labels = self.batch()
        loss = functional.cross_entropy(self.net(images), labels)
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        loss.backward()
        for optimizer in self.optimizers:
            optimizer.step()


def processor(who):
    usage = resource.getrusage(who)
    return usage.ru_utime + usage.ru_stime


def ours(arguments, folder):
    """Seconds and processor seconds of an epoch. The processor time includes the start and the evaluation at the end."""
    used = processor(resource.RUSAGE_CHILDREN)
    command = [arguments.residual, "-q", "train", "--recipe", arguments.recipe, "--data-dir", arguments.data_dir]
    command += ["--max-steps", str(arguments.steps), "--threads", str(arguments.threads), "--no-report"]
    subprocess.run(command + ["--output", str(folder)], check=True, stdout=subprocess.DEVNULL)
    used = processor(resource.RUSAGE_CHILDREN) - used
    rows = list(csv.DictReader(open(sorted(folder.glob("*/metrics.csv"))[-1])))
    return IMAGES / float(rows[-1]["images_per_second"]), used * IMAGES / (arguments.steps * BATCH)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--residual", required=True)
    parser.add_argument("--data-dir", required=True)
    parser.add_argument("--recipe", default="cifar-fast", help="or its file, for a binary that does not have it")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    data = pathlib.Path(arguments.data_dir)
    formats = [torch.contiguous_format, torch.channels_last]
    runners = [Torch(data, memory_format) for memory_format in formats]
    times = [runner.run(arguments.steps // 4)[0] for runner in runners]
    fastest = runners[times.index(min(times))]
    results = {"residual": [], "torch": []}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(arguments.turns):
            results["torch"].append(fastest.run(arguments.steps))
            results["residual"].append(ours(arguments, pathlib.Path(folder)))
    median = {name: [statistics.median(column) for column in zip(*rows)] for name, rows in results.items()}
    print(json.dumps({
        "torch": torch.__version__,
        "format": str(fastest.format),
        "seconds_per_epoch": {name: row[0] for name, row in median.items()},
        "processor_seconds_per_epoch": {name: row[1] for name, row in median.items()},
        "ratio": median["torch"][0] / median["residual"][0],
        "turns": results,
    }, indent=2))


if __name__ == "__main__":
    main()
