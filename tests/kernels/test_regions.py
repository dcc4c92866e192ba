"""Regions of label maps and their merging, against another library's labelling and a twin made of sets."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from delineate.kernels.regions import connected_regions, merged_enclosed_regions, merged_small_regions

CROSS, SQUARE = ndimage.generate_binary_structure(2, 1), np.ones((3, 3))
maps = st.tuples(
    st.integers(0, 2**32 - 1), st.tuples(st.integers(1, 11), st.integers(1, 11)), st.integers(1, 4), st.booleans()
)


def drawn(seed, shape, classes, smooth):
    noise = np.random.default_rng(seed).random(shape)
    noise = ndimage.gaussian_filter(noise, 1) if smooth else noise
    return np.digitize(noise, np.quantile(noise, np.arange(1, classes) / classes)).astype(np.uint8)


def scipys_regions(labels, connectivity):
    regions = np.full(labels.shape, -1)
    for label in np.unique(labels):
        parts, count = ndimage.label(labels == label, CROSS if connectivity == 4 else SQUARE)
        for part in range(1, count + 1):
            regions[parts == part] = np.flatnonzero(parts == part)[0]
    return np.unique(regions, return_inverse=True)[1].reshape(labels.shape)


@settings(deadline=None, max_examples=60)
@given(maps, st.sampled_from([4, 8]))
def test_regions_equal_scipys(drawing, connectivity):
    labels = drawn(*drawing)
    regions, count = connected_regions(labels, connectivity=connectivity)
    assert (regions == scipys_regions(labels, connectivity)).all()
    assert count == regions.max() + 1


def test_a_corner_connects_only_with_eight():
    labels = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1]])
    assert connected_regions(labels, connectivity=4)[1] == 5
    assert connected_regions(labels, connectivity=8)[0].tolist() == [[0, 1, 1], [1, 0, 1], [1, 1, 0]]


def test_winding_regions_are_one():
    spiral = np.array([[1, 1, 1, 1, 1], [0, 0, 0, 0, 1], [1, 1, 1, 0, 1], [1, 0, 0, 0, 1], [1, 1, 1, 1, 1]])
    assert connected_regions(spiral, connectivity=4)[1] == 2


def twin(labels, *, largest, connectivity, ignored, chosen, enclosed):
    """The same with a set of pixels for each region and one list for each size."""
    height, width = labels.shape
    steps = [
        (i, j) for i in (-1, 0, 1) for j in (-1, 0, 1) if abs(i) + abs(j) in ((1,) if connectivity == 4 else (1, 2))
    ]
    numbers = scipys_regions(labels, connectivity)
    regions = [({tuple(p) for p in np.argwhere(numbers == n)}, None) for n in range(numbers.max() + 1)]
    regions = [[pixels, int(labels[min(pixels)])] for pixels, _ in regions]
    queues = {size: [r for r in regions if len(r[0]) == size] for size in range(1, largest + 1)}
    for size in range(1, largest + 1):
        while queues[size]:
            region = queues[size].pop(0)
            pixels, label = region
            if (
                not any(region is r for r in regions)
                or len(pixels) != size
                or label == ignored
                or not (enclosed or chosen[label])
            ):
                continue
            around = [(y + i, x + j) for y, x in pixels for i, j in steps]
            outside = any(not (0 <= y < height and 0 <= x < width) for y, x in around)
            owners = [next(r for r in regions if p in r[0]) for p in around if 0 <= p[0] < height and 0 <= p[1] < width]
            owners = [owner for owner in owners if owner is not region]
            votes = [owner[1] for owner in owners if owner[1] != ignored]
            if not votes or (enclosed and (outside or len(votes) < len(owners) or len(set(votes)) > 1)):
                continue
            winner = min(set(votes), key=lambda v: (-votes.count(v), v))
            if enclosed and not chosen[winner]:
                continue
            region[1] = winner
            for owner in owners:
                if owner[1] == winner and any(owner is r for r in regions):
                    pixels |= owner[0]
                    regions = [r for r in regions if r is not owner]
            if len(pixels) <= largest:
                queues[len(pixels)].append(region)
    merged = labels.copy()
    for pixels, label in regions:
        for pixel in pixels:
            merged[pixel] = label
    return merged


@settings(deadline=None, max_examples=80)
@given(
    maps, st.sampled_from([4, 8]), st.integers(1, 12), st.booleans(), st.sampled_from([-1, 0, 2]), st.integers(0, 15)
)
def test_merging_equals_the_twin_and_repeats_to_itself(drawing, connectivity, largest, enclosed, ignored, kept):
    labels = drawn(*drawing)
    chosen = np.array([kept >> k & 1 == 0 for k in range(4)])
    options = {"largest": largest, "connectivity": connectivity, "ignored": ignored, "chosen": chosen}
    merge = merged_enclosed_regions if enclosed else merged_small_regions
    found = merge(labels, **options)
    assert (found == twin(labels, enclosed=enclosed, **options)).all()
    assert (merge(found, **options) == found).all()
    assert ((found == ignored) == (labels == ignored)).all()


@settings(deadline=None, max_examples=30)
@given(maps, st.integers(1, 30))
def test_nothing_small_is_left_but_a_map_of_one_region(drawing, largest):
    labels = drawn(*drawing)
    found = merged_small_regions(labels, largest=largest, connectivity=4, ignored=-1, chosen=np.ones(4, bool))
    regions, count = connected_regions(found, connectivity=4)
    assert count == 1 or np.bincount(regions.ravel()).min() > largest


@pytest.mark.parametrize("merge", [merged_small_regions, merged_enclosed_regions])
def test_an_empty_map_and_no_limit(merge):
    options = {"connectivity": 4, "ignored": -1, "chosen": np.ones(2, bool)}
    assert merge(np.zeros((0, 4), np.uint8), largest=5, **options).shape == (0, 4)
    labels = np.array([[0, 0, 0], [0, 1, 0], [0, 0, 0]])
    assert (merge(labels, largest=0, **options) == labels).all()
    assert not merge(labels, largest=100, **options).any()
