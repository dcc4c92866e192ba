"""Images a second of detectors, from uint8 pixels to boxes: torchvision's models, and ours with the same weights."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torchvision import models

from bench.timing import compare
from delineate.engine.object_predictor import ObjectPredictor
from delineate.engine.objects import decoding_of
from delineate.engine.precision import resolve_precision
from delineate.engine.weights import ModelCard
from delineate.models.catalogue import create_model
from delineate.models.published_detectors import PUBLISHED, with_epsilon
from delineate.structures.preprocessing import Preprocessing
from delineate.structures.taxonomy import Taxonomy

SIZE = (480, 640)
NETWORKS = {
    "retinanet_resnet50_fpn": ("retinanet", {"variant": "v1"}),
    "fasterrcnn_resnet50_fpn": ("faster_rcnn", {"variant": "v1"}),
    "ssd300_vgg16": ("ssd300", {"boxes": "coco"}),
}
CLASSES = 80
RUNS = 5
GOAL = 3.0


def main() -> list[tuple[str, float, float, float]]:
    """Print a row a network; returns (name, images a second of torchvision's, of ours, the ratio)."""
    rows = []
    auto = resolve_precision("auto", cuda=torch.cuda.is_available())
    print(f"{'detector':26} {'size':>9} {'torchvision':>14} {'auto: ' + auto:>15} {'ratio':>7} {'found':>6}")
    for network, (name, options) in NETWORKS.items():
        size = (300, 300) if name == "ssd300" else SIZE
        pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
        theirs, ours = pair(network, name, options, size)
        images = [torch.from_numpy(pixels).permute(2, 0, 1)]
        decoding = decoding_of(ours.model)

        @torch.no_grad()
        def peer(theirs: nn.Module = theirs, images: list[torch.Tensor] = images) -> dict[str, torch.Tensor]:
            found: dict[str, torch.Tensor] = theirs([image / 255 for image in images])[0]
            return found

        mine, other = ours.found(pixels, decoding), peer()
        same = min(len(mine), len(other["scores"]), 20)
        np.testing.assert_allclose(mine.scores[:same], other["scores"][:same].numpy(), atol=2e-2)
        measured = compare(
            lambda ours=ours, pixels=pixels, decoding=decoding: ours.found(pixels, decoding), peer, runs=RUNS
        )
        rows.append((name, 1 / measured.peer, 1 / measured.ours, measured.ratio))
        print(
            f"{name:26} {size[0]:4}x{size[1]:<4} {1 / measured.peer:9.2f} im/s {1 / measured.ours:10.2f} im/s "
            f"{measured.ratio:6.2f}x {len(mine):6}"
        )
    return rows


def pair(
    network: str, name: str, options: dict[str, object], size: tuple[int, int]
) -> tuple[nn.Module, ObjectPredictor]:
    """Torchvision's model with random weights that find something, and ours with the same."""
    torch.manual_seed(0)
    limits = {} if name == "ssd300" else {"min_size": min(size), "max_size": max(size)}
    theirs = models.get_model(network, weights=None, weights_backbone=None, num_classes=CLASSES + 1, **limits).eval()
    for key, value in theirs.state_dict().items():
        if key.endswith(("cls_logits.bias", "cls_score.bias")) and name == "retinanet":
            value.fill_(-2.5)  # some anchors above the threshold, as in a trained network
        if "classification_head" in key and key.endswith("bias") and name == "ssd300":
            value.view(-1, CLASSES + 1)[:, 0] += 2.0
    published = PUBLISHED[network]
    count = CLASSES + 1 if name == "retinanet" else CLASSES
    model = create_model(name, num_classes=count, **options)
    form = {} if name == "ssd300" else {"staged": False}
    state = published.state(theirs.state_dict(), **form)
    model.load_state_dict(with_epsilon(state) if published.without_epsilon else state)
    preprocessing = getattr(model, "preprocessing", Preprocessing())
    if name == "ssd300":
        preprocessing = Preprocessing((0.48235, 0.45882, 0.40784), (1 / 255,) * 3)
    card = ModelCard(name, {"num_classes": count}, preprocessing, Taxonomy.numbered(count), task="detection")
    return theirs, ObjectPredictor(model, card)


if __name__ == "__main__":
    main()
