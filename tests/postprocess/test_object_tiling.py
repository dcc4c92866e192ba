from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.ops import box_iou, nms

from delineate.errors import ArgumentError
from delineate.postprocess import object_tiling
from delineate.postprocess.object_tiling import TileObjects, joined_objects
from delineate.postprocess.tiling import tile_windows
from delineate.structures.rle import RLE
from delineate.structures.rle_masks import RLEMasks

SIZE = (40, 100)
LEFT, RIGHT = (0, 0, 40, 60), (0, 40, 40, 100)  # they share the columns 40 to 59


def tile(window, *objects):
    """Objects as (box, score) or (box, score, label)."""
    columns = [(*found, 0)[:3] for found in objects]
    boxes, scores, labels = zip(*columns, strict=True) if columns else ((), (), ())
    return TileObjects(window, boxes_of(boxes), np.array(scores, np.float32), np.array(labels, np.int64))


def boxes_of(boxes):
    return np.array(boxes, np.float32).reshape(-1, 4)


def found(parts, size=SIZE, **options):
    """(box, score) of what is left; the same, whatever the order of the parts."""
    parts = list(parts)
    one, other = joined_objects(parts, size=size, **options), joined_objects(parts[::-1], size=size, **options)
    listed = [(tuple(box), round(float(score), 3)) for box, score in zip(one.boxes.tolist(), one.scores, strict=True)]
    again = [
        (tuple(box), round(float(score), 3)) for box, score in zip(other.boxes.tolist(), other.scores, strict=True)
    ]
    assert listed == again
    assert one.window == (0, 0, *size)
    return listed


def ideal(window, masks, scores, *, keypoints=None):
    """What a perfect detector finds in a window: of every object with pixels in it these pixels and their box."""
    top, left, bottom, right = window
    rows = [i for i, mask in enumerate(masks) if mask[top:bottom, left:right].any()]
    parts = [masks[i][top:bottom, left:right] for i in rows]
    sizes = np.tile(np.array([[bottom - top, right - left]], np.int32), (len(rows), 1))
    return TileObjects(
        window,
        boxes_of([tight(part, left, top) for part in parts]),
        np.array([scores[i] for i in rows], np.float32),
        np.zeros(len(rows), np.int64),
        RLEMasks.from_texts([RLE.encode(part).counts for part in parts], sizes),
        keypoints,
    )


def tight(mask, left=0, top=0):
    y, x = np.nonzero(mask)
    return [x.min() + left, y.min() + top, x.max() + left + 1, y.max() + top + 1]


