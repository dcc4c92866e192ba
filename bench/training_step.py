"""A training step of ours against the same model in plain float32 NCHW PyTorch."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy as plain_cross_entropy

from bench.peer import Peer
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
    model, images, target = work()
    model = model.to(memory_format=torch.channels_last)
    normalise, losses = Preprocessing(), create_losses([{"name": "cross_entropy"}])
    optimizer = create_optimizer(model, OptimizerRecipe())
    kind = autocast_dtype(resolve_precision("auto"))

    def step() -> float:
        inputs = normalise(images.contiguous(memory_format=torch.channels_last))
        with torch.autocast("cpu", dtype=kind, enabled=kind is not None):
            outputs = model(inputs)
            loss = losses(outputs, target)["loss"]
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return float(loss.detach())

    with Peer("training_step") as plain:
        ours, theirs = step(), plain()
        if abs(ours - theirs) > 0.01 * theirs:
            raise SystemExit(f"the two sides differ: losses of {ours} and {theirs}")
        result = compare(step, plain, runs=5)
    print(" ".join(result.row("training step", "float32 NCHW PyTorch", GOAL)))
    return result


def work() -> tuple[nn.Module, Tensor, Tensor]:
    """Model, images and labels: the same for both sides."""
    torch.manual_seed(0)
    images = torch.randint(0, 256, (8, 3, 320, 416), dtype=torch.uint8)
    target = torch.randint(0, 11, (8, 320, 416))
    return create_model("unet", num_classes=11, encoder="resnet18"), images, target


def peer() -> Callable[[], float]:
    """The same model as PyTorch has it."""
    model, images, target = work()
    normalise = Preprocessing()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (normalise.mean, normalise.std))

    def step() -> float:
        loss = plain_cross_entropy(model((images / 255 - mean) / std).logits, target)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return float(loss.detach())

    return step


if __name__ == "__main__":
    main()
