import threading

import numpy as np
import pytest
from pycocotools import mask as reference

from delineate.kernels import rle, rle_masks


def random_masks(number, seed=0, most=40):
    generator = np.random.default_rng(seed)
    masks = []
    for i in range(number):
        mask = np.zeros(generator.integers(1, most, 2), bool)
        for _ in range(i % 4):
            y, x = generator.integers(0, mask.shape[0]), generator.integers(0, mask.shape[1])
            mask[y : y + generator.integers(1, most), x : x + generator.integers(1, most)] ^= True
        masks.append(mask if i % 5 else generator.random(mask.shape) < 0.6)
    return masks


def texts_of(masks):
    return [reference.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"] for mask in masks]


def packed(texts, sizes):
    offsets = np.cumsum([0, *map(len, texts)])
    return np.frombuffer(b"".join(texts), np.uint8), offsets, np.array(sizes, np.int32).reshape(-1, 2)


@pytest.fixture(params=[1, 3])
def threads(request, monkeypatch):
    """Small work too is shared by threads."""
    monkeypatch.setattr(rle_masks, "_SMALL", 1)
    monkeypatch.setattr(rle_masks, "thread_count", lambda: request.param)


def test_measures_by_hand():
    damaged, areas, boxes = rle_masks.measures(*packed([b"13", b"4"], [(2, 2), (1, 4)]))
    assert damaged == -1
    assert areas.tolist() == [3, 0]
    assert boxes.tolist() == [[0, 0, 2, 2], [0, 0, 0, 0]]


def test_measures_equal_pycocotools_and_the_pixels(threads):
    masks = random_masks(300)
    texts = texts_of(masks)
    damaged, areas, boxes = rle_masks.measures(*packed(texts, [mask.shape for mask in masks]))
    assert damaged == -1
    assert areas.tolist() == [mask.sum() for mask in masks]
    coco = [{"size": list(mask.shape), "counts": text} for mask, text in zip(masks, texts, strict=True)]
    assert np.array_equal(boxes, np.concatenate([reference.toBbox([one]) for one in coco]))


@pytest.mark.parametrize("size", [(1, 2**31 - 1), (2**31 - 1, 1), (46340, 46340)])
def test_the_largest_sizes(size):
    pixels = size[0] * size[1]
    text = rle.counts_text(np.array([0, pixels]))
    damaged, areas, boxes = rle_masks.measures(*packed([text], [size]))
    assert (damaged, areas[0], boxes[0].tolist()) == (-1, pixels, [0, 0, size[1], size[0]])
    first = rle.counts_text(np.array([pixels - 1, 1]))
    assert rle_masks.measures(*packed([first], [size]))[2][0].tolist() == [size[1] - 1, size[0] - 1, 1, 1]


@pytest.mark.parametrize(
    "text", [b"", b"P", b"3", b"5", b"22O", b"\x004", b"4\xff", b"4p", b"4ooooooooooooo", b"1O4", b"4o"]
)
def test_the_first_damaged_mask_is_named(text, threads):
    good = [b"4", b"13"] * 50
    for place in (0, 37, 100):
        texts = [*good[:place], text, *good[place:], text]
        assert rle_masks.measures(*packed(texts, [(2, 2)] * len(texts)))[0] == place


def test_no_mask():
    damaged, areas, boxes = rle_masks.measures(*packed([], []))
    assert (damaged, len(areas), boxes.shape) == (-1, 0, (0, 4))
    assert rle_masks.selected_text(np.empty(0, np.uint8), np.array([0]), np.empty(0, np.int64))[1].tolist() == [0]


def test_selected_text(threads):
    texts = texts_of(random_masks(50))
    text, offsets, _ = packed(texts, np.zeros((50, 2)))
    chosen = np.random.default_rng(0).integers(0, 50, 70)
    out, out_offsets = rle_masks.selected_text(text, offsets, chosen)
    assert out.tobytes() == b"".join(texts[i] for i in chosen)
    assert np.array_equal(np.diff(out_offsets), [len(texts[i]) for i in chosen])


def test_texts_of_counts_equal_pycocotools(threads):
    masks = random_masks(60)
    runs = [rle.mask_counts(mask) for mask in masks]
    text, offsets = rle_masks.texts_of_counts(np.concatenate(runs), np.cumsum([0, *map(len, runs)]))
    assert text.tobytes() == b"".join(texts_of(masks))
    assert np.array_equal(np.diff(offsets), list(map(len, texts_of(masks))))
    extremes = np.array([2**31 - 1, 0, 0, 2**31 - 1, 2**31 - 1, 0])
    text, _ = rle_masks.texts_of_counts(extremes, np.array([0, 6]))
    assert rle.text_counts(text.tobytes()).tolist() == extremes.tolist()


def grouped_scene(seed, groups=30):
    """Detections near truths in images of several sizes; some groups without the one or the other."""
    generator = np.random.default_rng(seed)
    sizes = [tuple(generator.integers(5, 60, 2).tolist()) for _ in range(groups)]

    def some(group):
        masks = []
        for _ in range(generator.integers(0, 5)):
            mask = np.zeros(sizes[group], np.uint8, order="F")
            y, x = generator.integers(0, sizes[group][0]), generator.integers(0, sizes[group][1])
            mask[y : y + generator.integers(0, 30), x : x + generator.integers(1, 30)] = 1
            mask[generator.random(mask.shape) < generator.choice([0, 0.1])] ^= 1
            masks.append(reference.encode(mask))
        return masks

    parts = []
    for _ in range(2):
        masks = [some(group) for group in range(groups)]
        flat = [mask for own in masks for mask in own]
        places = generator.permutation(len(flat))  # masks lie in the file in any order
        shuffled = [flat[i] for i in places]
        order, starts = np.argsort(places), np.cumsum([0, *map(len, masks)])
        columns = packed([mask["counts"] for mask in shuffled], [mask["size"] for mask in shuffled])
        parts.append((masks, (*columns, order, starts)))
    return *parts, generator


def group_ious(found, true, crowd, iou_starts):
    """The overlaps of masks given as (text, offsets, sizes, order, starts)."""
    sides = []
    for text, offsets, sizes, order, starts in (found, true):
        _, areas, boxes = rle_masks.measures(text, offsets, sizes)
        sides.append(rle_masks.GroupedMasks(text, offsets, sizes, areas, boxes, order, starts))
    return rle_masks.grouped_ious(*sides, crowd, iou_starts)


@pytest.mark.parametrize("seed", range(5))
def test_ious_of_groups_equal_pycocotools_to_the_last_bit(seed, threads):
    (detections, found), (truths, true), generator = grouped_scene(seed)
    crowd = generator.random(len(true[3])) < 0.3
    iou_starts = np.cumsum([0, *(len(d) * len(t) for d, t in zip(detections, truths, strict=True))])
    ious = group_ious(found, true, crowd, iou_starts)
    assert ious.dtype == np.float64
    assert len(ious) == iou_starts[-1]
    compared = 0
    for group, (some, others) in enumerate(zip(detections, truths, strict=True)):
        if some and others:
            rows = true[3][true[4][group] : true[4][group + 1]]
            expected = reference.iou(some, others, crowd[rows].astype(np.uint8))
            block = ious[iou_starts[group] : iou_starts[group + 1]].reshape(len(some), len(others))
            assert np.array_equal(block, expected)
            compared += (expected > 0).sum()
    assert compared > 10


def one_group(first, second, sizes=((2, 2), (2, 2)), crowd=False):
    ends = np.array([0, 1])
    (text, offsets, size), (truth_text, truth_offsets, truth_size) = (
        packed([part], [own]) for part, own in zip((first, second), sizes, strict=True)
    )
    found, true = (text, offsets, size, ends[:1], ends), (truth_text, truth_offsets, truth_size, ends[:1], ends)
    return group_ious(found, true, np.array([crowd]), ends).tolist()


def test_ious_by_hand():
    assert one_group(b"13", b"04") == [3 / 4]
    assert one_group(b"13", b"04", crowd=True) == [1.0]
    assert one_group(b"04", b"13", crowd=True) == [3 / 4]
    assert one_group(b"4", b"4") == [0.0]
    assert one_group(b"4", b"04") == one_group(b"04", b"4", crowd=True) == [0.0]


def test_masks_of_different_sizes_share_nothing():
    assert one_group(b"04", b"04", sizes=((2, 2), (1, 4))) == [0.0]


def test_runs_of_length_zero_change_nothing():
    split = rle.counts_text(np.array([0, 1, 0, 2, 0, 0, 0, 1]))
    assert one_group(split, b"04") == one_group(b"04", split) == one_group(split, split) == [1.0]


def test_callers_at_once_do_not_meet(monkeypatch):
    monkeypatch.setattr(rle_masks, "_SMALL", 1)
    monkeypatch.setattr(rle_masks, "thread_count", lambda: 2)
    masks = random_masks(80)
    columns = packed(texts_of(masks), [mask.shape for mask in masks])
    expected = rle_masks.measures(*columns)[1]
    found = {}

    def measure(i):
        found[i] = [rle_masks.measures(*columns)[1] for _ in range(10)]

    callers = [threading.Thread(target=measure, args=(i,)) for i in range(6)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert len(found) == 6
    assert all(np.array_equal(areas, expected) for several in found.values() for areas in several)


def test_an_error_of_a_thread_reaches_the_caller(monkeypatch):
    monkeypatch.setattr(rle_masks, "_SMALL", 1)
    monkeypatch.setattr(rle_masks, "thread_count", lambda: 2)

    def fail(first, last):
        raise KeyError(first, last)

    with pytest.raises(KeyError):
        rle_masks.run_shares(fail, np.full(100, 100))


@pytest.mark.parametrize("work", [[], [0, 0, 0], [1], [10**9, 1, 1, 10**9], [1] * 100])
def test_shares_cover_every_item_once(work, threads):
    stretches = rle_masks.run_shares(lambda first, last: (first, last), np.array(work, np.int64))
    assert [i for first, last in stretches for i in range(first, last)] == list(range(len(work)))
