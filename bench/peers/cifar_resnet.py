"""CIFAR ResNets of He et al. 2015, section 4.2, for PyTorch: depth 6n + 2, three stages of 16, 32 and 64 channels.

The parameter names are `conv1, bn1, layer1..3.N.{conv1,bn1,conv2,bn2,downsample.{0,1}}, fc`. Where a stage changes the
shape, option B projects the shortcut (a 1x1 convolution with stride 2 and a batch norm), and option A subsamples it and
pads zero channels, half of them before and half after.
"""

import torch.nn.functional as F
from torch import nn


class PadShortcut(nn.Module):
    """Option A: no parameters."""

    def __init__(self, added_channels):
        super().__init__()
        self.pad = added_channels // 2

    def forward(self, x):
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.pad, self.pad))


class Block(nn.Module):
    def __init__(self, inputs, outputs, stride, option):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        if stride == 1 and inputs == outputs:
            self.downsample = nn.Identity()
        elif option == "A":
            self.downsample = PadShortcut(outputs - inputs)
        else:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.downsample(x))


class CifarResNet(nn.Module):
    def __init__(self, depth, option="B", num_classes=10):
        super().__init__()
        if depth % 6 != 2:
            raise ValueError(f"depth must be 6n + 2, got {depth}")
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        inputs = 16
        for stage, outputs in enumerate((16, 32, 64), start=1):
            blocks = []
            for index in range(depth // 6):
                stride = 2 if stage > 1 and index == 0 else 1
                blocks.append(Block(inputs, outputs, stride, option))
                inputs = outputs
            setattr(self, f"layer{stage}", nn.Sequential(*blocks))
        self.fc = nn.Linear(64, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(x.mean((2, 3)))
