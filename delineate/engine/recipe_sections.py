"""The sections of a recipe: what each key means, its type, its range and its default."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, structs

Positive = Annotated[int, Meta(ge=1)]
NotNegative = Annotated[float, Meta(ge=0)]
Share = Annotated[float, Meta(ge=0, lt=1)]


class DataRecipe(Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """What is read, and how it is cut into batches.

    Args:
        path: the data set's folder, or "digits" for the built-in scenes; ``--data`` replaces it. A list of several is
            one mixture with joint classes, of which each data set may label some only; of objects, with ``tree``.
        classes: the names of the joint classes of a mixture, in order; a class left out is ignored. None for all of
            them, in order of first appearance. Of label maps.
        tree: a file with the words that the classes of all data sets are, a path a line ("animal/dog/terrier") or in
            darknet's form. For a model that learns a tree of words, from boxes and from folders of named pictures.
        shares: how often images of each data set of such a mixture come, in proportion; None for every image once in an
            epoch.
        format: a layout's name, or "auto".
        train_split, val_split: which records train and which validate.
        channels: of the images: 3 for RGB, 1 for grey.
        sampling: "uniform" has every image once in an epoch, "class_balanced" those with rare classes more often.
        batch_size: images in a batch over all processes together.
        val_batch_size: images in a validation batch; every process reads its own.
        workers: reading processes for training; None chooses by the number of cores.
        on_error: "raise" stops at a file that cannot be read; "skip" leaves it out and reports it.
        cache: keep decoded images in memory when they fit ("auto"), always ("memory") or never ("none").
    """

    path: str | tuple[str, ...] = ""
    classes: tuple[str, ...] | None = None
    tree: str = ""
    shares: tuple[Annotated[float, Meta(gt=0)], ...] | None = None
    format: str = "auto"
    train_split: str = "train"
    val_split: str = "val"
    channels: Positive = 3
    sampling: Literal["uniform", "class_balanced"] = "uniform"
    batch_size: Positive = 8
    val_batch_size: Positive = 4
    workers: Annotated[int, Meta(ge=0)] | None = None
    on_error: Literal["raise", "skip"] = "raise"
    cache: Literal["auto", "memory", "none"] = "auto"

    @property
    def paths(self) -> tuple[str, ...]:
        """The folders: one, or those of a mixture."""
        return (self.path,) if isinstance(self.path, str) else self.path

    @property
    def name(self) -> str:
        """The folders' names, joined."""
        return "+".join(Path(path).resolve().name for path in self.paths)


