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
from delineate.data.object_mixture import MixedObjects, open_object_mixture
from delineate.data.objects.coco_json import Columns
from delineate.data.opening import open_dataset
from delineate.data.samples import ObjectSamples
from delineate.data.word_tree_file import read_word_tree
from delineate.engine.objects import ObjectDetection
from delineate.engine.proposal_learner import SCORE, ProposalLearning
from delineate.engine.proposing import Proposer, learns
from delineate.engine.recipe import Recipe
from delineate.engine.task import Task, Transform
from delineate.errors import DataError, RecipeError
from delineate.losses.object_catalogue import create_object_loss
from delineate.models.catalogue import model_options
from delineate.models.faster_rcnn import FasterRCNN
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
        every = ("boxes", "labels", "image_label", "area", "iscrowd", "image_id", "valid_classes", "masks")
        self.target_keys = (*every, *own)

    def open_split(self, recipe: Recipe, split: str) -> ObjectSamples:
        """A split of the data set, with what the model learns from, and masks where objects are copied along them.

        With a tree of words, of several data sets; those of which pictures are only named are trained on alone.
        """
        read = recipe.data
        if read.tree:
            _check_words(recipe)
            return open_object_mixture(
                read.paths,
                tree=read_word_tree(read.tree),
                split=split,
                labelled=split == read.train_split,
                format=read.format,
                on_error=read.on_error,
                channels=read.channels,
            )
        if len(read.paths) > 1 or read.classes is not None:
            raise RecipeError(
                f"data.path must be one data set for {self.name}; got {list(read.paths)}. Join the files first, or "
                "train yolo9000 with data.tree."
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
        _check_mixture(samples, recipe)
        if "keypoints" in self.columns and not samples.keypoint_names:
            raise DataError(
                f"data must name their keypoints for '{recipe.model['name']}'; got '{samples.name}' with "
                f"{', '.join(samples.columns)}. Take a detector, or annotations with keypoints."
            )

    def fitted(self, recipe: Recipe, samples: ObjectSamples, model: nn.Module) -> Recipe:
        """With the size that the model sees: its own where it has one, else one for images of these sizes."""
        _check_decoding(recipe, model)
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
        sizes = samples.truth().image_sizes
        chosen = fitting_size(sizes[(sizes > 0).all(1)]) if own is None else (int(own[0]), int(own[1]))
        return msgspec.structs.replace(recipe, augmentation={**values, "size": list(chosen)})

    def sample_weights(self, recipe: Recipe, samples: ObjectSamples) -> list[float] | None:
        """Every image once an epoch; of a mixture as the recipe says."""
        if recipe.data.shares is None or not isinstance(samples, MixedObjects):
            return None
        return samples.weights(recipe.data.shares)

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
        proposer: Proposer | None = None,
    ) -> ObjectDetection:
        """The detector's, or that of its proposals alone."""
        facts: dict[str, Any] = {
            "recipe": recipe,
            "augmentation": _augmentation(recipe),
            "preprocessing": preprocessing,
            "class_names": samples.taxonomy.names,
            "total_steps": total_steps,
            "file_of": samples.files,
            "joints": len(samples.keypoint_names),
            "proposer": proposer,
            "judged": samples.boxed_words if isinstance(samples, MixedObjects) else None,
        }
        if isinstance(model, FasterRCNN) and not learns(recipe, "regions"):
            return ProposalLearning(model, losses, **facts)
        return ObjectDetection(model, losses, **facts)

    def watched(self, recipe: Recipe) -> tuple[str, str]:
        """Average precision; where regions do not learn, how many objects the proposals find."""
        return super().watched(recipe) if learns(recipe, "regions") else (SCORE, "AR of proposals")

    def decided(self, samples: ObjectSamples) -> dict[str, Any]:
        """How many joints an object has, and which words the classes are."""
        if isinstance(samples, MixedObjects):
            return {"tree": list(samples.tree.to_paths())}
        return {"joints": len(samples.keypoint_names)} if "keypoints" in self.columns else {}

    def card_facts(self, recipe: Recipe, samples: ObjectSamples) -> dict[str, Any]:
        """How a picture becomes of the size that the model sees, how joints are called, and what is decoded how."""
        fit = {key: recipe.augmentation[key] for key in ("fit", "size", "shortest", "longest")}
        names = tuple(samples.keypoint_names) if "keypoints" in self.columns else ()
        return {"fit": fit, "keypoint_names": names, "decoding": recipe.chosen_decoding}


def _check_words(recipe: Recipe) -> None:
    """Raise unless the model takes the data's tree of words, and the recipe says nothing that goes against it."""
    name = recipe.model["name"]
    if "tree" not in model_options(name):
        raise RecipeError(f"data.tree must be left out for '{name}', whose classes are no tree. yolo9000's are.")
    if recipe.data.classes is not None:
        raise RecipeError("data.classes must be left out with data.tree, whose words are the classes.")


def _check_mixture(samples: ObjectSamples, recipe: Recipe) -> None:
    """Raise where the recipe asks for what pictures that are only named, or data sets without them, cannot do."""
    read = recipe.data
    if recipe.model.get("tree") is not None:
        raise RecipeError("model.tree must be left out, as the data decide it; got a list. Name a file in data.tree.")
    if read.shares is not None and not (isinstance(samples, MixedObjects) and len(samples.parts) == len(read.shares)):
        count = len(samples.parts) if isinstance(samples, MixedObjects) else 0
        got = f"{list(read.shares)} for {count or 'no'} data sets of a mixture"
        raise RecipeError(f"data.shares must be one number a data set with a split '{read.train_split}'; got {got}.")
    if not isinstance(samples, MixedObjects) or not samples.with_labels:
        return
    for key in ("mosaic", "mixup", "copy_paste"):
        if recipe.augmentation[key]:
            raise RecipeError(
                f"augmentation.{key} must be 0 where pictures are only named, as nobody knows what of them another one "
                f"would get; got {recipe.augmentation[key]}."
            )
    if read.val_split == read.train_split:
        raise RecipeError(
            f"data.val_split must be another one than data.train_split where pictures are only named; got "
            f"'{read.val_split}'. Their objects are not known, so that nothing can be scored on them."
        )


def _check_decoding(recipe: Recipe, model: nn.Module) -> None:
    """Raise where the recipe decides of decoding what the model does not do."""
    idle = [key for key in ("candidates", "groups") if key in recipe.chosen_decoding]
    if idle and isinstance(model, FasterRCNN):
        raise RecipeError(
            f"decoding.{idle[0]} must be left out for '{recipe.model['name']}', which compares all its regions; got "
            f"{recipe.chosen_decoding[idle[0]]}."
        )


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