class TestOneBorder:
    def test_a_whole_object_wins_over_a_better_piece(self):
        whole, piece = ((30, 5, 52, 35), 0.4), ((40, 5, 52, 35), 0.9)
        assert found([tile(LEFT, whole), tile(RIGHT, piece)]) == [whole]

    def test_a_piece_that_ends_near_the_border_is_one(self):
        whole, piece = ((30, 5, 52, 35), 0.4), ((43, 5, 52, 35), 0.9)
        assert found([tile(LEFT, whole), tile(RIGHT, piece)]) == [whole]
        # nobody cut it: two whole objects with an IoU of 9 / 22
        assert found([tile(LEFT, whole), tile(RIGHT, piece)], margin=2) == [piece, whole]

    def test_a_whole_object_takes_no_piece_of_another_class(self):
        whole, piece = ((30, 5, 52, 35), 0.4, 1), ((40, 5, 52, 35), 0.9, 0)
        assert [score for _, score in found([tile(LEFT, whole), tile(RIGHT, piece)])] == [0.9, 0.4]

    def test_a_whole_object_takes_no_piece_of_its_neighbour(self):
        # what the right tile sees of the first is 40..50; its piece goes on to 58, so that 10 of 18 columns agree
        whole, piece = ((30, 5, 50, 35), 0.4), ((40, 5, 58, 35), 0.9)
        assert found([tile(LEFT, whole), tile(RIGHT, piece)]) == [whole]
        assert found([tile(LEFT, whole), tile(RIGHT, piece)], iou_threshold=0.6) == [piece, whole]

    def test_of_two_whole_ones_the_better_stays(self):
        one, other = ((46, 5, 54, 35), 0.8), ((46, 6, 54, 34), 0.9)
        assert found([tile(LEFT, one), tile(RIGHT, other)]) == [other]

    def test_an_overlap_of_just_the_threshold_is_not_above_it(self):
        one, other = ((46, 0, 54, 30), 0.8), ((46, 0, 54, 15), 0.9)
        assert found([tile(LEFT, one), tile(RIGHT, other)]) == [other, one]
        assert found([tile(LEFT, one), tile(RIGHT, other)], iou_threshold=0.49) == [other]

    def test_pieces_are_joined_with_the_best_score(self):
        pieces = tile(LEFT, ((10, 5, 60, 35), 0.8)), tile(RIGHT, ((40, 5, 90, 35), 0.9))
        assert found(pieces) == [((10, 5, 90, 35), 0.9)]

    def test_inexact_pieces_are_joined(self):
        # at the border each counts as going on to it: 30 of 36 rows of the strip agree
        pieces = tile(LEFT, ((10, 2, 57, 35), 0.9)), tile(RIGHT, ((43, 5, 90, 38), 0.8))
        assert found(pieces) == [((10, 2, 90, 38), 0.9)]

    def test_pieces_of_different_classes_stay_apart(self):
        pieces = tile(LEFT, ((10, 5, 60, 35), 0.8, 1)), tile(RIGHT, ((40, 5, 90, 35), 0.9, 2))
        assert len(found(pieces)) == 2

    def test_a_sliver_goes_by_the_share_inside_the_other(self):
        # 3 columns of the object reach into the right tile, where 6 are found: an IoU of a half, the share is one
        whole, sliver = ((20, 5, 46, 35), 0.4), ((40, 6, 43, 34), 0.9)
        assert found([tile(LEFT, whole), tile(RIGHT, sliver)]) == [whole]
        beside = (40, 20, 43, 40), 0.9  # 15 of 20 rows
        assert found([tile(LEFT, whole), tile(RIGHT, beside)], iou_threshold=0.7) == [whole]
        assert found([tile(LEFT, whole), tile(RIGHT, beside)], iou_threshold=0.75) == [beside, whole]

    def test_a_sliver_joins_a_piece_besides_its_continuation(self):
        left = tile(LEFT, ((10, 5, 60, 35), 0.5))
        right = tile(RIGHT, ((40, 5, 90, 33), 0.6), ((40, 20, 44, 36), 0.7))
        assert found([left, right]) == [((10, 5, 90, 36), 0.7)]

    def test_touching_objects_stay_apart(self):
        side_by_side = tile(LEFT, ((10, 5, 50, 35), 0.8)), tile(RIGHT, ((50, 5, 90, 35), 0.9))
        assert len(found(side_by_side)) == 2
        stacked = tile(LEFT, ((10, 0, 60, 20), 0.8)), tile(RIGHT, ((40, 20, 90, 40), 0.9))
        assert len(found(stacked)) == 2

    def test_touching_objects_whose_pieces_both_tiles_see(self):
        one, other = ((10, 5, 50, 35), 0.8), ((50, 5, 90, 35), 0.9)
        left = tile(LEFT, one, ((50, 5, 60, 35), 0.7))
        right = tile(RIGHT, ((40, 5, 50, 35), 0.95), other)
        assert found([left, right]) == [other, one]

    def test_the_pictures_border_cuts_nothing(self):
        # were the left one a piece for reaching column 0 and rows 0 and 39, the two would be joined, with 0.9
        whole, piece = ((0, 0, 52, 40), 0.4), ((40, 0, 52, 40), 0.9)
        assert found([tile(LEFT, whole), tile(RIGHT, piece)]) == [whole]

    def test_a_piece_has_one_continuation(self):
        # two in the right tile agree with the one on the left, 0.9 and 0.6 of the strip
        left = tile(LEFT, ((10, 0, 60, 40), 0.5))
        right = tile(RIGHT, ((40, 4, 90, 40), 0.6), ((40, 0, 95, 24), 0.7))
        assert found([left, right]) == [((40, 0, 95, 24), 0.7), ((10, 0, 90, 40), 0.6)]

    def test_objects_of_one_tile_are_not_compared(self):
        twice = ((20, 5, 30, 35), 0.8), ((20, 5, 30, 34), 0.9)
        assert len(found([tile(LEFT, *twice), tile(RIGHT)])) == 2

    def test_a_piece_alone_stays_as_it_is(self):
        piece = (10, 5, 57, 35), 0.8
        assert found([tile(LEFT, piece), tile(RIGHT)]) == [piece]

    def test_joints_are_those_of_the_surest_piece(self):
        left, right = tile(LEFT, ((10, 5, 60, 35), 0.8)), tile(RIGHT, ((40, 5, 90, 35), 0.9))
        joints = (
            np.float32([[[12, 9, 0.9], [60, 9, 0.1], [50, 9, 0.5]]]),
            np.float32([[[40, 9, 0.2], [80, 9, 0.8], [51, 9, 0.6]]]),
        )
        parts = [
            TileObjects(part.window, part.boxes, part.scores, part.labels, None, points)
            for part, points in zip((left, right), joints, strict=True)
        ]
        merged = joined_objects(parts, size=SIZE).keypoints
        assert merged is not None
        assert np.array_equal(merged, np.float32([[[12, 9, 0.9], [80, 9, 0.8], [51, 9, 0.6]]]))


