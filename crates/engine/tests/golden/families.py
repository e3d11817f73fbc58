"""One small network of each family, for `make_golden.py`: torchvision's and timm's own classes where they have the family,
and a few lines of PyTorch where they do not. Each with the description (docs/models.md) that makes the same network here.
"""

import functools

import torch
import torch.nn.functional as F
from timm.layers import create_conv2d
from timm.models.resnet import BasicBlock, Bottleneck, ResNet
from timm.models.resnetv2 import BatchNormAct2d, ResNetV2
from torch import nn
from torchvision.models import DenseNet, GoogLeNet
from torchvision.models.convnext import CNBlockConfig, ConvNeXt
from torchvision.models.vgg import VGG, make_layers

CLASSES = 10
CHANNELS = (16, 32, 64, 128)


def conv3(inputs, outputs, stride=1, **more):
    return nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False, **more)


def stages(block, inputs, depths, widths):
    """`block(inputs, width, stride)` for every block, stride 2 at the start of every stage but the first; a block knows
    its `outputs`."""
    result = []
    for stage, (depth, width) in enumerate(zip(depths, widths)):
        blocks = []
        for index in range(depth):
            blocks.append(block(inputs, width, 2 if stage and index == 0 else 1))
            inputs = blocks[-1].outputs
        result.append(nn.Sequential(*blocks))
    return result


class Small(nn.Module):
    """conv1, perhaps bn1 and a ReLU, layer1.., perhaps bn and a ReLU, mean, fc."""

    def __init__(self, stem, layers, preactivation=False):
        super().__init__()
        self.conv1 = conv3(3, stem)
        self.bn1 = nn.Identity() if preactivation else nn.BatchNorm2d(stem)
        for index, layer in enumerate(layers, start=1):
            setattr(self, f"layer{index}", layer)
        outputs = layers[-1][-1].outputs
        self.layers = len(layers)
        self.bn = nn.BatchNorm2d(outputs) if preactivation else nn.Identity()
        self.preactivation = preactivation
        self.fc = nn.Linear(outputs, CLASSES)

    def forward(self, x):
        x = self.bn1(self.conv1(x))
        x = x if self.preactivation else F.relu(x)
        for index in range(1, self.layers + 1):
            x = getattr(self, f"layer{index}")(x)
        x = F.relu(self.bn(x)) if self.preactivation else x
        return self.fc(x.mean((2, 3)))


class PreActBlock(nn.Module):
    """He et al., arXiv:1603.05027; a shortcut that changes the shape reads what the first norm and ReLU give."""

    def __init__(self, inputs, width, stride):
        super().__init__()
        self.outputs = width
        self.bn1, self.conv1 = nn.BatchNorm2d(inputs), conv3(inputs, width, stride)
        self.bn2, self.conv2 = nn.BatchNorm2d(width), conv3(width, width)
        if stride != 1 or inputs != width:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, width, 1, stride, bias=False))

    def forward(self, x):
        y = F.relu(self.bn1(x))
        shortcut = self.downsample(y) if hasattr(self, "downsample") else x
        return self.conv2(F.relu(self.bn2(self.conv1(y)))) + shortcut


class PlainBlock(nn.Module):
    """He et al., arXiv:1512.03385, section 3.3: no shortcut."""

    def __init__(self, inputs, width, stride):
        super().__init__()
        self.outputs = width
        self.conv1, self.bn1 = conv3(inputs, width, stride), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = conv3(width, width), nn.BatchNorm2d(width)

    def forward(self, x):
        return F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))


class NeXtBlock(nn.Module):
    """The block of the lecture notes' ResNeXt-29: twice the channels at its end."""

    def __init__(self, inputs, width, stride, cardinality):
        super().__init__()
        self.outputs = 2 * width
        self.conv1, self.bn1 = nn.Conv2d(inputs, width, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = conv3(width, width, stride, groups=cardinality), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = nn.Conv2d(width, 2 * width, 1, bias=False), nn.BatchNorm2d(2 * width)
        if stride != 1 or inputs != self.outputs:
            conv = nn.Conv2d(inputs, self.outputs, 1, stride, bias=False)
            self.downsample = nn.Sequential(conv, nn.BatchNorm2d(self.outputs))

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn3(self.conv3(F.relu(self.bn2(self.conv2(y)))))
        return F.relu(y + (self.downsample(x) if hasattr(self, "downsample") else x))


class LectureBlock(nn.Module):
    """The block of the lecture notes' ResNet-50 on CIFAR-10."""

    def __init__(self, inputs, width, stride):
        super().__init__()
        self.outputs = 4 * width
        self.conv1, self.bn1 = nn.Conv2d(inputs, width, 1, stride), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, 1, 1), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = nn.Conv2d(width, 4 * width, 1), nn.BatchNorm2d(4 * width)
        self.downsample = nn.Sequential(nn.Conv2d(inputs, 4 * width, 1, stride))

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        return F.relu(self.bn3(self.conv3(y))) + self.downsample(x)


