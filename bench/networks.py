"""Images a second of eight networks, uint8 pixels to labels: plain float32, and what `precision: auto` makes of it."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from bench.timing import compare
from delineate.engine.precision import resolve_precision
from delineate.engine.semantic_predictor import SemanticPredictor
from delineate.engine.weights import ModelCard
from delineate.explain.multiply_adds import multiply_adds
from delineate.models.catalogue import create_model
from delineate.structures.preprocessing import Preprocessing
from delineate.structures.taxonomy import Taxonomy

SIZE = (360, 480)  # of a CamVid frame
CLASSES = 11
NETWORKS: dict[str, dict[str, Any]] = {
    "enet": {},
    "unet": {"encoder": "resnet18"},
    "deeplabv3plus": {"encoder": "resnet18"},
    "fpn": {"encoder": "resnet18"},
    "hrnet_seg": {"encoder": "hrnet_w18_small_v2"},
    "pspnet": {"encoder": "resnet50s"},
    "segnet": {},
    "deeplabv1": {},
}
RUNS = 3


def main() -> list[tuple[str, float, float]]:
    """Print a row a network; returns (name, images a second in float32, in auto precision)."""
    rows = []
    auto = resolve_precision("auto", cuda=torch.cuda.is_available())
    print(f"{'network':16} {'GMAC':>7} {'plain float32':>15} {'auto: ' + auto:>15} {'ratio':>7} {'GMAC/s':>8}")
    images = torch.randint(0, 256, (1, 3, *SIZE), dtype=torch.uint8)
    for name, options in NETWORKS.items():
        torch.manual_seed(0)
        model = create_model(name, num_classes=CLASSES, **options).eval()
        work = multiply_adds(model, SIZE) / 1e9
        card = ModelCard(name, {"num_classes": CLASSES}, Preprocessing(), Taxonomy.numbered(CLASSES))
        fast = SemanticPredictor(model, card)
        measured = compare(lambda fast=fast: fast.logits(images).argmax(1), plain(model, images), runs=RUNS)
        rows.append((name, 1 / measured.peer, 1 / measured.ours))
        speed = work / measured.ours
        print(
            f"{name:16} {work:7.1f} {1 / measured.peer:11.2f} im/s {1 / measured.ours:11.2f} im/s "
            f"{measured.ratio:6.2f}x {speed:8.0f}"
        )
    return rows


def plain(model: nn.Module, images: torch.Tensor) -> Any:
    """The same network in float32, NCHW, with its batch norms."""
    preprocessing = Preprocessing()

    @torch.no_grad()
    def predict() -> torch.Tensor:
        return model(preprocessing(images)).logits.argmax(1)

    return predict


if __name__ == "__main__":
    main()
