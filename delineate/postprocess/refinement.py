"""What is done to a model's answers: views fused, the image looked at once more, small regions removed.

It is what the command line calls ``--tta``, ``--crf``, ``--superpixels``, ``--islands`` and ``--holes``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import torch
from jaxtyping import Float, Integer, UInt8
from torch import Tensor

from delineate.checks import require
from delineate.errors import ArgumentError
from delineate.postprocess.cleaning import fill_holes, remove_islands
from delineate.postprocess.dense_crf import DenseCRF
from delineate.postprocess.superpixels import METHODS, SuperpixelVoting
from delineate.postprocess.test_time_augmentation import Infer, Views, augmented, parse_views
from delineate.registry import unknown_name

Refine = Callable[[UInt8[Tensor, "B C H W"], Float[Tensor, "B K H W"]], Float[Tensor, "B K H W"]]
"""Images and logits to probabilities."""

DEFAULT = "default"

_METHOD_OPTIONS = {"slic": ("segments", "compactness", "iterations"), "graph": ("sigma", "scale", "min_size")}


class RefinementOptions(TypedDict, total=False):
    """The keywords of :class:`Refinement`, for functions that take them too."""

    tta: str
    crf: str | Refine
    superpixels: str | Refine
    islands: int
    holes: int


@dataclass(frozen=True)
class Refinement:
    """What is done to a model's answers, in this order; nothing when left out.

    Args:
        tta: views of the image whose answers are fused, such as "flip,scale", see :func:`parse_views`.
        crf: the dense CRF, such as "default", see :func:`parse_crf`; or any function of images and logits to
            probabilities.
        superpixels: "slic" or "graph", see :func:`parse_superpixels`; or a function as for ``crf``.
        islands: regions of fewer pixels get the label around them, see
            :func:`~delineate.postprocess.cleaning.remove_islands`.
        holes: holes of at most so many pixels get the label around them, see
            :func:`~delineate.postprocess.cleaning.fill_holes`.

    Raises:
        ArgumentError: when a text has another form or an area is negative.
        UnknownNameError: on an unknown name in a text; says the nearest known one.

    Example:
        >>> Refinement(crf="iterations=3", islands=2).cleaned(np.array([[0, 0, 1, 0]]))
        array([[0, 0, 0, 0]])
    """

    tta: str = ""
    crf: str | Refine = ""
    superpixels: str | Refine = ""
    islands: int = 0
    holes: int = 0

    def __post_init__(self) -> None:
        for name in ("islands", "holes"):
            require(getattr(self, name) >= 0, name, "be an area of 0 pixels or more", getattr(self, name))
        _ = self.views, self.steps  # what a text says wrong is said before any work

    @cached_property
    def views(self) -> Views | None:
        """What ``tta`` stands for."""
        return parse_views(self.tta) if self.tta.strip() else None

    @cached_property
    def steps(self) -> tuple[Refine, ...]:
        """What ``crf`` and ``superpixels`` stand for, as far as they are asked for."""
        steps: list[Refine] = []
        for given, parse in ((self.crf, parse_crf), (self.superpixels, parse_superpixels)):
            if not isinstance(given, str):
                steps.append(given)
            elif given.strip():
                steps.append(parse(given))
        return tuple(steps)

    def over(self, infer: Infer) -> Infer:
        """An ``infer`` that answers with views fused, then with each of the :attr:`steps`; fits wherever it did."""
        if self.views is not None:
            infer = augmented(infer, self.views)
        for step in self.steps:
            infer = refined(infer, step)
        return infer

    def cleaned(self, labels: Integer[np.ndarray, "H W"], *, ignore_index: int = 255) -> Integer[np.ndarray, "H W"]:
        """A whole label map without its small islands, then without its small holes; of the same type."""
        if self.islands:
            labels = remove_islands(labels, min_area=self.islands, ignore_index=ignore_index)
        if self.holes:
            labels = fill_holes(labels, max_area=self.holes, ignore_index=ignore_index)
        return labels


def refined(infer: Infer, refine: Refine) -> Infer:
    """An ``infer`` whose answers are refined; fits wherever ``infer`` did, tiles and averaged views included.

    Args:
        infer: images to logits.
        refine: the same images and these logits to probabilities, such as a :class:`DenseCRF`.

    Returns:
        Images to the logarithm of the probabilities, so that argmax and softmax work as on logits.
    """

    def infer_refined(images: UInt8[Tensor, "B C h w"]) -> Float[Tensor, "B K h w"]:
        return log_probs(refine(images, infer(images).float()))

    return infer_refined


def log_probs(probs: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """The logarithm of float32 probabilities, finite for those of 0 too: logits whose softmax they are."""
    return probs.clamp_min(torch.finfo(torch.float32).tiny).log()


def crf_parameters(crf: DenseCRF) -> dict[str, Any]:
    """The parameters that are single values, by name: what a text or a file can say.

    Example:
        >>> crf_parameters(DenseCRF())["iterations"]
        5
    """
    values = {field.name: getattr(crf, field.name) for field in fields(crf)}
    return {name: value for name, value in values.items() if isinstance(value, int | float | str)}


def superpixel_parameters(voting: SuperpixelVoting) -> dict[str, Any]:
    """The parameters that its method has, by name.

    Example:
        >>> superpixel_parameters(SuperpixelVoting("graph"))
        {'sigma': 0.8, 'scale': 300.0, 'min_size': 20}
    """
    return {name: getattr(voting, name) for name in _METHOD_OPTIONS[voting.method]}


def parse_crf(text: str) -> DenseCRF:
    """The dense CRF that a text asks for, as in ``--crf bilateral_weight=5,iterations=10``.

    Args:
        text: "default"; or parameters of :class:`DenseCRF` as name=value, with commas, the rest as by default; or a
            file ending in ``.json`` that holds them, such as ``delineate tune-crf`` writes.

    Raises:
        ArgumentError: when the text has another form, a value is none that the parameter can take, or a file cannot be
            read.
        UnknownNameError: on another parameter; says the nearest known one.

    Example:
        >>> parse_crf("bilateral_weight=5, iterations=10").iterations
        10
    """
    text = text.strip()
    if text.lower() == DEFAULT:
        return DenseCRF()
    defaults = crf_parameters(DenseCRF())
    if text.lower().endswith(".json"):
        values = _read(Path(text))
    else:
        form = "be 'default', name=value with commas, or a .json file"
        values = _named_values(text, text.split(","), "crf", form, [DEFAULT, *defaults])
    return DenseCRF(**_typed(values, defaults, "parameter of the crf"))


def parse_superpixels(text: str) -> SuperpixelVoting:
    """The vote of superpixels that a text asks for, as in ``--superpixels slic,segments=800``.

    Args:
        text: "slic" or "graph"; then, with commas, options of that method as name=value, see
            :class:`SuperpixelVoting`.

    Raises:
        ArgumentError: when the text has another form, or a value is none that the option can take.
        UnknownNameError: on another method or option; says the nearest known one.

    Example:
        >>> parse_superpixels("graph, scale=200").scale
        200.0
    """
    method, *options = (part.strip() for part in text.split(","))
    method = method.lower()
    if method not in METHODS:
        raise unknown_name("superpixels", method, METHODS)
    defaults = superpixel_parameters(SuperpixelVoting(method))
    form = "be 'slic' or 'graph', then name=value with commas"
    values = _named_values(text, options, "superpixels", form, defaults)
    return SuperpixelVoting(method, **_typed(values, defaults, f"option of {method} superpixels"))


def _named_values(text: str, parts: Iterable[str], argument: str, form: str, known: Iterable[str]) -> dict[str, str]:
    """The name=value of each part of ``text``."""
    values: dict[str, str] = {}
    for part in parts:
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals and name:
            raise unknown_name(argument, name, known)
        require(bool(name and value), argument, form, repr(text))
        values[name] = value
    return values


def _typed(values: Mapping[str, Any], defaults: Mapping[str, Any], kind_of_name: str) -> dict[str, Any]:
    """The values in the types of the defaults; numbers may be text."""
    given: dict[str, Any] = {}
    for name, value in values.items():
        if name not in defaults:
            raise unknown_name(kind_of_name, name, defaults)
        kind = type(defaults[name])
        try:
            given[name] = int(str(value)) if kind is int else kind(value)
        except (TypeError, ValueError):
            wanted = "a whole number" if kind is int else "a number"
            raise ArgumentError(f"{name} must be {wanted}; got {value!r}.") from None
    return given


def _read(path: Path) -> dict[str, Any]:
    """The parameters in a file: an object of them, or one that holds it under "crf"."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ArgumentError(f"crf must name a readable file; got '{path}' ({error.strerror}).") from None
    except ValueError as error:
        raise ArgumentError(f"crf must name a JSON file; got '{path}' ({error}).") from None
    values = values.get("crf", values) if isinstance(values, dict) else values
    require(isinstance(values, dict), "crf", "name a file with an object of parameters", f"'{path}'")
    parameters: dict[str, Any] = values
    return parameters
