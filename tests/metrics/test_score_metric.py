"""What every torchmetrics class of the room promises: its own states in a collection, exact sums in any type."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchmetrics import Metric, MetricCollection

from delineate import metrics
from delineate.metrics.score_metric import ScoreMetric
from delineate.structures.panoptic import PanopticMap, PanopticSegments

NAMES = ("cat", "dog")
TWO_OF_EACH = {
    "BoxScores": (lambda c: c(NAMES), lambda c: c(NAMES, iou_thresholds=(0.5,))),
    "MaskScores": (lambda c: c(NAMES), lambda c: c(NAMES, max_detections=(1,))),
    "BoundaryScores": (lambda c: c(NAMES), lambda c: c(NAMES, ratio=0.1)),
    "KeypointScores": (lambda c: c(), lambda c: c(sigmas=[0.1] * 17)),
    "VocScores": (lambda c: c(NAMES), lambda c: c(NAMES, inclusive_pixels=False)),
    "DetectionConfusion": (lambda c: c(NAMES), lambda c: c(NAMES, score_threshold=0.9)),
    "DetectionErrorScores": (lambda c: c(NAMES), lambda c: c(NAMES, background_threshold=0.2)),
    "CalibrationScores": (lambda c: c(), lambda c: c(score_threshold=0.5)),
    "PanopticScores": (lambda c: c(NAMES, (True, True)), lambda c: c(NAMES, (True, False))),
    "SemanticScores": (lambda c: c(NAMES), lambda c: c(NAMES, ignore_index=0)),
    "SaliencyScores": (lambda c: c(), None),
    "LocalisationScores": (lambda c: c(), None),
    "TopKLocalisation": (lambda c: c(), lambda c: c(ks=(1, 3))),
    "PointLocalisation": (lambda c: c(NAMES), lambda c: c(NAMES, tolerance=1)),
}


def classes() -> dict[str, type[Metric]]:
    every = {name: getattr(metrics, name) for name in metrics.__all__}
    return {name: value for name, value in every.items() if isinstance(value, type) and issubclass(value, Metric)}


def test_every_class_is_one_of_them():
    assert set(TWO_OF_EACH) == set(classes())
    assert all(issubclass(value, ScoreMetric) for value in classes().values())


@pytest.mark.parametrize("name", TWO_OF_EACH)
def test_other_options_are_another_number(name):
    kind = classes()[name]
    first, other = TWO_OF_EACH[name]
    assert int(first(kind).configuration) == int(first(kind).configuration)
    if other is not None:
        assert int(first(kind).configuration) != int(other(kind).configuration)
    assert len({int(make(classes()[key]).configuration) for key, (make, _) in TWO_OF_EACH.items()}) == len(TWO_OF_EACH)


def test_a_collection_keeps_boxes_and_masks_apart():
    """Nothing is found in the first batch: all states are equal, and torchmetrics would take both for one metric."""
    square = torch.zeros(1, 20, 20, dtype=torch.bool)
    square[0, 5:15, 5:15] = True
    half = square.clone()
    half[0, :, 10:] = False
    box, label = torch.tensor([[5.0, 5.0, 15.0, 15.0]]), torch.tensor([0])
    target = {"boxes": box, "labels": label, "masks": square}
    nothing = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0), "scores": torch.zeros(0), "masks": square[:0]}
    found = {"boxes": box, "labels": label, "scores": torch.tensor([0.9]), "masks": half}
    together = MetricCollection({"box": metrics.BoxScores(NAMES), "mask": metrics.MaskScores(NAMES)})
    alone = metrics.MaskScores(NAMES)
    for prediction in (nothing, found):
        together.update([prediction], [target])
        alone.update([prediction], [target])
    ap50 = {key: value for key, value in together.compute().items() if key.endswith("ap50")}
    assert alone.compute()["ap50"] == pytest.approx(51 / 101)  # IoU of the masks: exactly a half
    assert ap50["mask_ap50" if "mask_ap50" in ap50 else "ap50"] == pytest.approx(51 / 101)
    assert len(together.compute_groups) == 2


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_sums_stay_exact_whatever_the_model_is_moved_to(dtype):
    metric = metrics.CalibrationScores(num_bins=4)
    metric.update(torch.tensor([0.1, 0.6]), torch.tensor([False, True]))
    before = metric.compute()
    metric.to(dtype)
    assert {getattr(metric, name).dtype for name in metric._defaults} == {torch.float64, torch.int64}
    assert metric.compute() == before
    metric.reset()
    assert {getattr(metric, name).dtype for name in metric._defaults} == {torch.float64, torch.int64}
    panoptic = metrics.PanopticScores(NAMES, (True, True)).to(dtype)
    image = PanopticMap(np.array([[0, 5, 5, 6]]), PanopticSegments.of(ids=[5, 6], labels=[0, 1]))
    panoptic.update(image, image)
    assert panoptic.iou_sum.dtype == torch.float64


def test_lists_keep_their_types():
    metric = metrics.BoxScores(NAMES)
    box, label = torch.tensor([[0.0, 0.0, 9.0, 9.0]]), torch.tensor([0])
    metric.update([{"boxes": box, "labels": label, "scores": torch.tensor([0.3])}], [{"boxes": box, "labels": label}])
    metric.to(torch.bfloat16)
    assert [part.dtype for part in metric.scores] == [torch.float64]


def test_no_module_hides_a_name():
    """Importing a submodule binds its name in the package, over a function that is called the same."""
    import pkgutil

    modules = {module.name for module in pkgutil.iter_modules(metrics.__path__)}
    assert not modules & set(metrics.__all__)
