"""The adversary of a training run: a network that learns to tell true label maps from predicted ones.

It lives beside the segmenter, not in it: it costs nothing at test time, its weights are in checkpoints only, and
Lightning's own optimization is the segmenter's alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from delineate.data.order import sample_seed
from delineate.engine.recipe_sections import AdversarialRecipe
from delineate.engine.synchronisation import mean_over_processes, world_size
from delineate.losses.adversarial import (
    adversary_channels,
    adversary_input,
    deception_loss,
    discrimination_loss,
    scaled_label_map,
    true_label_map,
)
from delineate.models.discriminator import Discriminator


class Adversary:
    """The discriminator with its optimizer; every batch updates it first, then the segmenter.

    Source: Luc, Couprie, Chintala, Verbeek, "Semantic Segmentation using Adversarial Networks", NIPS Workshop on
    Adversarial Training 2016.
    Differs: both networks move in every batch, where the paper also alternates in blocks of 500; the optimizer is Adam.

    Args:
        recipe: of the adversary.
        num_classes, in_channels, ignore_index: of the segmenter and its labels.
        seed: of the run, which decides the first weights.
        schedule: the segmenter's factor on its peak learning rate at each step, which this one follows.
    """

    def __init__(
        self,
        recipe: AdversarialRecipe,
        *,
        num_classes: int,
        in_channels: int,
        ignore_index: int,
        seed: int,
        schedule: Callable[[int], float],
    ) -> None:
        self.recipe = recipe
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        self.schedule = schedule
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(sample_seed(seed, -3, -1))
            channels = adversary_channels(recipe.input, num_classes, in_channels)
            self.network = Discriminator(channels, field=recipe.field, width=recipe.width)
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=recipe.lr, betas=(0.5, 0.999))

    def __deepcopy__(self, memo: dict[int, Any]) -> Adversary:
        """There is one adversary, however many averages of the segmenter are kept."""
        return self

    def state_dict(self) -> dict[str, Any]:
        """Weights and the optimizer's state, as tensors and plain values."""
        return {"network": self.network.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of :meth:`state_dict`; the adversary must be on its device already."""
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])

    def to(self, device: torch.device) -> None:
        """Move the network; before anything is loaded."""
        self.network.to(device)

    def step(self, images: Tensor, logits: Tensor, target: Tensor, *, step: int) -> Tensor:
        """Teach the adversary with one batch, and return its loss; the segmenter gets no gradient."""
        self.network.requires_grad_(True)
        with torch.autocast(images.device.type, enabled=False):
            probs = logits.detach().float().softmax(1)
            truth = true_label_map(target, self.num_classes, ignore_index=self.ignore_index)
            counted = truth.sum(1, keepdim=True)
            if self.recipe.input == "scaling":
                truth = scaled_label_map(truth, probs, tau=self.recipe.tau)
            loss = discrimination_loss(self._scores(truth, images), self._scores(probs * counted, images))
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
        if world_size() > 1:
            for parameter in self.network.parameters():
                assert parameter.grad is not None
                parameter.grad = mean_over_processes(parameter.grad)
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.lr * self.schedule(step)
        self.optimizer.step()
        return loss.detach()

    def term(self, images: Tensor, logits: Tensor, target: Tensor) -> Tensor:
        """The segmenter's loss for being found out, unweighted; its gradient reaches the segmenter alone."""
        self.network.requires_grad_(False)
        with torch.autocast(images.device.type, enabled=False):
            counted = (target != self.ignore_index).unsqueeze(1)
            return deception_loss(self._scores(logits.float().softmax(1) * counted, images))

    def _scores(self, label_map: Tensor, images: Tensor) -> Tensor:
        stride = self.recipe.stride
        if stride > 1:
            label_map, images = (F.avg_pool2d(maps, stride, ceil_mode=True) for maps in (label_map, images))
        scores: Tensor = self.network(adversary_input(self.recipe.input, label_map, images.float()))
        return scores