class TestManyTiles:
    def test_a_chain_over_a_row_of_tiles(self):
        windows = tile_windows((32, 500), tile=64, overlap=16)
        parts = [
            tile(window, ((max(window[1], 7), 10, min(window[3], 493), 20), 0.5 + i / 100))
            for i, window in enumerate(windows)
        ]
        assert len(windows) > 8
        assert found(parts, (32, 500)) == [((7, 10, 493, 20), pytest.approx(0.5 + (len(windows) - 1) / 100))]

    def test_an_object_over_all_of_four_tiles(self):
        size = (100, 100)
        windows = tile_windows(size, tile=60, overlap=20)
        parts = [
            tile(w, ((max(w[1], 5), max(w[0], 8), min(w[3], 91), min(w[2], 97)), 0.1 * (i + 1)))
            for i, w in enumerate(windows)
        ]
        assert found(parts, size) == [((5, 8, 91, 97), 0.4)]

    def test_an_object_that_one_tile_sees_whole_and_all_others_in_pieces(self):
        size = (100, 100)
        box = (30, 35, 58, 56)
        windows = tile_windows(size, tile=60, overlap=20)
        parts = [
            tile(w, ((max(w[1], 30), max(w[0], 35), min(w[3], 58), min(w[2], 56)), 0.1 * (i + 1)))
            for i, w in enumerate(windows)
        ]
        assert found(parts, size, margin=1) == [(box, 0.1)]

    def test_without_overlap_nothing_is_joined(self):
        windows = tile_windows(SIZE, tile=50, overlap=0)
        parts = [tile(windows[0], ((10, 5, 50, 35), 0.8)), tile(windows[1], ((50, 5, 90, 35), 0.9))]
        assert len(found(parts)) == 2

    def test_one_tile_comes_back_in_order(self):
        only = tile((0, 0, 40, 100), ((0, 0, 100, 40), 0.3), ((0, 0, 99, 40), 0.9), ((5, 5, 6, 6), 0.3))
        assert found([only]) == [((0, 0, 99, 40), 0.9), ((0, 0, 100, 40), 0.3), ((5, 5, 6, 6), 0.3)]
        assert joined_objects([only], size=SIZE, most=2).boxes.tolist() == [[0, 0, 99, 40], [0, 0, 100, 40]]

    def test_nothing(self):
        assert found([]) == []
        assert found([tile(LEFT), tile(RIGHT)]) == []
        blank = joined_objects([ideal(LEFT, [], []), tile(RIGHT)], size=SIZE)
        assert blank.masks is not None
        assert (len(blank), len(blank.masks), blank.keypoints) == (0, 0, None)
        jointless = TileObjects(LEFT, boxes_of([]), np.float32([]), np.int64([]), None, np.zeros((0, 0, 3), np.float32))
        joints = joined_objects([jointless, jointless], size=SIZE).keypoints
        assert joints is not None
        assert joints.shape == (0, 0, 3)

    def test_boxes_without_area_are_left_alone(self):
        assert len(found([tile(LEFT, ((50, 5, 50, 9), 0.8)), tile(RIGHT, ((50, 5, 50, 9), 0.8))])) == 2

    def test_a_small_table_gives_the_same_pairs(self, monkeypatch):
        generator = np.random.default_rng(0)
        parts = []
        for window in tile_windows((200, 200), tile=80, overlap=40):
            corner = generator.uniform(0, 60, (30, 2)) + np.array([window[1], window[0]])
            boxes = np.concatenate([corner, corner + generator.uniform(5, 20, (30, 2))], axis=1)
            parts.append(tile(window, *((box, score) for box, score in zip(boxes, generator.random(30), strict=True))))
        whole = found(parts, (200, 200), iou_threshold=0.3)
        monkeypatch.setattr(object_tiling, "_CELLS", 50)
        assert found(parts, (200, 200), iou_threshold=0.3) == whole
        assert 100 < len(whole) < 400  # of 480