class Lecture(nn.Module):
    def __init__(self, depths, widths):
        super().__init__()
        self.conv1 = nn.Conv2d(3, widths[0], 7, 2, 3)
        inputs = widths[0]
        for stage, (depth, width) in enumerate(zip(depths, widths)):
            blocks = []
            for index in range(depth):
                halves = index + 1 == depth and stage + 1 < len(depths)
                blocks.append(LectureBlock(inputs, width, 2 if halves else 1))
                inputs = blocks[-1].outputs
            setattr(self, f"layer{stage + 1}", nn.Sequential(*blocks))
        self.fc = nn.Linear(inputs, CLASSES)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), 3, 2, 1)
        for index in range(1, 5):
            x = getattr(self, f"layer{index}")(x)
        return self.fc(x.mean((2, 3)))


def relu_conv_bn(inputs, outputs, kernel, stride=1):
    op = nn.Sequential(nn.ReLU(), nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(outputs))
    return nn.ModuleDict({"op": op})


class Cell201(nn.Module):
    """A cell of NAS-Bench-201 (Dong & Yang, arXiv:2001.00326); `ops[node - 1]` are those of the edges into a node, from the
    nodes before it."""

    def __init__(self, ops, channels):
        super().__init__()
        kernels = {"nor_conv_1x1": 1, "nor_conv_3x3": 3}
        self.ops = ops
        modules = [relu_conv_bn(channels, channels, kernels[op]) if op in kernels else nn.Identity() for row in ops for op in row]
        self.layers = nn.ModuleList(modules)

    def forward(self, x):
        nodes, index = [x], 0
        for row in self.ops:
            total = torch.zeros_like(x)
            for source, op in zip(nodes, row):
                if op == "avg_pool_3x3":
                    total = total + F.avg_pool2d(source, 3, 1, 1, count_include_pad=False)
                elif op == "skip_connect":
                    total = total + source
                elif op != "none":
                    total = total + self.layers[index]["op"](source)
                index += 1
            nodes.append(total)
        return nodes[-1]


class Reduction201(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.conv_a = relu_conv_bn(inputs, outputs, 3, 2)
        self.conv_b = relu_conv_bn(outputs, outputs, 3)
        self.downsample = nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(inputs, outputs, 1, bias=False))

    def forward(self, x):
        return self.downsample(x) + self.conv_b["op"](self.conv_a["op"](x))


