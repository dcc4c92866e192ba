"""Finding objects as a row across the floors: boxes, with masks or with joints."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np
from torch import nn

from delineate.data.mixing import Mixing
from delineate.data.object_augmentation import (
    ObjectAugmentation,
    eval_transform,
    resolved,
    train_mixings,
    train_transform,
)
from delineate.data.object_batches import object_collate
from delineate.data.objects.coco_json import Columns
from delineate.data.opening import open_dataset
from delineate.data.samples import ObjectSamples
from delineate.engine.objects import ObjectDetection
from delineate.engine.recipe import Recipe
from delineate.engine.task import Task, Transform
from delineate.errors import DataError, RecipeError
from delineate.losses.object_catalogue import create_object_loss
from delineate.structures.preprocessing import Preprocessing

LARGEST = 640  # the longer side of what a model sees where nobody says
MULTIPLE = 32


class ObjectTask(Task):
    """What is where, object by object.

    Args:
        name: as in the catalogue of models.
        columns: what its models learn besides boxes.
    """

    def __init__(self, name: str, columns: tuple[Columns, ...]) -> None:
        self.name = name
        self.columns = columns
        self.monitor, self.monitored = {
            "detection": ("val/ap", "AP"),
            "instances": ("val/mask_ap", "mask AP"),
            "keypoints": ("val/keypoint_ap", "keypoint AP"),
        }[name]
        described = {"masks": ("masks",), "keypoints": ("keypoints", "visibility"), "boxes": ()}
        own = [key for column in columns for key in described[column]]
        self.target_keys = ("boxes", "labels", "area", "iscrowd", "image_id", "valid_classes", "masks", *own)

    def open_split(self, recipe: Recipe, split: str) -> ObjectSamples:
        """A split of the data set, with what the model learns from, and masks where objects are copied along them."""
        read = recipe.data
        if len(read.paths) > 1 or read.classes is not None:
            raise RecipeError(
                f"data.path must be one data set for {self.name}; got {list(read.paths)}. Join the files first."
            )
        cut: tuple[Columns, ...] = ("masks",) if recipe.augmentation["copy_paste"] else ()
        return open_dataset(
            read.paths[0],
            split=split,
            task="objects",
            format=read.format,
            on_error=read.on_error,
            channels=read.channels,
            columns=tuple(dict.fromkeys(("boxes", *self.columns, *cut))),
        )

    def check_data(self, samples: ObjectSamples, recipe: Recipe) -> None:
        """Raise where the recipe asks for what only segmenters have."""
        if recipe.adversarial is not None:
            raise RecipeError("adversarial must be left out for a detector; got a section. It judges label maps.")
        if recipe.data.sampling != "uniform":
            raise RecipeError(f"data.sampling must be uniform for a detector; got {recipe.data.sampling}.")
        if "keypoints" in self.columns and not samples.keypoint_names:
            raise DataError(
                f"data must name their keypoints for '{recipe.model['name']}'; got '{samples.name}' with "
                f"{', '.join(samples.columns)}. Take a detector, or annotations with keypoints."
            )

    def fitted(self, recipe: Recipe, samples: ObjectSamples, model: nn.Module) -> Recipe:
        """With the size that the model sees: its own where it has one, else one for images of these sizes."""
        values = recipe.augmentation
        own = getattr(model, "input_size", None)
        size = None if values["size"] is None else tuple(values["size"])
        if own is not None and (values["fit"] == "shortest" or (size is not None and size != tuple(own))):
            what = "fit shortest" if values["fit"] == "shortest" else f"size {list(size or ())}"
            raise RecipeError(
                f"augmentation.size must be {list(own)} for '{recipe.model['name']}', whose input has a fixed size; "
                f"got {what}."
            )
        if own is not None and values["multi_scale"]:
            raise RecipeError(f"augmentation.multi_scale must be empty for '{recipe.model['name']}', of one size.")
        if size is not None or values["fit"] == "shortest":
            return recipe
        chosen = fitting_size(samples.truth().image_sizes) if own is None else (int(own[0]), int(own[1]))
        return msgspec.structs.replace(recipe, augmentation={**values, "size": list(chosen)})

    def sample_weights(self, recipe: Recipe, samples: ObjectSamples) -> list[float] | None:
        """Every image once an epoch."""
        return None

    def mixings(self, recipe: Recipe, samples: ObjectSamples) -> Sequence[Mixing]:
        """Mosaic, MixUp and copy-paste."""
        return train_mixings(_augmentation(recipe))

    def train_transform(self, recipe: Recipe, samples: ObjectSamples) -> Transform:
        """The training augmentation of images and objects."""
        return train_transform(_augmentation(recipe), keypoint_names=samples.keypoint_names)

    def eval_transform(self, recipe: Recipe, samples: ObjectSamples) -> Transform | None:
        """To the size that the model sees."""
        return eval_transform(_augmentation(recipe))

    def collate(self, samples: ObjectSamples) -> Callable[[Any], Any]:
        """To :class:`~delineate.data.object_batches.ObjectBatch`."""
        return object_collate

    def losses(self, recipe: Recipe, samples: ObjectSamples, *, counted: bool = True) -> nn.Module:
        """The detector's one loss."""
        return create_object_loss(recipe.loss)

    def learner(
        self,
        model: nn.Module,
        losses: nn.Module,
        *,
        recipe: Recipe,
        preprocessing: Preprocessing,
        samples: ObjectSamples,
        total_steps: int,
    ) -> ObjectDetection:
        """The detector's."""
        return ObjectDetection(
            model,
            losses,
            recipe=recipe,
            augmentation=_augmentation(recipe),
            preprocessing=preprocessing,
            class_names=samples.taxonomy.names,
            total_steps=total_steps,
            file_of=samples.files,
            joints=len(samples.keypoint_names),
        )

    def decided(self, samples: ObjectSamples) -> dict[str, Any]:
        """How many joints an object has."""
        return {"joints": len(samples.keypoint_names)} if "keypoints" in self.columns else {}

    def card_facts(self, recipe: Recipe, samples: ObjectSamples) -> dict[str, Any]:
        """How a picture becomes of the size that the model sees, and what the joints are called."""
        fit = {key: recipe.augmentation[key] for key in ("fit", "size", "shortest", "longest")}
        return {"fit": fit, "keypoint_names": tuple(samples.keypoint_names) if "keypoints" in self.columns else ()}


def fitting_size(sizes: np.ndarray) -> tuple[int, int]:
    """What a model sees of pictures of these (height, width): their medians, 640 pixels long at most, to whole 32.

    Example:
        >>> fitting_size(np.array([[480, 640], [960, 1280], [100, 200]])), fitting_size(np.array([[96, 96]]))
        ((480, 640), (96, 96))
    """
    height, width = np.median(sizes, axis=0)
    zoom = min(1.0, LARGEST / max(height, width))
    high, wide = (max(MULTIPLE, round(length * zoom / MULTIPLE) * MULTIPLE) for length in (height, width))
    return int(high), int(wide)


def _augmentation(recipe: Recipe) -> ObjectAugmentation:
    return resolved(recipe.augmentation)
