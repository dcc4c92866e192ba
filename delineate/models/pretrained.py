"""Weights from anywhere: what fits a model by name and shape is loaded, and the rest is named."""

from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from delineate.errors import ArgumentError, RunError

SUFFIXES = (".safetensors", ".pt", ".pth", ".ckpt", ".bin")
WRAPPERS = ("state_dict", "model_state_dict", "model_state", "model", "module", "net", "network", "weights")
PREFIXES = ("module.", "model.", "_orig_mod.", "net.", "network.")
_SHOWN = 5


@dataclass(frozen=True)
class Mismatch:
    """A name that both sides have, with different shapes.

    Args:
        name: as the model has it.
        expected: the shape in the model.
        found: the shape in the weights.
    """

    name: str
    expected: tuple[int, ...]
    found: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.name} (model {self.expected}, weights {self.found})"


@dataclass(frozen=True)
class MatchReport:
    """What became of each weight.

    Args:
        loaded: names in both, of equal shape.
        missing: names that the model alone has; they keep their values.
        unexpected: names that the weights alone have.
        mismatched: names in both, of different shapes; the model keeps its values.
    """

    loaded: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    mismatched: tuple[Mismatch, ...]

    @property
    def complete(self) -> bool:
        """Whether every weight of the model was loaded."""
        return not self.missing and not self.mismatched

    def __str__(self) -> str:
        lines = [f"{len(self.loaded)} of {len(self.loaded) + len(self.missing) + len(self.mismatched)} weights loaded"]
        kinds: tuple[tuple[str, tuple[Any, ...]], ...] = (
            ("not in the weights", self.missing),
            ("not in the model", self.unexpected),
            ("of another shape", self.mismatched),
        )
        for kind, names in kinds:
            if names:
                shown = ", ".join(str(name) for name in names[:_SHOWN])
                more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
                lines.append(f"{len(names)} {kind}: {shown}{more}")
        return "\n".join(lines)


def load_matching(model: nn.Module, weights: str | Path | Mapping[str, Any]) -> MatchReport:
    """Load whatever of ``weights`` has a name and a shape of ``model``'s, and say what did not.

    The state may be wrapped as training scripts save it (``{"state_dict": ...}``, ``{"model": ..., "epoch": ...}``),
    and its names may begin with other wrappers' prefixes ("module.", "model.", "_orig_mod."): as many of those are
    taken off as let most names fit. Nothing in the model changes when an error is raised.

    Args:
        model: any module; for the weights of an encoder alone, pass ``model.encoder``.
        weights: a file (``.safetensors``, ``.pt``, ``.pth``, ``.ckpt``, ``.bin``), or what would be in it. Files that
            PyTorch saved are read as tensors and plain values; code that a pickle carries is never run.

    Returns:
        The names of every weight, by what became of it.

    Raises:
        RunError: when the file is missing, damaged, or holds anything but tensors and plain values.
        ArgumentError: when no weight fits, or there is none.

    Example:
        >>> model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 2, 1))
        >>> report = load_matching(model, {"state_dict": {"module.0.weight": torch.zeros(8, 3, 3, 3)}})
        >>> print(report)
        1 of 4 weights loaded
        3 not in the weights: 0.bias, 1.weight, 1.bias
    """
    place = "weights" if isinstance(weights, Mapping) else f"'{weights}'"
    state = _tensors(weights if isinstance(weights, Mapping) else _read(Path(weights)))
    if not state:
        raise ArgumentError(f"weights must hold tensors by name; got none in {place}.")
    expected = model.state_dict()
    state = _without_prefix(state, expected)
    shared = [name for name in expected if name in state]
    fitting = {name: state[name] for name in shared if state[name].shape == expected[name].shape}
    report = MatchReport(
        loaded=tuple(fitting),
        missing=tuple(name for name in expected if name not in state),
        unexpected=tuple(name for name in state if name not in expected),
        mismatched=tuple(
            Mismatch(name, tuple(expected[name].shape), tuple(state[name].shape))
            for name in shared
            if name not in fitting
        ),
    )
    if not fitting:
        ours, theirs = next(iter(expected), "nothing"), next(iter(state))
        raise ArgumentError(
            f"weights must have names and shapes of the model's; got {place}, of whose {len(state)} tensors none fits "
            f"(theirs begin with '{theirs}' {tuple(state[theirs].shape)}, the model's with '{ours}')."
        )
    model.load_state_dict(fitting, strict=False)
    return report


def _read(path: Path) -> Any:
    if not path.is_file():
        raise RunError(f"weights must name a run's folder or a file; got '{path}', which is not there.")
    if path.suffix.lower() not in SUFFIXES:
        raise ArgumentError(f"weights must be a file ending in {', '.join(SUFFIXES)}; got '{path}'.")
    try:
        if path.suffix.lower() == ".safetensors":
            return load_file(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of unusual pickles, which are then read or refused all the same
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # torch's message is a page long, and its advice is to trust the file
        name = re.search(r"GLOBAL (\S+)", str(error))
        what = f"'{name[1]}'" if name else "something else"
        raise RunError(f"'{path}' must hold tensors and plain values alone; got {what}, which was not run.") from None
    except Exception as error:
        # whatever a damaged archive brings about: EOFError, KeyError, RuntimeError, SafetensorError, ...
        reason = str(error).partition(". ")[0] if isinstance(error, RuntimeError | SafetensorError) else ""
        raise RunError(
            f"'{path}' must be a weights file; got a damaged one ({reason or type(error).__name__})."
        ) from None


def _tensors(values: Any) -> dict[str, Tensor]:
    """The first mapping with tensors in it, from the outside in."""
    if not isinstance(values, Mapping):
        return {}
    found = {name: value for name, value in values.items() if isinstance(name, str) and isinstance(value, Tensor)}
    if found:
        return found
    for wrapper in WRAPPERS:
        if inner := _tensors(values.get(wrapper)):
            return inner
    return {}


def _without_prefix(state: dict[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """``state`` with that chain of prefixes off which leaves the most names of ``expected``; none on a draw."""
    best, most = state, sum(name in expected for name in state)
    names = state
    while prefix := next((prefix for prefix in PREFIXES if any(name.startswith(prefix) for name in names)), None):
        names = {name.removeprefix(prefix): value for name, value in names.items()}
        if (count := sum(name in expected for name in names)) > most:
            best, most = names, count
    return best
