"""Outputs in, predictions in image coordinates out."""

from __future__ import annotations

from delineate.lazy import lazy_names

_EXPORTS = {
    "DenseCRF": "dense_crf",
    "TileObjects": "object_tiling",
    "Refinement": "refinement",
    "SuperpixelVoting": "superpixels",
    "Views": "test_time_augmentation",
    "augmented": "test_time_augmentation",
    "decode_keypoints": "keypoint_decoding",
    "detected_objects": "detection",
    "fill_holes": "cleaning",
    "graph_superpixels": "superpixels",
    "joined_objects": "object_tiling",
    "parse_crf": "refinement",
    "parse_views": "test_time_augmentation",
    "paste_masks": "mask_pasting",
    "predict_tiled": "tiling",
    "refined": "refinement",
    "remove_islands": "cleaning",
    "slic_superpixels": "superpixels",
    "superpixel_means": "superpixels",
    "superpixel_vote": "superpixels",
    "tile_windows": "tiling",
    "unary_from_labels": "dense_crf",
}

__all__ = sorted(_EXPORTS)
__getattr__, __dir__ = lazy_names(__name__, _EXPORTS)