class TestInexactDetector:
    """Boxes off by a pixel or two, scores by what a tile sees; every side of every piece is wrong by another amount."""

    def scene(self, seed):
        generator, size, truths = np.random.default_rng(seed), (800, 800), []
        for _ in range(1500):
            sides = generator.uniform(15, 130, 2)
            corner = generator.uniform(0, 800 - sides)
            box = np.array([*corner, *(corner + sides)])
            if all((box[:2] >= other[2:]).any() or (box[2:] <= other[:2]).any() for other in truths):
                truths.append(box)
        truths, parts = np.array(truths), []
        for window in tile_windows(size, tile=256, overlap=64):
            frame = np.array([window[1], window[0], window[3], window[2]])
            boxes = np.concatenate([np.maximum(truths[:, :2], frame[:2]), np.minimum(truths[:, 2:], frame[2:])], axis=1)
            seen = ((boxes[:, 2:] - boxes[:, :2]).clip(0)).prod(axis=1) / (truths[:, 2:] - truths[:, :2]).prod(axis=1)
            boxes = boxes[seen > 0.1] + generator.normal(0, 1, (int((seen > 0.1).sum()), 4))
            boxes = boxes.clip(np.tile(frame[:2], 2), np.tile(frame[2:], 2))
            scores = generator.uniform(0.5, 1, len(boxes)) * seen[seen > 0.1]
            parts.append(tile(window, *zip(boxes, scores, strict=True)))
        return size, torch.tensor(truths).float(), parts

    @pytest.mark.parametrize("seed", range(3))
    def test_each_object_once_where_suppression_leaves_many_twice(self, seed):
        size, truths, parts = self.scene(seed)
        joined = joined_objects(parts, size=size)
        overlaps = box_iou(torch.from_numpy(joined.boxes), truths)
        assert (overlaps > 0.5).any(dim=0).all()
        assert len(joined) <= 1.02 * len(truths)
        boxes, scores = (np.concatenate([getattr(part, name) for part in parts]) for name in ("boxes", "scores"))
        suppressed = nms(torch.from_numpy(boxes), torch.from_numpy(scores), 0.5)
        assert len(suppressed) > 1.2 * len(truths)


