"""From image file to mask file: our Predictor against the usual float32 loop around segmentation_models.pytorch."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from bench.peer import Peer
from bench.timing import Comparison, compare
from delineate.engine.semantic_predictor import SemanticPredictor
from delineate.engine.weights import ModelCard
from delineate.models.catalogue import create_model
from delineate.structures.preprocessing import Preprocessing
from delineate.structures.taxonomy import Taxonomy

GOAL = 4.0
PICTURES = 6  # before the other side's turn


def main() -> Comparison:
    """U-Net / ResNet-34, 11 classes, 960x720 JPEGs to id PNGs."""
    torch.manual_seed(0)
    options = {"encoder": "resnet34", "num_classes": 11, "in_channels": 3}
    model = create_model("unet", **options)
    predictor = SemanticPredictor(model, ModelCard("unet", options, Preprocessing(), Taxonomy.numbered(11)))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        smooth = np.random.default_rng(0).integers(0, 256, (18, 24, 3), dtype=np.uint8)
        Image.fromarray(smooth).resize((960, 720), Image.Resampling.BICUBIC).save(folder / "street.jpg", quality=92)

        def ours() -> None:
            for result in predictor.predict_all([folder / "street.jpg"] * PICTURES):
                result.to_png(folder / "ours.png")

        with Peer("prediction", name) as theirs:
            result = compare(ours, lambda: [theirs() for _ in range(PICTURES)], runs=5)
    print(" ".join(result.row("file to mask", "smp float32", GOAL)))
    return result


def peer(folder: str) -> Callable[[], None]:
    """The usual loop."""
    import segmentation_models_pytorch as smp

    torch.manual_seed(0)
    normalise = Preprocessing()
    model = smp.Unet("resnet34", encoder_weights=None, classes=11).eval()
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (normalise.mean, normalise.std))

    def predict() -> None:
        pixels = np.array(Image.open(Path(folder) / "street.jpg").convert("RGB"))
        image = (torch.from_numpy(pixels).permute(2, 0, 1).float() / 255 - mean) / std
        with torch.no_grad():  # the network wants sizes that 32 divides
            logits = model(torch.nn.functional.pad(image, (0, 0, 0, -720 % 32))[None])[0, :, :720]
        Image.fromarray(logits.argmax(0).byte().numpy()).save(Path(folder) / "theirs.png")

    return predict


if __name__ == "__main__":
    main()
