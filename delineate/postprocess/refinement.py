"""Predictions refined by looking at the image once more: what the command line calls ``--crf``."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from delineate.checks import require
from delineate.errors import ArgumentError
from delineate.postprocess.dense_crf import DenseCRF
from delineate.postprocess.test_time_augmentation import Infer
from delineate.registry import unknown_name

Refine = Callable[[UInt8[Tensor, "B C H W"], Float[Tensor, "B K H W"]], Float[Tensor, "B K H W"]]
"""Images and logits to probabilities."""

DEFAULT = "default"


def refined(infer: Infer, refine: Refine) -> Infer:
    """An ``infer`` whose answers are refined; fits wherever ``infer`` did, tiles and averaged views included.

    Args:
        infer: images to logits.
        refine: the same images and these logits to probabilities, such as a :class:`DenseCRF`.

    Returns:
        Images to the logarithm of the probabilities, so that argmax and softmax work as on logits.
    """

    def infer_refined(images: UInt8[Tensor, "B C h w"]) -> Float[Tensor, "B K h w"]:
        probs = refine(images, infer(images).float())
        return probs.clamp_min(torch.finfo(torch.float32).tiny).log()

    return infer_refined


def crf_parameters(crf: DenseCRF) -> dict[str, Any]:
    """The parameters that are single values, by name: what a text or a file can say.

    Example:
        >>> crf_parameters(DenseCRF())["iterations"]
        5
    """
    values = {field.name: getattr(crf, field.name) for field in fields(crf)}
    return {name: value for name, value in values.items() if isinstance(value, int | float | str)}


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
    if text.lower().endswith(".json"):
        return _crf(_read(Path(text)))
    values: dict[str, Any] = {}
    for part in text.split(","):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals and name:
            raise unknown_name("crf", name, [DEFAULT, *crf_parameters(DenseCRF())])
        require(bool(name and value), "crf", "be 'default', name=value with commas, or a .json file", repr(text))
        values[name] = value
    return _crf(values)


def _crf(values: Mapping[str, Any]) -> DenseCRF:
    """The CRF with these parameters; numbers may be text."""
    defaults = crf_parameters(DenseCRF())
    given: dict[str, Any] = {}
    for name, value in values.items():
        if name not in defaults:
            raise unknown_name("parameter of the crf", name, defaults)
        kind = type(defaults[name])
        try:
            given[name] = int(str(value)) if kind is int else kind(value)
        except (TypeError, ValueError):
            wanted = "a whole number" if kind is int else "a number"
            raise ArgumentError(f"{name} must be {wanted}; got {value!r}.") from None
    return DenseCRF(**given)


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
