"""The LightningModule of semantic segmentation: one step, one validation, the same for every model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torchmetrics import MeanMetric

from delineate.data.batches import SemanticBatch
from delineate.engine.adversarial import Adversary
from delineate.engine.learner import Learner
from delineate.engine.recipe import Recipe
from delineate.engine.synchronisation import mean_over_processes
from delineate.losses.partial_labels import marginal_logits
from delineate.metrics.semantic_metric import SemanticScores
from delineate.structures.outputs import SemanticOutputs
from delineate.structures.preprocessing import Preprocessing

Losses = Callable[..., dict[str, Tensor]]


class SemanticSegmentation(Learner):
    """Train and validate a segmenter.

    Args:
        model: images to :class:`SemanticOutputs`.
        losses: outputs and target to named scalars, of which "loss" is minimised.
        recipe: of the run.
        preprocessing: pixels to the model's input.
        class_names: one a class.
        ignore_index: the label that does not count.
        rest_class: the label that stands for all that a partly labelled image's data set does not label, if any.
        total_steps: optimizer steps of the whole run.
        file_of: the file behind a sample index of the training split, for error messages.
        adversary: learns beside the model to tell true label maps from predicted ones; None trains without.
    """

    def __init__(
        self,
        model: nn.Module,
        losses: Losses,
        *,
        recipe: Recipe,
        preprocessing: Preprocessing,
        class_names: tuple[str, ...],
        ignore_index: int,
        rest_class: int | None = None,
        total_steps: int,
        file_of: Callable[[int], str],
        adversary: Adversary | None = None,
    ) -> None:
        super().__init__(model, recipe=recipe, preprocessing=preprocessing, total_steps=total_steps, file_of=file_of)
        self.losses = losses
        self.adversary = adversary
        self._adversary_state: dict[str, Any] | None = None
        self.rest_class = rest_class
        self.scores = SemanticScores(class_names, ignore_index=ignore_index)
        self.val_loss = MeanMetric()
        # the epoch's means of an adversary's terms; like the adversary they are in checkpoints only, beside it
        terms = () if adversary is None else ("adversary", "deception")
        self.adversary_means = {name: MeanMetric() for name in terms}

    def forward(self, images: Tensor) -> SemanticOutputs:
        """The model's outputs for uint8 images ``(B, C, H, W)``."""
        outputs: SemanticOutputs = self.model(self.inputs(images))
        return outputs

    def training_step(self, batch: SemanticBatch, batch_idx: int) -> Tensor:
        """The loss of one batch; stops the run when it is not finite."""
        images = self.inputs(batch.images)
        outputs: SemanticOutputs = self.model(images)
        named = self.losses(outputs, batch.target, normaliser=mean_over_processes, valid_classes=batch.valid_classes)
        if self.adversary is not None and self.current_epoch >= self.adversary.recipe.after_epochs:
            named = self._against_adversary(self.adversary, images, outputs, batch.target, named)
        for name, mean in self.adversary_means.items():
            if name in named:
                mean.update(named[name])
        return self.learnt(named, batch.indices)

    def _against_adversary(
        self,
        adversary: Adversary,
        images: Tensor,
        outputs: SemanticOutputs,
        target: Tensor,
        named: dict[str, Tensor],
    ) -> dict[str, Tensor]:
        """Teach the adversary, then add what it says of the same predictions to the loss."""
        taught = adversary.step(images, outputs.logits, target, step=self.global_step)
        deception = adversary.term(images, outputs.logits, target)
        total = named["loss"] + adversary.recipe.weight * deception
        return {**named, "loss": total, "deception": deception.detach(), "adversary": taught}

    def on_fit_start(self) -> None:
        """Put the adversary where the model is; a resumed one goes on from its checkpoint."""
        if self.adversary is not None:
            self.adversary.to(self.device)
            self.adversary_means = {name: mean.to(self.device) for name, mean in self.adversary_means.items()}
            if self._adversary_state is not None:
                self.adversary.load_state_dict(self._adversary_state)
                for name, state in self._adversary_state.get("means", {}).items():
                    for key, value in state.items():
                        setattr(self.adversary_means[name], key, value.to(self.device))
                self._adversary_state = None

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """The adversary goes with the checkpoint, not with the weights."""
        if self.adversary is not None:
            means = {name: mean.metric_state for name, mean in self.adversary_means.items()}
            checkpoint["adversary"] = {**self.adversary.state_dict(), "means": means}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Kept until the adversary is on its device."""
        self._adversary_state = checkpoint.get("adversary")

    def on_train_epoch_start(self) -> None:
        """Begin the epoch's means anew."""
        super().on_train_epoch_start()
        for mean in self.adversary_means.values():
            mean.reset()

    def train_means(self) -> dict[str, float]:
        """The epoch's means for the learning curves: of the loss, and of an adversary's terms once it has begun."""
        terms = {name: mean for name, mean in self.adversary_means.items() if mean.update_called}
        return super().train_means() | {f"train/{name}": float(mean.compute()) for name, mean in terms.items()}

    def validation_step(self, batch: SemanticBatch, batch_idx: int) -> None:
        """Count one batch of validation images.

        A partly labelled image is given only classes that its data set labels; a class that it does not label counts
        as ``rest_class`` where there is one, as its data set would have called it.
        """
        for part in batch.unpadded():
            outputs = self(part.images)
            loss = self.losses(outputs, part.target, valid_classes=part.valid_classes)["loss"].detach()
            self.val_loss.update(loss.float(), weight=len(part.indices))
            logits = marginal_logits(outputs.logits, part.valid_classes, rest_class=self.rest_class)
            self.scores.update(logits.argmax(1), part.target)

    def on_validation_epoch_end(self) -> None:
        """Log what the whole validation split scored; equal on every process."""
        scores = self.scores.compute()
        for name in ("miou", "pixel_accuracy", "mean_accuracy"):
            self.log(f"val/{name}", float(scores[name]), sync_dist=True)
        self.log("val/loss", self.val_loss.compute(), sync_dist=True)
        self.scores.reset()
        self.val_loss.reset()
