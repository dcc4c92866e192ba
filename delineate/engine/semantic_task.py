"""Semantic segmentation as a row across the floors."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import torch
from torch import nn

from delineate.data.augmentation import Augmentation, train_mixings, train_transform
from delineate.data.balanced_order import class_balanced_weights, image_class_pixels
from delineate.data.batches import SemanticCollate
from delineate.data.mixing import Mixing
from delineate.data.mixture import MixedSamples, open_mixture
from delineate.data.samples import Samples
from delineate.data.statistics import WEIGHT_SCHEMES, class_weights
from delineate.engine.adversarial import Adversary
from delineate.engine.optimization import schedule_factor
from delineate.engine.proposing import Proposer
from delineate.engine.recipe import Recipe
from delineate.engine.semantic import SemanticSegmentation
from delineate.engine.task import Task, Transform
from delineate.engine.weights import without_downloads
from delineate.errors import RecipeError
from delineate.losses.catalogue import create_losses
from delineate.losses.weighted_sum import WeightedSum
from delineate.models.catalogue import create_model
from delineate.registry import unknown_name
from delineate.structures.outputs import SemanticOutputs
from delineate.structures.preprocessing import Preprocessing
from delineate.structures.taxonomy import Taxonomy


class SemanticTask(Task):
    """A class for every pixel."""

    name = "semantic"
    monitor = "val/miou"
    monitored = "mIoU"
    target_keys = ("semantic_mask", "image_id", "valid_classes")

    def open_split(self, recipe: Recipe, split: str) -> Samples:
        """A split of the data set, or of the mixture of several."""
        read = recipe.data
        options = {"format": read.format, "on_error": read.on_error, "channels": read.channels}
        return open_mixture(read.path, split=split, classes=read.classes, **options)

    def check_data(self, samples: Samples, recipe: Recipe) -> None:
        """Raise where an adversary would judge label maps that are true only in the classes their data set labels.

        Also where the recipe asks of its data what detectors alone have.
        """
        for key, value in (("tree", recipe.data.tree), ("shares", recipe.data.shares)):
            if value:
                raise RecipeError(f"data.{key} must be left out for a segmenter; got {value}.")
        train_mixings(_augmentation(recipe), samples.taxonomy)
        if recipe.adversarial is None or not isinstance(samples, MixedSamples):
            return
        for index in range(len(samples)):
            valid = samples.valid_classes(index).tolist()
            if not all(valid):
                missing = ", ".join(name for name, has in zip(samples.taxonomy.names, valid, strict=True) if not has)
                raise RecipeError(
                    f"adversarial must be left out where images do not label every class; got '{samples.files(index)}',"
                    f" whose data set does not label {missing}. Train without, or on data.classes that all data sets "
                    "label."
                )

    def fitted(self, recipe: Recipe, samples: Samples, model: nn.Module) -> Recipe:
        """With a crop for images of these sizes."""
        if recipe.augmentation["crop"] is not None:
            return recipe
        changes = {**recipe.augmentation, "crop": list(_fitting_crop(samples))}
        return msgspec.structs.replace(recipe, augmentation=changes)

    def sample_weights(self, recipe: Recipe, samples: Samples) -> list[float] | None:
        """More of the images with rare classes, where the recipe asks for it."""
        if recipe.data.sampling == "uniform":
            return None
        return class_balanced_weights(image_class_pixels(samples))

    def mixings(self, recipe: Recipe, samples: Samples) -> Sequence[Mixing]:
        """CutMix and copy-paste."""
        return train_mixings(_augmentation(recipe), samples.taxonomy)

    def train_transform(self, recipe: Recipe, samples: Samples) -> Transform:
        """The training augmentation of images and label maps."""
        return train_transform(_augmentation(recipe), ignore_index=samples.taxonomy.ignore_index)

    def eval_transform(self, recipe: Recipe, samples: Samples) -> Transform | None:
        """Nothing: images are validated whole, each at its own size."""
        return None

    def collate(self, samples: Samples) -> Callable[[Any], Any]:
        """To :class:`~delineate.data.batches.SemanticBatch`."""
        return SemanticCollate(samples.taxonomy.ignore_index)

    def losses(self, recipe: Recipe, samples: Samples, *, counted: bool = True) -> nn.Module:
        """A weighted sum, with named class weights counted on the training split."""
        configured = []
        for loss in recipe.loss:
            if isinstance(scheme := loss.get("class_weights"), str):
                if scheme not in WEIGHT_SCHEMES:
                    raise unknown_name("class_weights", scheme, WEIGHT_SCHEMES)
                loss = {**loss, "class_weights": class_weights(samples, scheme=scheme) if counted else None}
            configured.append(loss)
        taxonomy = samples.taxonomy
        losses = create_losses(configured, ignore_index=taxonomy.ignore_index, rest_class=taxonomy.background)
        # they must take outputs of as many classes as there are: tried on a single pixel
        losses(SemanticOutputs(torch.zeros(1, taxonomy.num_classes, 1, 1)), torch.zeros(1, 1, 1, dtype=torch.long))
        _check_side_heads(losses, recipe, taxonomy)
        return losses

    def learner(
        self,
        model: nn.Module,
        losses: nn.Module,
        *,
        recipe: Recipe,
        preprocessing: Preprocessing,
        samples: Samples,
        total_steps: int,
        proposer: Proposer | None = None,
    ) -> SemanticSegmentation:
        """The segmenter's, with its adversary where the recipe has one."""
        taxonomy, adversary = samples.taxonomy, None
        if recipe.adversarial is not None:
            adversary = Adversary(
                recipe.adversarial,
                num_classes=taxonomy.num_classes,
                in_channels=preprocessing.channels,
                ignore_index=taxonomy.ignore_index,
                seed=recipe.trainer.seed,
                schedule=schedule_factor(recipe.schedule, total_steps),
            )
        return SemanticSegmentation(
            model,
            losses,
            recipe=recipe,
            preprocessing=preprocessing,
            class_names=taxonomy.names,
            ignore_index=taxonomy.ignore_index,
            rest_class=taxonomy.background,
            total_steps=total_steps,
            file_of=samples.files,
            adversary=adversary,
        )


