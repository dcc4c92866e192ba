"""Images a second of detectors, from uint8 pixels to boxes: torchvision's models, and ours with the same weights."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import nn
from torchvision import models

from bench.peer import Peer
from bench.timing import compare
from delineate.engine.object_predictor import ObjectPredictor
from delineate.engine.objects import decoding_of
from delineate.engine.precision import resolve_precision
from delineate.engine.streams import in_order
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
CANDIDATES = 1000
PICTURES = 6  # before the other side's turn
RUNS = 5
GOAL = 3.0


def main() -> list[tuple[str, float, float, float]]:
    """Print a row a network; returns (name, images a second of torchvision's, of ours, the ratio)."""
    rows = []
    auto = resolve_precision("auto", cuda=torch.cuda.is_available())
    print(f"{'detector':26} {'size':>9} {'torchvision':>14} {'auto: ' + auto:>15} {'ratio':>7} {'found':>6}")
    for network, (name, _) in NETWORKS.items():
        ours, pixels = with_weights_of(network), picture(network)
        decoding = decoding_of(ours.model)
        with Peer("detectors", network) as theirs:
            mine, other = ours.found(pixels, decoding), theirs()
            same = min(len(mine), len(other), 20)
            np.testing.assert_allclose(mine.scores[:same], other[:same], atol=2e-2)
            measured = compare(
                lambda ours=ours, pixels=pixels, decoding=decoding: list(
                    in_order(lambda picture: ours.found(picture, decoding), [pixels] * PICTURES)
                ),
                lambda theirs=theirs: [theirs() for _ in range(PICTURES)],
                runs=RUNS,
            )
        speeds = PICTURES / measured.peer, PICTURES / measured.ours
        rows.append((name, *speeds, measured.ratio))
        height, width, _ = pixels.shape
        print(
            f"{name:26} {height:4}x{width:<4} {speeds[0]:9.2f} im/s {speeds[1]:10.2f} im/s "
            f"{measured.ratio:6.2f}x {len(mine):6}"
        )
    return rows


def peer(network: str) -> Callable[[], list[float]]:
    """Torchvision's model on the same picture; returns its scores."""
    model = torchvisions(network)
    image = torch.from_numpy(picture(network)).permute(2, 0, 1)

    @torch.no_grad()
    def predict() -> list[float]:
        scores: list[float] = model([image / 255])[0]["scores"].tolist()
        return scores

    return predict


def picture(network: str) -> np.ndarray:
    """Pixels of the size that the network takes."""
    size = (300, 300) if network.startswith("ssd300") else SIZE
    return np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)


def torchvisions(network: str) -> nn.Module:
    """Torchvision's model with random weights that find something, the same in every process."""
    torch.manual_seed(0)
    size = picture(network).shape[:2]
    limits = {} if network.startswith("ssd300") else {"min_size": min(size), "max_size": max(size)}
    model = models.get_model(network, weights=None, weights_backbone=None, num_classes=CLASSES + 1, **limits).eval()
    if network.startswith("retinanet"):
        head = model.head.classification_head
        logits = []
        hook = head.register_forward_hook(lambda module, arguments, found: logits.append(found.flatten()))
        with torch.no_grad():
            head.cls_logits.bias.zero_()
            model([torch.from_numpy(picture(network)).permute(2, 0, 1) / 255])
            hook.remove()
            # as many scores above the threshold as a trained network has in a picture
            least = logits[0].topk(CANDIDATES).values[-1]
            head.cls_logits.bias.fill_(math.log(model.score_thresh / (1 - model.score_thresh)) - float(least))
    if network.startswith("ssd300"):
        for key, value in model.state_dict().items():
            if "classification_head" in key and key.endswith("bias"):
                value.view(-1, CLASSES + 1)[:, 0] += 2.0
    return model


def with_weights_of(network: str) -> ObjectPredictor:
    """Ours with the weights of torchvision's."""
    name, options = NETWORKS[network]
    published = PUBLISHED[network]
    count = CLASSES + 1 if name == "retinanet" else CLASSES
    model = create_model(name, num_classes=count, **options)
    form = {} if name == "ssd300" else {"staged": False}
    state = published.state(torchvisions(network).state_dict(), **form)
    model.load_state_dict(with_epsilon(state) if published.without_epsilon else state)
    preprocessing = getattr(model, "preprocessing", Preprocessing())
    if name == "ssd300":
        preprocessing = Preprocessing((0.48235, 0.45882, 0.40784), (1 / 255,) * 3)
    card = ModelCard(name, {"num_classes": count}, preprocessing, Taxonomy.numbered(count), task="detection")
    return ObjectPredictor(model, card)


if __name__ == "__main__":
    main()