class TestMasks:
    def test_masks_decide_where_boxes_cannot(self):
        y, x = np.mgrid[: SIZE[0], : SIZE[1]]
        slanting = abs(y * 2.5 - x) < 8
        parts = [ideal(window, [slanting], [0.5]) for window in (LEFT, RIGHT)]
        # the boxes within the strip: rows 0..26 of the left piece, 13..39 of the right one
        assert len(found([tile(part.window, (part.boxes[0], i)) for i, part in enumerate(parts)])) == 2
        joined = joined_objects(parts, size=SIZE)
        assert joined.masks is not None
        assert joined.masks[0] == RLE.encode(slanting)
        assert len(joined) == 1

    def test_masks_keep_apart_what_boxes_would_join(self):
        y, x = np.mgrid[: SIZE[0], : SIZE[1]]
        above, below = y * 2.5 < x - 4, y * 2.5 > x + 4
        left, right = ideal(LEFT, [below], [0.5]), ideal(RIGHT, [above], [0.6])
        boxed = [
            TileObjects(p.window, boxes_of([[p.window[1], 0, p.window[3], 40]]), p.scores, p.labels)
            for p in (left, right)
        ]
        assert len(found(boxed)) == 1
        masked = [
            TileObjects(b.window, b.boxes, b.scores, b.labels, p.masks)
            for b, p in zip(boxed, (left, right), strict=True)
        ]
        assert len(joined_objects(masked, size=SIZE)) == 2

    def test_an_empty_mask_goes_by_its_box(self):
        left = ideal(LEFT, [np.ones(SIZE, bool)], [0.5])
        blank = RLEMasks.from_rles([RLE.encode(np.zeros((40, 60), bool))])
        right = TileObjects(RIGHT, boxes_of([[40, 0, 100, 40]]), np.float32([0.9]), np.array([0]), blank)
        joined = joined_objects([left, right], size=SIZE)
        assert joined.boxes.tolist() == [[0, 0, 100, 40]]
        assert joined.masks is not None
        assert joined.masks.areas().tolist() == [40 * 60]

    @given(
        seed=st.integers(0, 2**32 - 1),
        tile_side=st.integers(10, 40),
        overlap=st.integers(1, 5),
        margin=st.integers(0, 5),
        block=st.integers(1, 9),
    )
    @settings(max_examples=12, deadline=None)
    def test_perfect_pieces_make_the_perfect_whole(self, seed, tile_side, overlap, margin, block):
        """Whatever the shapes and the tiles: each object once, with exactly its pixels, as large as it may be."""
        generator = np.random.default_rng(seed)
        size = (int(generator.integers(5, 45)), int(generator.integers(5, 45)))
        masks = connected_shapes(generator, size)
        scores = generator.permutation(len(masks)) / 100 + 0.01
        windows = tile_windows(size, tile=tile_side, overlap=overlap)
        parts = (ideal(windows[i], masks, scores) for i in generator.permutation(len(windows)))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(object_tiling, "_BLOCK", block)
            joined = joined_objects(parts, size=size, margin=margin)
        assert joined.masks is not None
        best_first = np.argsort(-scores)
        assert list(joined.masks) == [RLE.encode(masks[i]) for i in best_first]
        assert joined.boxes.tolist() == [tight(masks[i]) for i in best_first]
        assert joined.scores.tolist() == pytest.approx(scores[best_first].tolist())

    @given(seed=st.integers(0, 2**32 - 1), tile_side=st.integers(10, 40), overlap=st.integers(1, 5))
    @settings(max_examples=20, deadline=None)
    def test_perfect_boxes_make_the_perfect_whole(self, seed, tile_side, overlap):
        generator = np.random.default_rng(seed)
        size = (int(generator.integers(5, 60)), int(generator.integers(5, 60)))
        taken, boxes = np.zeros(size, bool), []
        for _ in range(12):
            y0, y1 = np.sort(generator.integers(0, size[0] + 1, 2))
            x0, x1 = np.sort(generator.integers(0, size[1] + 1, 2))
            if y1 > y0 and x1 > x0 and not taken[y0:y1, x0:x1].any():
                taken[y0:y1, x0:x1] = True
                boxes.append((x0, y0, x1, y1))
        parts = []
        for top, left, bottom, right in tile_windows(size, tile=tile_side, overlap=overlap):
            cut = [(max(a, left), max(b, top), min(c, right), min(d, bottom)) for a, b, c, d in boxes]
            seen = [(box, 0.5 + i / 100) for i, box in enumerate(cut) if box[2] > box[0] and box[3] > box[1]]
            parts.append(tile((top, left, bottom, right), *seen))
        expected = [(tuple(map(float, box)), round(0.5 + i / 100, 3)) for i, box in enumerate(boxes)]
        assert found(parts, size, margin=0) == expected[::-1]

    def test_a_huge_picture_needs_little_memory(self):
        """No array of the picture's 400 million pixels, nor one a pixel of all objects."""
        size, side = (20_000, 20_000), 120
        y, x = np.mgrid[:side, :side] - (side - 1) / 2
        disc = x**2 + y**2 < (side / 2) ** 2
        generator = np.random.default_rng(0)
        corners = np.stack(np.divmod(generator.permutation(160**2)[:80], 160), axis=1) * 125
        parts = []
        for window in tile_windows(size, tile=512, overlap=96):
            top, left, bottom, right = window
            near = corners[((corners + side > [left, top]) & (corners < [right, bottom])).all(axis=1)]
            if not len(near):
                continue
            boxes, masks = [], []
            for x0, y0 in near:
                mask = np.zeros((bottom - top, right - left), bool)
                xs, ys = (max(left - x0, 0), min(right - x0, side)), (max(top - y0, 0), min(bottom - y0, side))
                part = disc[slice(*ys), slice(*xs)]
                mask[y0 + ys[0] - top : y0 + ys[1] - top, x0 + xs[0] - left : x0 + xs[1] - left] = part
                masks.append(RLE.encode(mask))
                boxes.append([x0 + xs[0], y0 + ys[0], x0 + xs[1], y0 + ys[1]])
            scores = np.full(len(near), 0.5, np.float32)
            parts.append(
                TileObjects(window, boxes_of(boxes), scores, np.zeros(len(near), np.int64), RLEMasks.from_rles(masks))
            )
        assert sum(map(len, parts)) > 150
        joined_objects(parts[:2], size=size)  # compiled outside the measurement
        tracemalloc.start()
        joined = joined_objects(parts, size=size)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 5e6
        assert joined.masks is not None
        assert len(joined) == 80
        assert set(joined.masks.areas().tolist()) == {int(disc.sum())}
        assert sorted(joined.boxes[:, :2].tolist()) == sorted(corners.tolist())


