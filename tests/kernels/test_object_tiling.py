import numpy as np
import pytest

from delineate.kernels import rle_masks
from delineate.kernels.object_tiling import moved_texts
from delineate.structures.rle import RLE
from delineate.structures.rle_masks import RLEMasks


def moved(masks, corners, clips, size):
    packed = RLEMasks.from_rles([RLE.encode(mask) for mask in masks])
    corners, clips = np.array(corners).reshape(-1, 2), np.array(clips).reshape(-1, 4)
    texts = moved_texts(packed.text, packed.offsets, packed.sizes, corners, clips, size)
    return RLEMasks(*texts, np.tile(np.array([size], np.int32), (len(masks), 1)))


def by_pixels(mask, corner, clip, size):
    picture = np.zeros(size, bool)
    for y, x in np.argwhere(mask):
        if clip[1] <= y + corner[1] < clip[3] and clip[0] <= x + corner[0] < clip[2]:
            picture[y + corner[1], x + corner[0]] = True
    return picture


def random_cases(number, seed=0):
    generator = np.random.default_rng(seed)
    size = (19, 23)
    for i in range(number):
        mask = generator.random(generator.integers(1, 24, 2)) < generator.choice([0.1, 0.6, 0.97])
        if i % 5 == 0:
            mask[:] = i % 2
        corner = generator.integers(-8, 20, 2)
        low = generator.integers(0, [size[1], size[0]])
        high = [generator.integers(low[0], size[1] + 1), generator.integers(low[1], size[0] + 1)]
        yield mask, corner, [0, 0, size[1], size[0]] if i % 3 == 0 else [*low, *high]


def test_by_hand():
    # columns of the tile: 1 1 | 0 1; in a picture 3 high, at x = 1, y = 1: 0 0 0 | 0 1 1 | 0 0 1
    mask = np.array([[1, 0], [1, 1]])
    assert moved([mask], [1, 1], [0, 0, 3, 3], (3, 3))[0].runs().tolist() == [4, 2, 2, 1]
    assert moved([mask], [1, 1], [0, 0, 3, 2], (3, 3))[0].runs().tolist() == [4, 1, 4]
    assert moved([mask], [1, 1], [2, 2, 2, 2], (3, 3))[0].runs().tolist() == [9]


@pytest.mark.parametrize("threads", [1, 3])
def test_equal_to_moving_pixels_run_by_run(threads, monkeypatch):
    monkeypatch.setattr(rle_masks, "_SMALL", 1)
    monkeypatch.setattr(rle_masks, "thread_count", lambda: threads)
    masks, corners, clips = zip(*random_cases(400), strict=True)
    found = moved(masks, corners, clips, (19, 23))
    for i, case in enumerate(zip(masks, corners, clips, strict=True)):
        assert found[i] == RLE.encode(by_pixels(*case, (19, 23)))


def test_there_and_back_is_the_same_mask():
    masks = [mask for mask, _, _ in random_cases(40, seed=1)]
    size = (60, 70)
    there = moved(masks, [[9, 17]] * 40, [[0, 0, 70, 60]] * 40, size)
    for mask, placed in zip(masks, there, strict=True):
        height, width = mask.shape
        back = moved([placed.decode()], [-9, -17], [0, 0, width, height], (height, width))
        assert back[0] == RLE.encode(mask)


def test_no_masks():
    assert len(moved([], [], [], (3, 3))) == 0


def test_the_last_pixel_of_the_largest_picture():
    side = 46_340
    found = moved([np.ones((2, 2), bool)], [side - 2, side - 2], [0, 0, side, side], (side, side))
    assert found.boxes()[0].tolist() == [side - 2, side - 2, 2, 2]
    assert found.areas()[0] == 4
