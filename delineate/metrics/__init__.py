"""Predictions and targets in, numbers out; NaN where a number is undefined.

Functions stand in modules that need NumPy alone, so that ``delineate score`` is done before PyTorch would have loaded;
the torchmetrics classes beside them are loaded when they are first named.
"""

from __future__ import annotations

from delineate.lazy import lazy_names

_EXPORTS = {
    "BoundaryScores": "detection_metric",
    "BoxScores": "detection_metric",
    "CalibrationScores": "calibration_metric",
    "DetectionConfusion": "confusion_metric",
    "DetectionErrorScores": "error_analysis_metric",
    "KeypointScores": "detection_metric",
    "LocalisationScores": "localisation_metric",
    "MaskScores": "detection_metric",
    "PanopticScores": "panoptic_metric",
    "PointLocalisation": "localisation_metric",
    "SaliencyScores": "saliency_metric",
    "SemanticScores": "semantic_metric",
    "TopKLocalisation": "localisation_metric",
    "VocScores": "voc_metric",
    "average_precision": "detection",
    "average_precision_11_point": "ranking",
    "average_precision_all_point": "ranking",
    "best_f1_thresholds": "calibration",
    "boundary_f1": "boundary",
    "boundary_scores": "detection",
    "box_scores": "detection",
    "calibration_scores": "calibration",
    "cam_box": "localisation",
    "detection_confusion": "confusion",
    "detection_errors": "error_analysis",
    "detection_scores": "detection",
    "image_saliency": "saliency",
    "cell_regions": "partition",
    "cell_scores": "partition",
    "keypoint_scores": "detection",
    "partition_scores": "partition",
    "mask_scores": "detection",
    "max_box_accuracy": "localisation",
    "panoptic_counts": "panoptic",
    "panoptic_scores": "panoptic",
    "point_localisation": "pointing",
    "saliency_scores": "saliency",
    "semantic_scores": "semantic",
    "topk_localisation_error": "localisation",
    "voc_scores": "voc",
}

__all__ = sorted(_EXPORTS)
__getattr__, __dir__ = lazy_names(__name__, _EXPORTS)
