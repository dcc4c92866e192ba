"""Outputs in, predictions in image coordinates out."""

from __future__ import annotations

import importlib
from typing import Any

_EXPORTS = {
    "DenseCRF": "dense_crf",
    "SuperpixelVoting": "superpixels",
    "Views": "test_time_augmentation",
    "augmented": "test_time_augmentation",
    "fill_holes": "cleaning",
    "graph_superpixels": "superpixels",
    "parse_views": "test_time_augmentation",
    "predict_tiled": "tiling",
    "refined": "refinement",
    "remove_islands": "cleaning",
    "slic_superpixels": "superpixels",
    "superpixel_means": "superpixels",
    "superpixel_vote": "superpixels",
    "unary_from_labels": "dense_crf",
}

__all__ = sorted(_EXPORTS)


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'delineate.postprocess' has no attribute '{name}'")
    value = getattr(importlib.import_module(f"delineate.postprocess.{_EXPORTS[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
