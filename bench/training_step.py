"""A training step of ours against the same model in plain float32 NCHW PyTorch."""

from __future__ import annotations

import torch
from torch.nn.functional import cross_entropy as plain_cross_entropy

from bench.timing import Comparison, compare
from delineate.engine.optimization import create_optimizer
from delineate.engine.precision import autocast_dtype, resolve_precision
from delineate.engine.recipe_sections import OptimizerRecipe
from delineate.losses.catalogue import create_losses
from delineate.models.catalogue import create_model
from delineate.structures.preprocessing import Preprocessing

GOAL = 4.0


def main() -> Comparison:
    """U-Net / ResNet-18, eight crops of 320x416, 11 classes: normalise, forward, loss, backward, AdamW step."""
    torch.manual_seed(0)
    images = torch.randint(0, 256, (8, 3, 320, 416), dtype=torch.uint8)
    target = torch.randint(0, 11, (8, 320, 416))
    ours, peer = (create_model("unet", num_classes=11, encoder="resnet18") for _ in range(2))
    peer.load_state_dict(ours.state_dict())
    ours = ours.to(memory_format=torch.channels_last)
    normalise, losses = Preprocessing(), create_losses([{"name": "cross_entropy"}])
    our_optimizer = create_optimizer(ours, OptimizerRecipe())
    peer_optimizer = torch.optim.AdamW(peer.parameters(), lr=1e-3)
    kind = autocast_dtype(resolve_precision("auto"))

    def our_step() -> None:
        inputs = normalise(images.contiguous(memory_format=torch.channels_last))
        with torch.autocast("cpu", dtype=kind, enabled=kind is not None):
            outputs = ours(inputs)
            loss = losses(outputs, target)["loss"]
        loss.backward()
        our_optimizer.step()
        our_optimizer.zero_grad()

    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (normalise.mean, normalise.std))

    def peer_step() -> None:
        loss = plain_cross_entropy(peer((images / 255 - mean) / std).logits, target)
        loss.backward()
        peer_optimizer.step()
        peer_optimizer.zero_grad()

    result = compare(our_step, peer_step, runs=3)
    print(" ".join(result.row("training step", "float32 NCHW PyTorch", GOAL)))
    return result


if __name__ == "__main__":
    main()