class NasBench201(nn.Module):
    def __init__(self, cell, cells=5, width=16):
        super().__init__()
        ops = [[edge.split("~")[0] for edge in node.strip("|").split("|")] for node in cell.split("+")]
        self.stem = nn.Sequential(conv3(3, width), nn.BatchNorm2d(width))
        blocks = [Cell201(ops, width) for _ in range(cells)]
        for wide in (2 * width, 4 * width):
            blocks += [Reduction201(wide // 2, wide)] + [Cell201(ops, wide) for _ in range(cells)]
        self.cells = nn.ModuleList(blocks)
        self.lastact = nn.Sequential(nn.BatchNorm2d(4 * width), nn.ReLU())
        self.classifier = nn.Linear(4 * width, CLASSES)

    def forward(self, x):
        x = self.stem(x)
        for cell in self.cells:
            x = cell(x)
        return self.classifier(self.lastact(x).mean((2, 3)))


# Every op, a node that is its input, and a sum of the same value twice.
CELL = "|skip_connect~0|+|nor_conv_3x3~0|avg_pool_3x3~1|+|skip_connect~0|skip_connect~1|nor_conv_1x1~2|"


def timm_resnet(block, **more):
    return ResNet(block, [1, 1, 1, 1], num_classes=CLASSES, channels=CHANNELS, **more)


def resnetv2():
    kinds = {"conv_layer": create_conv2d, "norm_layer": BatchNormAct2d}
    return ResNetV2([1, 1, 1, 1], channels=(32, 64, 128, 256), num_classes=CLASSES, stem_chs=16, **kinds)


def convnext():
    widths = [16, 32, 64, 96]
    setting = [CNBlockConfig(a, b, 1) for a, b in zip(widths, [*widths[1:], None])]
    return ConvNeXt(setting, num_classes=CLASSES)


def vgg_bn():
    model = VGG(make_layers([8, "M", 16, "M", 16, "M", 16, "M", 16, "M"], batch_norm=True), CLASSES, dropout=0.0)
    # torchvision's class has 512 channels before and 4096 between these.
    model.classifier[0] = nn.Linear(16 * 7 * 7, 64)
    model.classifier[3] = nn.Linear(64, 64)
    model.classifier[6] = nn.Linear(64, CLASSES)
    return model


def densenet():
    return DenseNet(growth_rate=8, block_config=(2, 2, 2, 2), num_init_features=16, bn_size=2, num_classes=CLASSES)


def googlenet():
    return GoogLeNet(num_classes=CLASSES, aux_logits=False, init_weights=False, dropout=0.0)


FAMILY = 'family = "{}"\n'
TIMM = "depths = [1, 1, 1, 1]\nwidths = [16, 32, 64, 128]\n"
CIFAR, PHOTO = (8, 3, 16, 16), (8, 3, 64, 64)

# The network, the shape of its batch, and its description.
FAMILIES = {
    "resnet_d": (
        lambda: timm_resnet(BasicBlock, stem_width=8, stem_type="deep", avg_down=True),
        (8, 3, 72, 56),
        FAMILY.format("resnet") + TIMM + 'block = "basic"\nstem = "deep"\nstem_width = 16\navg_shortcut = true\n',
    ),
    "seresnet": (
        lambda: timm_resnet(Bottleneck, block_args={"attn_layer": "se"}),
        PHOTO,
        FAMILY.format("resnet") + TIMM + "squeeze_excitation = true\n",
    ),
    "resnext": (
        lambda: timm_resnet(Bottleneck, cardinality=4, base_width=16),
        PHOTO,
        FAMILY.format("resnext") + TIMM + "cardinality = 4\nbase_width = 16\n",
    ),
    "wide_resnet": (
        lambda: timm_resnet(Bottleneck, base_width=128),
        PHOTO,
        FAMILY.format("wide_resnet") + TIMM,
    ),
    "resnetv2": (
        resnetv2,
        PHOTO,
        FAMILY.format("resnetv2") + "depths = [1, 1, 1, 1]\nwidths = [32, 64, 128, 256]\nstem_width = 16\n",
    ),
    "convnext": (
        convnext,
        (8, 3, 32, 32),
        FAMILY.format("convnext") + "depths = [1, 1, 1, 1]\nwidths = [16, 32, 64, 96]\ndrop_path = 0.0\n",
    ),
    "vgg_bn": (
        vgg_bn,
        PHOTO,
        FAMILY.format("vgg")
        + "depths = [1, 1, 1, 1, 1]\nwidths = [8, 16, 16, 16, 16]\nhidden = 64\nbatch_norm = true\ndropout = 0.0\n",
    ),
    "densenet": (
        densenet,
        PHOTO,
        FAMILY.format("densenet") + "depths = [2, 2, 2, 2]\ngrowth_rate = 8\nstem_width = 16\nbottleneck = 2\n",
    ),
    "googlenet": (
        googlenet,
        (4, 3, 72, 56),
        FAMILY.format("googlenet") + "dropout = 0.0\n",
    ),
    "preact_resnet": (
        lambda: Small(16, stages(PreActBlock, 16, [1, 1, 1, 1], CHANNELS), preactivation=True),
        CIFAR,
        FAMILY.format("preact_resnet") + TIMM + "stem_width = 16\n",
    ),
    "wrn": (
        lambda: Small(16, stages(PreActBlock, 16, [1, 1, 1], [32, 64, 128]), preactivation=True),
        CIFAR,
        FAMILY.format("wrn") + "depth = 10\nwidth = 2\ndropout = 0.0\n",
    ),
    "plain": (
        lambda: Small(16, stages(PlainBlock, 16, [1, 1, 1], [16, 32, 64])),
        CIFAR,
        FAMILY.format("plain") + "depths = [1, 1, 1]\n",
    ),
    "cifar_resnext": (
        lambda: Small(16, stages(functools.partial(NeXtBlock, cardinality=4), 16, [1, 1, 1], [16, 32, 64])),
        CIFAR,
        FAMILY.format("cifar_resnext") + "depths = [1, 1, 1]\ncardinality = 4\nbase_width = 4\nout_width = 32\nstem_width = 16\n",
    ),
    "lecture_resnet": (
        lambda: Lecture([2, 1, 1, 1], [8, 16, 32, 64]),
        (8, 3, 64, 64),
        FAMILY.format("lecture_resnet") + "depths = [2, 1, 1, 1]\nwidths = [8, 16, 32, 64]\n",
    ),
    "nasbench201": (
        lambda: NasBench201(CELL, cells=1),
        CIFAR,
        FAMILY.format("nasbench201") + f'cell = "{CELL}"\ncells = 1\n',
    ),
}


def in_order_of_computation(keys):
    """The keys of a state dict in the order that they have here: timm's pre-activation blocks list their shortcut before
    the norm that it reads."""
    result = list(keys)
    for key in keys:
        path, found, _ = key.partition(".downsample.conv.")
        last = f"{path}.norm1.num_batches_tracked"
        if found and last in result:
            result.remove(key)
            result.insert(result.index(last) + 1, key)
    return result
