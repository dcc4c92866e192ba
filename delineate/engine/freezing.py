"""Parts of a model that keep their weights and batch statistics, by name."""

from __future__ import annotations

from torch import nn

BATCH_NORM = "batch_norm"


def parts_named(model: nn.Module, name: str) -> list[nn.Module] | None:
    """The parts that a name of ``start.freeze`` stands for; None where there is no such part.

    Args:
        model: whose parts they are.
        name: of ``model.named_modules()``; or ``PART.batch_norm``, ``batch_norm`` for the whole model: every batch
            normalisation in the part, none where it has none. A part that is really called so goes first.

    Example:
        >>> model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Sequential(nn.BatchNorm2d(4)))
        >>> [len(parts_named(model, name)) for name in ("0", "batch_norm", "2.batch_norm", "0.batch_norm")]
        [1, 2, 1, 0]
    """
    parts = dict(model.named_modules())
    if name and name in parts:
        return [parts[name]]
    place, _, last = name.rpartition(".")
    if last != BATCH_NORM or place not in parts:
        return None
    kinds = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d | nn.SyncBatchNorm
    return [part for part in parts[place].modules() if isinstance(part, kinds)]
