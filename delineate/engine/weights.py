"""Weights on disk: ``model.safetensors`` with ``model.json`` beside it, which says what they belong to. No pickle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from delineate.engine.recipe_sections import DecodingRecipe
from delineate.errors import DelineateError, RunError
from delineate.files import replaced_file, write_text
from delineate.models.catalogue import create_model
from delineate.structures.preprocessing import Preprocessing
from delineate.structures.taxonomy import Taxonomy

FORMAT = 1


@dataclass(frozen=True)
class ModelCard:
    """What a weights file belongs to.

    Args:
        name: the model's name in the catalogue.
        options: what its factory was called with, ``num_classes`` included.
        preprocessing: how pixels become its input.
        taxonomy: what its classes are called.
        task: the model's task family.
        precision: the format it was trained in.
        fit: how a picture becomes of the size that a detector sees: the "fit", "size", "shortest" and "longest" of
            :class:`~delineate.data.object_augmentation.ObjectAugmentation`. Empty where pictures are taken as they are.
        keypoint_names: one a joint, of models that find them.
        decoding: which of a detector's boxes are its answer, where its recipe says so: some of the fields of
            :class:`~delineate.structures.scored_boxes.DetectionOptions`. What is not there is the model's own.
    """

    name: str
    options: dict[str, Any]
    preprocessing: Preprocessing
    taxonomy: Taxonomy
    task: str = "semantic"
    precision: str = "float32"
    fit: dict[str, Any] = field(default_factory=dict)
    keypoint_names: tuple[str, ...] = ()
    decoding: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        values = {
            "format": FORMAT,
            "task": self.task,
            "model": {"name": self.name, "options": self.options},
            "preprocessing": self.preprocessing.to_dict(),
            "taxonomy": self.taxonomy.to_dict(),
            "precision": self.precision,
        }
        if self.fit:
            values["fit"] = self.fit
        if self.keypoint_names:
            values["keypoint_names"] = list(self.keypoint_names)
        if self.decoding:
            values["decoding"] = self.decoding
        return values


def without_downloads(options: Mapping[str, Any]) -> dict[str, Any]:
    """A model's options without those that fetch weights, also those of a model inside it.

    Example:
        >>> without_downloads({"weights": "coco", "base": {"name": "unet", "pretrained": True}})
        {'base': {'name': 'unet'}}
    """
    return {
        key: without_downloads(value) if isinstance(value, Mapping) else value
        for key, value in options.items()
        if key not in ("pretrained", "weights")
    }


def save_weights(path: str | Path, state: dict[str, Tensor], card: ModelCard) -> None:
    """Write ``path`` (``.safetensors``) and the card beside it (``.json``), each whole or not at all."""
    path = Path(path)
    # cloned: safetensors refuses weights that share memory, which tied layers and views do
    tensors = {name: value.detach().cpu().clone(memory_format=torch.contiguous_format) for name, value in state.items()}
    with replaced_file(path) as temporary:
        save_file(tensors, temporary)
    write_text(path.with_suffix(".json"), json.dumps(card.to_dict(), indent=2) + "\n")


def read_card(path: str | Path) -> ModelCard:
    """The card of a weights file.

    Raises:
        RunError: when it is missing or is not a card this version reads.
    """
    path = Path(path).with_suffix(".json")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if values["format"] > FORMAT:
            raise RunError(f"{path} must be of format {FORMAT} or older; got {values['format']}. Upgrade delineate.")
        return ModelCard(
            name=str(values["model"]["name"]),
            options=dict(values["model"]["options"]),
            preprocessing=Preprocessing.from_dict(values["preprocessing"]),
            taxonomy=Taxonomy.from_dict(values["taxonomy"]),
            task=values.get("task", "semantic"),
            precision=values.get("precision", "float32"),
            fit=dict(values.get("fit", {})),
            keypoint_names=tuple(values.get("keypoint_names", ())),
            decoding=msgspec.convert(values.get("decoding", {}), DecodingRecipe).chosen,
        )
    except OSError as error:
        raise RunError(f"weights must have their card beside them; got no '{path}' ({error.strerror}).") from None
    except RunError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, msgspec.ValidationError) as error:
        raise RunError(f"{path} must be a model card; got something else ({type(error).__name__}: {error}).") from None


def card_beside(weights: str | Path) -> ModelCard | None:
    """The card of a run folder or of a file of weights; None where there is none that can be read.

    Example:
        >>> card_beside("weights/of/another/making.pth") is None
        True
    """
    path = Path(weights).expanduser()
    try:
        return read_card(path / "model.safetensors" if path.is_dir() else path)
    except RunError:
        return None


def load_weights(path: str | Path) -> tuple[nn.Module, ModelCard]:
    """The model with its weights, in evaluation mode on the CPU, and its card.

    Args:
        path: a run folder, or its ``model.safetensors``.

    Raises:
        RunError: when a file is missing, damaged, or belongs to another architecture.
    """
    path = Path(path)
    if path.is_dir():
        path = path / "model.safetensors"
    if not path.is_file():
        raise RunError(
            f"weights must be a .safetensors file or a finished run folder; got '{path}', which is not there."
        )
    card = read_card(path)
    with torch.device("meta"):
        model = _described(card, path)
    try:
        state = load_file(path)
    except (SafetensorError, OSError) as error:
        raise RunError(f"{path} must be a safetensors file; got a damaged one ({error}).") from None
    expected = model.state_dict()
    lost, extra = sorted(expected.keys() - state.keys()), sorted(state.keys() - expected.keys())
    odd = [name for name in expected.keys() & state.keys() if expected[name].shape != state[name].shape]
    if lost or extra or odd:
        count = len(lost) + len(extra) + len(odd)
        raise RunError(
            f"{path} must hold the weights of {card.name}; got {count} entries that do not fit, such as "
            f"'{(lost + extra + odd)[0]}'."
        )
    state = {name: value.to(expected[name].dtype) for name, value in state.items()}
    model.load_state_dict(state, assign=True)
    if any(tensor.is_meta for tensor in (*model.parameters(), *model.buffers())):
        # something is computed when the model is made, and not saved (Swin's table of relative positions)
        with torch.random.fork_rng(devices=[]):
            model = _described(card, path)
        model.load_state_dict(state)
    return model.eval().requires_grad_(False), card


def _described(card: ModelCard, path: Path) -> nn.Module:
    """A new model as the card describes it, without pretrained weights: the saved ones replace them."""
    options = without_downloads(card.options)
    place = path.with_suffix(".json")
    try:
        model = create_model(card.name, **options)
    except (DelineateError, TypeError) as error:
        raise RunError(f"{place} must describe a model of this version; got one it cannot make ({error}).") from None
    ours = (card.taxonomy.num_classes, card.preprocessing.channels)
    theirs = (getattr(model, "num_classes", ours[0]), getattr(model, "in_channels", ours[1]))
    if ours != theirs:
        raise RunError(
            f"{place} must agree with itself; got a model of {theirs[0]} classes and {theirs[1]} image channels with "
            f"{ours[0]} class names and preprocessing for {ours[1]} channels."
        )
    return model
