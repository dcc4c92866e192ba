import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from delineate.kernels.components import component_boxes, largest_component_box, threshold_box_ious

EIGHT = np.ones((3, 3))


def labelled(mask):
    """Boxes and sizes by another library's labelling."""
    labels, _ = ndimage.label(mask, EIGHT)
    boxes = [[x.start, y.start, x.stop, y.stop] for y, x in ndimage.find_objects(labels)]
    return boxes, np.bincount(labels.ravel())[1:].tolist()


def iou(a, b):
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0) * max(height, 0)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
    return shared / union if union else 0


def test_by_hand():
    """Two that touch at a corner are one; a hole and a gap of one column separate nothing and something."""
    mask = np.array([[1, 0, 0, 0, 0], [0, 1, 0, 1, 0], [0, 0, 0, 1, 0], [0, 0, 0, 1, 0], [0, 0, 0, 1, 0]])
    boxes, sizes = component_boxes(mask)
    assert boxes.tolist() == [[0, 0, 2, 2], [3, 1, 4, 5]]
    assert sizes.tolist() == [2, 4]
    assert largest_component_box(mask).tolist() == [3, 1, 4, 5]


def test_of_equal_components_the_first():
    mask = np.zeros((5, 6), bool)
    mask[3, 0] = mask[1, 4] = True
    assert largest_component_box(mask).tolist() == [4, 1, 5, 2]


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.tuples(st.integers(1, 17), st.integers(1, 17)),
    share=st.sampled_from([0.1, 0.3, 0.5, 0.9]),
)
def test_components_equal_scipys(seed, shape, share):
    mask = np.random.default_rng(seed).random(shape) < share
    boxes, sizes = component_boxes(mask)
    assert (boxes.tolist(), sizes.tolist()) == labelled(mask)


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 2**32 - 1), steps=st.sampled_from([2, 5, 40]), truths=st.integers(0, 3))
def test_every_threshold_equals_one_labelling_each(seed, steps, truths):
    generator = np.random.default_rng(seed)
    scores = ndimage.gaussian_filter(generator.random((13, 18)), generator.choice([0, 1, 2]))
    scores = np.round((scores - scores.min()) / (scores.max() - scores.min()) * steps) / steps
    thresholds = np.arange(steps + 1) / steps
    boxes = np.sort(generator.integers(0, 13, (truths, 2, 2)), axis=1).reshape(-1, 4).astype(float)
    largest, best = threshold_box_ious(scores, thresholds, boxes)
    for k, threshold in enumerate(thresholds):
        found, sizes = labelled(scores >= threshold)
        overlaps = [max((iou(box, truth) for truth in boxes), default=0) for box in found]
        assert best[k] == pytest.approx(max(overlaps))
        assert largest[k] == pytest.approx(overlaps[int(np.argmax(sizes))])


def test_empty_and_full():
    assert component_boxes(np.zeros((4, 5)))[0].shape == (0, 4)
    assert component_boxes(np.zeros((0, 5)))[1].shape == (0,)
    assert largest_component_box(np.zeros((4, 5))) is None
    assert largest_component_box(np.ones((4, 5), bool)).tolist() == [0, 0, 5, 4]
    largest, best = threshold_box_ious(np.zeros((4, 5)), np.array([0.0, 0.5]), np.array([[0, 0, 5, 4]], float))
    assert largest.tolist() == best.tolist() == [1, 0]