def connected_shapes(generator, size):
    """Up to eight disjoint shapes, each in one piece, some reaching across the whole picture."""
    free, masks = np.ones(size, bool), []
    for _ in range(8):
        mask = np.zeros(size, bool)
        y, x = generator.integers(0, size[0]), generator.integers(0, size[1])
        step = generator.integers(-1, 2, 2)
        for _ in range(generator.integers(1, 80)):
            if not free[y, x]:
                break
            mask[y, x] = True
            move = step if generator.random() < 0.6 else generator.integers(-1, 2, 2)
            axis = generator.integers(2)
            y, x = (
                int(np.clip(y + move[0] * (axis == 0), 0, size[0] - 1)),
                int(np.clip(x + move[1] * (axis == 1), 0, size[1] - 1)),
            )
        if mask.any():
            free &= ~mask
            masks.append(mask)
    return masks


class TestErrors:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"size": (0, 5)}, r"size must be a positive \(height, width\); got \(0, 5\)"),
            ({"iou_threshold": 1.5}, "iou_threshold must be between 0 and 1; got 1.5"),
            ({"margin": -1}, "margin must not be negative; got -1. Pass 0"),
            ({"most": 0}, "most must be a positive number of objects; got 0. Pass None for all"),
            ({"size": (40, 80)}, r"windows inside a picture of size \(40, 80\); got \(0, 40, 40, 100\)"),
        ],
    )
    def test_arguments(self, options, message):
        with pytest.raises(ArgumentError, match=message):
            joined_objects([tile(LEFT), tile(RIGHT)], **{"size": SIZE, **options})

    def test_parts_with_and_without_masks(self):
        parts = [ideal(LEFT, [np.ones(SIZE, bool)], [0.5]), tile(RIGHT, ((40, 0, 100, 40), 0.5))]
        with pytest.raises(ArgumentError, match=r"parts must all have masks or none; got none at \(0, 40, 40, 100\)"):
            joined_objects(parts, size=SIZE)

    def test_parts_with_other_joints(self):
        part = tile(LEFT, ((5, 5, 9, 9), 0.5))
        parts = [
            TileObjects(LEFT, part.boxes, part.scores, part.labels, None, np.zeros((1, number, 3), np.float32))
            for number in (17, 5)
        ]
        with pytest.raises(ArgumentError, match=r"parts must all have the same joints; got \[5, 17\] joints"):
            joined_objects(parts, size=SIZE)

    def test_masks_of_a_picture_that_run_lengths_cannot_hold(self):
        with pytest.raises(ArgumentError, match=r"size must have less than 2\*\*31 pixels"):
            joined_objects([ideal(LEFT, [np.ones(SIZE, bool)], [0.5])], size=(50_000, 50_000))
        assert len(joined_objects([tile(LEFT, ((1, 2, 3, 4), 0.5))], size=(50_000, 50_000))) == 1

    def test_a_window_without_pixels(self):
        with pytest.raises(ArgumentError, match="window must be top, left, bottom, right with pixels between"):
            tile((5, 5, 5, 9))

    def test_columns(self):
        scores, labels = np.float32([0.5]), np.array([0])
        box = boxes_of([[0, 0, 1, 1]])
        two = RLEMasks.from_rles([RLE.encode(np.ones((40, 60), bool))] * 2)
        with pytest.raises(ArgumentError, match="masks must hold one row for each of 1 objects; got 2"):
            TileObjects(LEFT, box, scores, labels, two)
        with pytest.raises(ArgumentError, match="boxes must be finite numbers; got NaN or infinity"):
            TileObjects(LEFT, boxes_of([[0, 0, 1, np.nan]]), scores, labels)
        picture = RLEMasks.from_rles([RLE.encode(np.ones(SIZE, bool))])
        with pytest.raises(
            ArgumentError, match=r"masks must be of the window's size \(40, 60\); got \[ 40 100\]. Pass"
        ):
            TileObjects(LEFT, box, scores, labels, picture)
