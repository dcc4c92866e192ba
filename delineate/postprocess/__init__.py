"""Outputs in, predictions in image coordinates out."""

from __future__ import annotations

from delineate.lazy import lazy_names

_EXPORTS = {
    "DenseCRF": "dense_crf",
    "Refinement": "refinement",
    "SuperpixelVoting": "superpixels",
    "Views": "test_time_augmentation",
    "augmented": "test_time_augmentation",
    "fill_holes": "cleaning",
    "graph_superpixels": "superpixels",
    "parse_crf": "refinement",
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
__getattr__, __dir__ = lazy_names(__name__, _EXPORTS)