def _augmentation(recipe: Recipe) -> Augmentation:
    return msgspec.convert(recipe.augmentation, Augmentation)


def _fitting_crop(samples: Samples) -> tuple[int, int]:
    """A crop for images of these sizes: the median height and width, whole multiples of 32 and at most 512."""
    probes = sorted({round(place * (len(samples) - 1) / 15) for place in range(16)})
    shapes = [samples[index][0].shape[-2:] for index in probes]
    height, width = (int(statistics.median(shape[side] for shape in shapes)) for side in (0, 1))
    return tuple(min(512, side // 32 * 32 if side >= 32 else side) for side in (height, width))  # type: ignore[return-value]


def _check_side_heads(losses: WeightedSum, recipe: Recipe, taxonomy: Taxonomy) -> None:
    """Raise unless each list of side heads' weights has as many as the recipe's model has heads, counted on shapes."""
    weights_of = {name: loss.auxiliary_weight for name, loss in losses.losses.items()}
    listed = {name: weights for name, weights in weights_of.items() if isinstance(weights, tuple)}
    if not listed:
        return
    options = {key: value for key, value in recipe.model.items() if key != "name"}
    options |= {"in_channels": recipe.data.channels, "num_classes": taxonomy.num_classes}
    height, width = recipe.augmentation["crop"] or (512, 512)
    with torch.device("meta"), torch.random.fork_rng(devices=[]), torch.no_grad():
        model = create_model(recipe.model["name"], **without_downloads(options)).train()
        heads = len(model(torch.empty(2, recipe.data.channels, height, width)).auxiliary)
    for name, weights in listed.items():
        if len(weights) != heads:
            count = f"{heads} side head" + ("" if heads == 1 else "s")
            raise RecipeError(
                f"auxiliary_weight of loss '{name}' must hold one weight a side head; got {list(weights)}, where model "
                f"'{recipe.model['name']}' has {count}. One number, not a list, weighs any number of heads."
            )