class OptimizerRecipe(Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """How weights move.

    Args:
        name: "adamw" or "sgd" (Nesterov when ``nesterov``).
        lr: the peak learning rate.
        encoder_lr: a factor on ``lr`` for the encoder's weights, below 1 when they are pretrained.
        weight_decay: decoupled for AdamW; biases and normalisation are exempt unless ``decay_all``.
        momentum: of SGD.
        betas: of AdamW.
    """

    name: Literal["adamw", "sgd"] = "adamw"
    lr: Annotated[float, Meta(gt=0)] = 1e-3
    encoder_lr: Annotated[float, Meta(gt=0)] = 1.0
    weight_decay: NotNegative = 0.01
    decay_all: bool = False
    momentum: Share = 0.9
    nesterov: bool = False
    betas: tuple[Share, Share] = (0.9, 0.999)


class ScheduleRecipe(Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """How the learning rate moves over the run.

    Args:
        name: "poly" ``(1 - t)^power``, "cosine", "one_cycle" (up from lr/25 and down to lr/10000) or "constant".
        power: of "poly".
        warmup: the share of all steps over which the rate rises, linearly or ("one_cycle", default 0.3) by cosine.
        floor: the share of the peak rate that "poly" and "cosine" never fall below.
    """

    name: Literal["poly", "cosine", "one_cycle", "constant"] = "one_cycle"
    power: Annotated[float, Meta(gt=0)] = 0.9
    warmup: Share | None = None
    floor: Share = 0.0


class TrainerRecipe(Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """How long, how fast, and with which safety nets.

    Args:
        max_epochs: passes over the training split.
        seed: decides initial weights, order and augmentation.
        precision: "auto", "float32", "bfloat16" or "float16".
        channels_last: keep activations in NHWC memory, which convolutions on CPUs and GPUs prefer.
        ema_decay: of the exponential moving average of the weights that is validated and saved; None for none.
        accumulate: batches whose gradients are summed before a step.
        gradient_clip: the largest gradient norm; None for any.
        early_stopping: validations without a better score (mIoU, AP) before the run ends; None for never.
        validate_every: epochs between validations.
        checkpoint_minutes: wall-clock minutes between checkpoints inside an epoch (epochs' ends have them too).
        checkpoint_steps: optimizer steps between checkpoints inside an epoch, None for only by time.
        threads: torch's CPU threads in each process; None leaves torch's choice.
    """

    max_epochs: Positive = 40
    seed: int = 0
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    channels_last: bool = True
    ema_decay: Share | None = 0.99
    accumulate: Positive = 1
    gradient_clip: Annotated[float, Meta(gt=0)] | None = 1.0
    early_stopping: Positive | None = None
    validate_every: Positive = 1
    checkpoint_minutes: Annotated[float, Meta(gt=0)] = 5.0
    checkpoint_steps: Positive | None = None
    threads: Positive | None = None


class DecodingRecipe(Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """Which of a detector's many boxes are its answer, in validation, evaluation, prediction and exported files alike.

    What is None is the model's own, as its authors have it; see
    :class:`~delineate.structures.scored_boxes.DetectionOptions`.

    Args:
        score_threshold: boxes of this score and below are dropped. Where it is None, validation and evaluation count
            from 0.01 and predictions show from 0.3.
        iou_threshold: of two boxes of one class that overlap by more, the better one stays; 1 keeps all.
        candidates: the most boxes of each group that are compared at all. Of one-stage detectors.
        groups: what a group is: "level" for each feature map, or "class". Of one-stage detectors.
        most: objects of an image.
    """

    score_threshold: Annotated[float, Meta(ge=0, lt=1)] | None = None
    iou_threshold: Annotated[float, Meta(ge=0, le=1)] | None = None
    candidates: Positive | None = None
    groups: Literal["level", "class"] | None = None
    most: Positive | None = None

    @property
    def chosen(self) -> dict[str, Any]:
        """What is not left to the model.

        Example:
            >>> DecodingRecipe(most=10).chosen
            {'most': 10}
        """
        return {name: value for name, value in structs.asdict(self).items() if value is not None}


class AdversarialRecipe(Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """A second network that learns to tell true label maps from predicted ones, and what it tells the segmenter.

    Source: Luc et al., "Semantic Segmentation using Adversarial Networks", NIPS Workshop on Adversarial Training 2016.

    Args:
        input: what it sees: "basic" (image and label map), "product" (each class times each channel of the image) or
            "scaling" (as basic, with a true map whose true class gets ``tau`` at least instead of 1).
        weight: of its term in the segmenter's loss, the paper's lambda.
        after_epochs: epochs that the segmenter trains without it first.
        lr: its peak learning rate, which follows the segmenter's schedule.
        field: how much of the label map one of its scores sees: "large", 34 x 34 positions, or "small", 18 x 18.
        stride: label maps are averaged over squares of this many pixels before it sees them.
        width: channels of its first layer.
        tau: of "scaling".
    """

    input: Literal["basic", "product", "scaling"] = "basic"
    weight: Annotated[float, Meta(gt=0)] = 0.1
    after_epochs: Annotated[int, Meta(ge=0)] = 0
    lr: Annotated[float, Meta(gt=0)] = 2e-4
    field: Literal["large", "small"] = "large"
    stride: Positive = 4
    width: Positive = 32
    tau: Annotated[float, Meta(gt=0, le=1)] = 0.9


NONE, BEFORE = "none", "before"  # of a start, in place of a path


class StartRecipe(Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """What the model knows before its first step.

    Args:
        weights: a run folder or a file of weights (``.safetensors``, ``.pt``, ``.pth``); what fits by name and shape is
            taken, and the run says what did not. A stage starts from "before", the stage before it, unless it names
            others or "none": the model's own first weights.
        freeze: parts of the model that keep their weights and batch statistics, such as ``encoder`` or
            ``decoder.blocks.0``; ``encoder.batch_norm`` stands for every batch normalisation of the encoder.
        proposals: a run folder or weights of a two-stage detector, which stays as it is and proposes the regions that
            this one draws from, in training and validation; in a stage also "before". The model's own proposals when
            empty.
    """

    weights: str = ""
    freeze: tuple[str, ...] = ()
    proposals: str = ""
