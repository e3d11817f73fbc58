"""Times torchvision's and timm's loaders, and JPEG decoders, on a folder of photographs.

    python loader_peer.py FOLDER --variant torchvision|timm|torchvision-eval|pillow|turbojpeg [--workers 1] [--limit 500] --serve

answers `../compare.py` as torch_peer.py does; an iteration is one pass over `--limit` images. `torchvision` is a DataLoader of ImageFolder
(Pillow) with RandomResizedCrop(224), RandomHorizontalFlip, ToTensor and Normalize; `timm` is timm's create_loader with
`--aa` (rand-m9-mstd0.5-mmax9-inc1: above magnitude 9 Pillow 13 refuses timm's posterize) and its prefetcher, without random erasing, both with persistent workers and batches of
`--batch`. `pillow` and `turbojpeg` (the package simplejpeg) decode files in memory to RGB.
"""

import argparse
import io
import json
import sys
import time
import warnings

import torch
import torchvision
from PIL import Image

warnings.filterwarnings("ignore")
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def spread(dataset, limit):
    """As many samples as asked for, from all classes; those that the example loader_speed takes."""
    count = min(limit, len(dataset))
    return [at * len(dataset) // count for at in range(count)]


def torchvision_loader(options, evaluation=False):
    transforms = torchvision.transforms
    if evaluation:
        first = [transforms.Resize(256), transforms.CenterCrop(224)]
    else:
        first = [transforms.RandomResizedCrop(224), transforms.RandomHorizontalFlip()]
    transform = transforms.Compose([*first, transforms.ToTensor(), transforms.Normalize(MEAN, STD)])
    folder = torchvision.datasets.ImageFolder(options.folder, transform)
    return torch.utils.data.DataLoader(
        torch.utils.data.Subset(folder, spread(folder, options.limit)),
        batch_size=options.batch,
        num_workers=options.workers,
        persistent_workers=options.workers > 0,
    )


def timm_loader(options):
    import timm.data

    folder = timm.data.create_dataset("", options.folder, split="", is_training=True)
    folder.reader.samples = [folder.reader.samples[at] for at in spread(folder, options.limit)]
    return timm.data.create_loader(
        folder,
        input_size=(3, 224, 224),
        batch_size=options.batch,
        is_training=True,
        auto_augment=options.aa,
        color_jitter=0.0,
        num_workers=options.workers,
        device=torch.device("cpu"),
    )


def decoder(options):
    folder = torchvision.datasets.ImageFolder(options.folder)
    files = [open(folder.samples[at][0], "rb").read() for at in spread(folder, options.limit)]
    if options.variant == "turbojpeg":
        import simplejpeg

        # fastdct and fastupsample are off by default: libjpeg-turbo's accurate methods, as Pillow's.
        decode = simplejpeg.decode_jpeg
    else:
        def decode(file):
            return Image.open(io.BytesIO(file)).convert("RGB")

    def run():
        for file in files:
            decode(file)
        return len(files)

    return run


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("--variant", required=True)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--limit", type=int, default=500)
    parser.add_argument("--aa", default="rand-m9-mstd0.5-mmax9-inc1")
    parser.add_argument("--serve", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.variant in ("pillow", "turbojpeg"):
        run = decoder(options)
    else:
        if options.variant == "timm":
            loader = timm_loader(options)
        else:
            loader = torchvision_loader(options, options.variant == "torchvision-eval")

        def run():
            return sum(len(images) for images, _ in loader)

    images = run()
    print(json.dumps({"ready": {"what": options.variant, "images": images}}), flush=True)
    for line in sys.stdin:
        word, *rest = line.split()
        if word != "run":
            break
        times = []
        for _ in range(int(rest[0])):
            start = time.perf_counter()
            run()
            times.append((time.perf_counter() - start) * 1e3)
        print(json.dumps({"ms": times}), flush=True)


if __name__ == "__main__":
    main()
