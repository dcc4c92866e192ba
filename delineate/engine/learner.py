"""What the LightningModules of all tasks share: a checked loss, repeatable dropout, the recipe's optimizer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import lightning.pytorch as pl
import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torchmetrics import MeanMetric

from delineate.data.order import sample_seed
from delineate.engine.freezing import parts_named
from delineate.engine.optimization import create_optimizer, schedule_factor
from delineate.engine.recipe import Recipe
from delineate.errors import NonFiniteLossError
from delineate.structures.preprocessing import Preprocessing


class Learner(pl.LightningModule):
    """A model that learns from a recipe; what a batch is, and how it is scored, is the task's own.

    Args:
        model: images to outputs.
        recipe: of the run.
        preprocessing: pixels to the model's input.
        total_steps: optimizer steps of the whole run.
        file_of: the file behind a sample index of the training split, for error messages.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        recipe: Recipe,
        preprocessing: Preprocessing,
        total_steps: int,
        file_of: Callable[[int], str],
    ) -> None:
        super().__init__()
        self.model = model
        self.recipe = recipe
        self.preprocessing = preprocessing
        self.total_steps = total_steps
        self.file_of = file_of
        self.frozen = [part for name in recipe.start.freeze for part in parts_named(model, name) or ()]
        for part in self.frozen:
            part.requires_grad_(False)
        self.train_loss = MeanMetric()
        self.train_loss.persistent(True)  # an epoch resumed in its middle reports the loss of the whole epoch
        self.memory_format = torch.channels_last if recipe.trainer.channels_last else torch.contiguous_format
        self.train()

    def inputs(self, images: Tensor) -> Tensor:
        """What the model sees of uint8 images ``(B, C, H, W)``."""
        return self.preprocessing(images.contiguous(memory_format=self.memory_format))

    def train(self, mode: bool = True) -> Self:
        """Frozen parts keep their batch statistics, and drop nothing out."""
        super().train(mode)
        for part in self.frozen:
            part.eval()
        return self

    def learnt(self, named: Mapping[str, Tensor], indices: Sequence[int]) -> Tensor:
        """The loss to minimise, counted and logged with its parts.

        Args:
            named: "loss" and its parts.
            indices: of the batch's samples.

        Raises:
            NonFiniteLossError: when it is not finite; names the files of the batch.
        """
        loss = named["loss"]
        if not torch.isfinite(loss):
            files = ", ".join(self.file_of(index) for index in indices)
            parts = ", ".join(f"{name} {value.item():g}" for name, value in named.items())
            raise NonFiniteLossError(
                f"loss must stay finite; got {parts} at epoch {self.current_epoch + 1}, step {self.global_step}, for "
                f"{files}. The last good checkpoint is kept; a lower optimizer.lr or a gradient_clip often helps."
            )
        self.train_loss.update(loss.detach())
        for name, value in named.items():
            self.log(f"train/{name}", value.detach(), on_step=True, on_epoch=False)
        return loss

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Make dropout and samplers a pure function of (seed, epoch, batch), wherever a run was interrupted."""
        place = batch_idx * self.trainer.world_size + self.trainer.global_rank
        torch.manual_seed(sample_seed(self.recipe.trainer.seed, self.current_epoch, -2 - place))

    def on_train_epoch_start(self) -> None:
        """Begin the epoch's means anew."""
        self.train_loss.reset()

    def train_means(self) -> dict[str, float]:
        """The epoch's means for the learning curves."""
        return {"train/loss": float(self.train_loss.compute())} if self.train_loss.update_called else {}

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | int | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """By their norm; Lightning itself refuses a fused optimizer, also in bfloat16, where nothing is scaled."""
        if gradient_clip_val is not None:
            parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
            torch.nn.utils.clip_grad_norm_(parameters, gradient_clip_val)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """The recipe's optimizer, with its schedule stepping once an optimizer step."""
        # a fused step would have to scale float16's gradients back by itself, after they were clipped
        fused = self.recipe.trainer.precision != "float16"
        optimizer = create_optimizer(self.model, self.recipe.optimizer, fused=fused)
        factor = schedule_factor(self.recipe.schedule, self.total_steps)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}
