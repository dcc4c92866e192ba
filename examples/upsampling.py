"""One small U-Net with each of six upsamplings: what their logits look like, and how much of it is checkerboard."""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib as mpl
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import delineate as dl
from delineate.data.digits import DigitScenes
from delineate.explain.checkerboard import checkerboard_energy, overlap_map, resize_overlap_map

UPSAMPLINGS = ("nearest", "bilinear", "bed_of_nails", "max_unpool", "transposed", "resize_conv")


def scenes(split: str, count: int, size: int) -> tuple[Tensor, Tensor]:
    """Images from -1 to 1 of the embedded data, and maps of 0 (background) and 1 (a digit)."""
    items = [DigitScenes(split, size=(size, size))[index] for index in range(count)]
    images = torch.stack([image.as_subclass(Tensor) for image, _ in items])
    labels = torch.stack([target["semantic_mask"].as_subclass(Tensor) for _, target in items])
    return images / 127.5 - 1, (labels > 0).long()


def digit_logits(model: nn.Module, images: Tensor) -> Tensor:
    """How much the digits' logit is above the background's, at each pixel."""
    with torch.inference_mode():
        logits = model.eval()(images).logits
    return logits[:, 1] - logits[:, 0]


def trained(model: nn.Module, images: Tensor, labels: Tensor, *, steps: int) -> nn.Module:
    """The model after some steps of AdamW, each on the next 16 scenes."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    model.train()
    for step in range(steps):
        batch = slice(16 * step, 16 * step + 16)
        loss = F.cross_entropy(model(images[batch]).logits, labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model


def draw(planes: dict[str, Tensor], path: Path, *, columns: int, zoom: int = 192) -> None:
    """A grid of grey pictures of ``zoom`` pixels with their names, without smoothing."""
    mpl.use("Agg")
    from matplotlib import pyplot

    rows, width, height = -(-len(planes) // columns), zoom + 8, zoom + 24
    figure = pyplot.figure(figsize=(columns * width / 100, rows * height / 100), dpi=100)
    for place, (name, plane) in enumerate(planes.items()):
        left, bottom = place % columns / columns, 1 - (place // columns + 1) / rows
        axis = figure.add_axes((left, bottom, zoom / width / columns, zoom / height / rows))
        picture = plane.movedim(0, -1) if plane.ndim == 3 else plane
        axis.imshow(picture.numpy(), cmap="gray", interpolation="nearest")
        axis.axis("off")
        axis.set_title(name, fontsize=9)
    figure.savefig(path)
    pyplot.close(figure)


def main(out: Path, *, steps: int = 40, size: int = 64, scene: int = 3) -> dict[str, tuple[float, ...]]:
    """Write the pictures to ``out``, print the table, and return its numbers."""
    out.mkdir(parents=True, exist_ok=True)
    draw(
        {
            "transposed, 3x3, stride 2": overlap_map(3, 2),
            "transposed, 4x4, stride 2": overlap_map(4, 2),
            "enlarged, then 3x3": resize_overlap_map(3, 2),
        },
        out / "upsampling-overlap.png",
        columns=3,
    )
    train_images, train_labels = scenes("train", 16 * steps, size)
    images, labels = scenes("val", 16, size)
    untrained, learned = {"image": images[scene] / 2 + 0.5}, {"image": images[scene] / 2 + 0.5}
    table = {}
    print("| upsampling | parameters | untrained, period 2 | trained, period 2 | trained, period 4 | pixel accuracy |")
    print("|---|---|---|---|---|---|")
    for name in UPSAMPLINGS:
        torch.manual_seed(0)
        model = dl.create_model(
            "unet", num_classes=2, encoder="resnet18", decoder_channels=(64, 32, 32, 16, 16), upsampling=name
        )
        before = digit_logits(model, images)
        after = digit_logits(trained(model, train_images, train_labels, steps=steps), images)
        untrained[name], learned[name] = before[scene], after[scene]
        accuracy = ((after > 0) == labels).double().mean()
        energies = (checkerboard_energy(before), checkerboard_energy(after), checkerboard_energy(after, period=4))
        table[name] = (*(float(energy.mean()) for energy in energies), float(accuracy))
        parameters = sum(parameter.numel() for parameter in model.parameters())
        print(
            f"| `{name}` | {parameters:,} | " + " | ".join(f"{value:.3f}" for value in table[name]) + " |", flush=True
        )
    draw(untrained, out / "upsampling-untrained.png", columns=4)
    draw(learned, out / "upsampling-trained.png", columns=4)
    return table


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/upsampling"))
    parser.add_argument("--steps", type=int, default=40)
    arguments = parser.parse_args()
    main(arguments.out, steps=arguments.steps)
