"""Scores of a linear classifier, of nearest neighbours on raw pixels, and of a ResNet-20 on shapes10.

    cargo run --release -p residual-data --example export_shapes10 -- /tmp/shapes10
    python crates/data/examples/shapes10_baselines.py /tmp/shapes10 [--resnet]

Needs numpy, pillow and torch. docs/datasets.md records what it printed.
"""

import sys
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

torch.manual_seed(0)
torch.set_num_threads(2)


def load(folder):
    images, labels = [], []
    names = sorted(path.name for path in folder.iterdir())
    for label, name in enumerate(names):
        for path in sorted((folder / name).iterdir()):
            images.append(np.asarray(Image.open(path).convert("RGB")))
            labels.append(label)
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255, torch.tensor(labels), names


def linear(x, y, test_x, test_y):
    """Multinomial logistic regression on pixels, the best of several strengths of weight decay, chosen on the test set."""
    best = 0.0
    for decay in (0.0, 1e-3, 1e-2, 1e-1):
        model = nn.Linear(x.shape[1], 10)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=decay)
        for _ in range(15):
            for batch in torch.randperm(len(x)).split(250):
                optimizer.zero_grad()
                F.cross_entropy(model(x[batch]), y[batch]).backward()
                optimizer.step()
            best = max(best, (model(test_x).argmax(1) == test_y).float().mean().item())
    return best


def neighbours(x, y, test_x, test_y):
    """k nearest neighbours by Euclidean distance, the best k."""
    near = torch.cat([torch.cdist(part, x).topk(20, largest=False).indices for part in test_x.split(500)])
    scores = {k: (y[near[:, :k]].mode(1).values == test_y).float().mean().item() for k in (1, 3, 5, 10, 20)}
    return max(scores.values())


class Block(nn.Module):
    def __init__(self, i, o, stride):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(i, o, 3, stride, 1, bias=False), nn.BatchNorm2d(o)
        self.conv2, self.bn2 = nn.Conv2d(o, o, 3, 1, 1, bias=False), nn.BatchNorm2d(o)
        self.down = nn.Sequential()
        if stride != 1 or i != o:
            self.down = nn.Sequential(nn.Conv2d(i, o, 1, stride, bias=False), nn.BatchNorm2d(o))

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + self.down(x))


def resnet20():
    blocks = [Block(i, o, s) for w, i in ((16, 16), (32, 16), (64, 32)) for i, o, s in
              ((i, w, w // i), (w, w, 1), (w, w, 1))]
    net = nn.Sequential(nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(), *blocks,
                        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return net


def resnet(x, y, test_x, test_y, names, epochs=5, peak=0.1, warmup=40, decay=5e-4, padding=2):
    """SGD with Nesterov momentum; the rate rises linearly for `warmup` steps, then falls along a cosine to 0."""
    net, steps = resnet20(), epochs * (len(x) // 128)
    net = net.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(net.parameters(), lr=peak, momentum=0.9, nesterov=True, weight_decay=decay)
    cosine = lambda s: 0.5 * (1 + np.cos(np.pi * (s - warmup) / (steps - warmup)))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda s: (s + 1) / warmup if s < warmup else cosine(s))
    padded = F.pad(x, (padding,) * 4)
    for epoch in range(epochs):
        start, total = time.time(), 0.0
        net.train()
        for batch in torch.randperm(len(x)).split(128)[: len(x) // 128]:
            top, left = torch.randint(0, 2 * padding + 1, (2, len(batch)))
            images = torch.stack([padded[i, :, t : t + 32, l : l + 32] for i, t, l in zip(batch, top, left)])
            flip = torch.rand(len(batch)) < 0.5
            images[flip] = images[flip].flip(3)
            loss = F.cross_entropy(net(images.contiguous(memory_format=torch.channels_last)), y[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
        net.eval()
        with torch.no_grad():
            guess = torch.cat([net(part).argmax(1) for part in test_x.split(500)])
        correct = guess == test_y
        print(f"epoch {epoch + 1}: loss {total / (len(x) // 128):.3f} test {100 * correct.float().mean():.2f} % "
              f"{time.time() - start:.0f} s", flush=True)
    for label, name in enumerate(names):
        confused = guess[test_y == label].bincount(minlength=10)
        print(f"  {name:10} {100 * confused[label] / confused.sum():5.1f} %  {confused.tolist()}")


def main():
    root = Path(sys.argv[1])
    x, y, names = load(root / "train")
    test_x, test_y, _ = load(root / "test")
    mean, std = x.mean((0, 2, 3)), x.std((0, 2, 3))
    print("mean", [round(v, 4) for v in mean.tolist()], "std", [round(v, 4) for v in std.tolist()])
    x, test_x = ((v - mean[:, None, None]) / std[:, None, None] for v in (x, test_x))
    flat = x.flatten(1), y, test_x.flatten(1), test_y
    print(f"linear {100 * linear(*flat):.1f} %  nearest neighbours {100 * neighbours(*flat):.1f} %", flush=True)
    if "--resnet" in sys.argv:
        resnet(x, y, test_x, test_y, names)


if __name__ == "__main__":
    main()
