"""Writes the golden files beside this script: maps by captum and pytorch-grad-cam.

    python make_golden.py [DATA]          (needs torch, captum 0.9, grad-cam 1.5.7, scikit-learn, safetensors)

`tiny.safetensors`: a CIFAR ResNet with shortcuts of option A, one block a stage, 4, 6 and 8 channels, whose weights and images
are drawn here and stored in the file, so that the test needs nothing else.

`akamaster.safetensors`, with DATA: akamaster's ResNet-20 on images of CIFAR-10's test set, of which only the results are stored.
DATA is a folder with `akamaster/resnet20-12fca82f.th` and `cifar-10-batches-bin/test_batch.bin`.

Both hold, for image n and its target class:

    logits                     images x classes
    targets, against           the class of each image, and the class that it is contrasted with
    grad-cam, grad-cam++, layer-cam, hires-cam, eigen-cam
                               the map of the last block, images x height x width, scaled to 0..1
    grad-cam.layers            Grad-CAM of the last blocks of the second and third stage
    grad-cam.contrast          Grad-CAM of the difference of the two logits
    saliency                   |gradient|, the largest of the channels
    integrated-gradients       summed over the channels; Gauss-Legendre rule of 50 points, from zeros
    occlusion                  windows of 5 pixels, 3 apart, covered with zeros
    road                       ROAD combined for the Grad-CAM map: the mean and the standard deviation over 20 draws of its noise

Networks run in float64. EigenCAM's sign is arbitrary; it is the one that correlates with the sum of the channels.

`tsne.json`: the divergence that scikit-learn's exact t-SNE reaches for a formula's vectors.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from captum.attr import IntegratedGradients, Occlusion, Saliency
from pytorch_grad_cam import EigenCAM, GradCAM, GradCAMPlusPlus, HiResCAM, LayerCAM
from pytorch_grad_cam.metrics.road import ROADCombined
from pytorch_grad_cam.utils.image import scale_cam_image
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from safetensors.torch import save_file
from torch import nn

HERE = Path(__file__).parent


class Block(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.stride, self.more = stride, outputs - inputs

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.more or self.stride > 1:
            pad = self.more // 2
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, pad, pad))
        return F.relu(x + y)


class Net(nn.Module):
    def __init__(self, blocks, widths, classes):
        super().__init__()
        self.conv1 = nn.Conv2d(3, widths[0], 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        inputs = widths[0]
        for stage, width in enumerate(widths):
            layers = []
            for block in range(blocks):
                layers.append(Block(inputs, width, 2 if stage and not block else 1))
                inputs = width
            setattr(self, f"layer{stage + 1}", nn.Sequential(*layers))
        self.fc = nn.Linear(inputs, classes)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(x.mean((2, 3)))


class ContrastTarget:
    def __init__(self, a, b):
        self.a, self.b = a, b

    def __call__(self, output):
        return output[..., self.a] - output[..., self.b]


def results(net, images, targets, against):
    net = net.double().eval()
    images = images.double()
    last = [net.layer3[-1]]
    classes = [ClassifierOutputTarget(int(k)) for k in targets]
    found = {
        "logits": net(images).detach(),
        "targets": targets,
        "against": against,
    }
    methods = {
        "grad-cam": GradCAM,
        "grad-cam++": GradCAMPlusPlus,
        "layer-cam": LayerCAM,
        "hires-cam": HiResCAM,
    }
    for name, method in methods.items():
        found[name] = torch.from_numpy(method(net, last)(images, classes))
    found["grad-cam.layers"] = torch.from_numpy(GradCAM(net, [net.layer2[-1], net.layer3[-1]])(images, classes))
    contrasts = [ContrastTarget(int(a), int(b)) for a, b in zip(targets, against)]
    found["grad-cam.contrast"] = torch.from_numpy(GradCAM(net, last)(images, contrasts))

    values = []
    hook = net.layer3[-1].register_forward_hook(lambda module, inputs, output: values.append(output.detach()))
    net(images)
    hook.remove()
    eigen = EigenCAM(net, last)
    raw = torch.from_numpy(eigen.get_cam_image(None, None, None, values[0].numpy(), None, False))
    totals = values[0].sum(1)
    sign = torch.sign((raw * totals).sum((1, 2), keepdim=True))
    size = images.shape[:1:-1]
    found["eigen-cam"] = torch.from_numpy(
        scale_cam_image(scale_cam_image(np.maximum((raw * sign).numpy(), 0), tuple(size)))
    )

    targets = targets.long()
    found["saliency"] = Saliency(net).attribute(images, targets).amax(1).detach()
    found["integrated-gradients"] = IntegratedGradients(net).attribute(images, 0.0, targets, n_steps=50).sum(1).detach()
    found["occlusion"] = Occlusion(net).attribute(images, (3, 5, 5), (3, 3, 3), 0.0, targets)[:, 0].detach()

    maps, draws = found["grad-cam"].numpy(), []
    torch.manual_seed(0)
    for _ in range(20):
        draws.append(ROADCombined()(images.float(), maps, classes, lambda x: net(x.double())))
    draws = torch.from_numpy(np.array(draws))
    found["road"] = torch.stack([draws.mean(0), draws.std(0)], 1)
    return {name: value.float().contiguous() for name, value in found.items()}


def tiny():
    torch.manual_seed(1)
    net = Net(1, [4, 6, 8], 5)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
            nn.init.uniform_(module.running_mean, -0.3, 0.3)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    images = torch.randn(2, 3, 24, 20)
    images = F.interpolate(F.avg_pool2d(images, 4), scale_factor=4, mode="bilinear") + 0.2 * images
    weights = {f"weights.{name}": value.float() for name, value in net.state_dict().items() if "num_batches" not in name}
    found = results(net, images, torch.tensor([3.0, 1.0]), torch.tensor([0.0, 4.0]))
    save_file({**weights, "images": images.contiguous(), **found}, HERE / "tiny.safetensors")


def akamaster(data):
    state = torch.load(data / "akamaster/resnet20-12fca82f.th", map_location="cpu")["state_dict"]
    net = Net(3, [16, 32, 64], 10)
    net.load_state_dict({name.removeprefix("module.").replace("linear.", "fc."): value for name, value in state.items()})
    images = 2
    raw = np.fromfile(data / "cifar-10-batches-bin/test_batch.bin", np.uint8, images * 3073).reshape(images, 3073)
    pixels = torch.from_numpy(raw[:, 1:].reshape(images, 3, 32, 32)).float() / 255
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    pixels = (pixels - mean[:, None, None]) / std[:, None, None]
    targets = torch.from_numpy(raw[:, 0].astype(np.float32))
    save_file(results(net, pixels, targets, (targets + 3) % 10), HERE / "akamaster.safetensors")


def tsne():
    from sklearn.manifold import TSNE

    rows, columns = 80, 6
    i, j = np.arange(rows)[:, None], np.arange(columns)[None]
    vectors = (np.sin(0.37 * i * (j + 1)) + 2.0 * (i % 3 == j)).astype(np.float32)
    fitted = TSNE(perplexity=12, init="pca", method="exact", max_iter=1000, random_state=0).fit(vectors)
    golden = {"rows": rows, "columns": columns, "perplexity": 12, "divergence": float(fitted.kl_divergence_)}
    (HERE / "tsne.json").write_text(json.dumps(golden) + "\n")


if __name__ == "__main__":
    torch.set_num_threads(1)
    tiny()
    tsne()
    if len(sys.argv) > 1:
        akamaster(Path(sys.argv[1]))
