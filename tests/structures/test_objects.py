import jaxtyping
import numpy as np
import pytest

from delineate.errors import ArgumentError
from delineate.structures.objects import Objects
from delineate.structures.rle import RLE
from delineate.structures.rle_masks import RLEMasks


def masks(*areas):
    return RLEMasks.from_counts(
        np.array([[0, area, 20 - area] for area in areas]).reshape(-1),
        np.arange(len(areas) + 1) * 3,
        [(4, 5)] * len(areas),
    )


def complete(count=3):
    """Every column, each row different."""
    row = np.arange(count)
    return Objects.of(
        row,
        row + 1,
        np.stack([row, row, row + 2, row + 3], axis=1),
        scores=row / 8,
        areas=row + 0.5,
        crowd=row == 1,
        ignored=row == 2,
        masks=masks(*(row + 1)),
        keypoints=np.broadcast_to(row[:, None, None], (count, 2, 3)),
        ids=row + 70,
    )


def rows_of(objects):
    return [
        (
            objects.images[i],
            objects.labels[i],
            *objects.boxes[i],
            objects.scores[i],
            objects.areas[i],
            objects.crowd[i],
            objects.ignored[i],
            objects.masks[i],
            *objects.keypoints[i].reshape(-1),
            objects.ids[i],
        )
        for i in range(len(objects))
    ]


def test_what_is_left_out():
    objects = Objects.of([0, 4], [1, 0], [[0, 0, 4, 5], [2.5, 2, 3, 0]])
    assert objects.areas.tolist() == [20, 0]
    assert objects.ids.tolist() == [0, 1]
    assert not objects.crowd.any()
    assert not objects.ignored.any()
    assert objects.scores is objects.masks is objects.keypoints is None
    assert (objects.images.dtype, objects.boxes.dtype, objects.crowd.dtype) == (np.int64, np.float64, np.bool_)
    assert len(Objects.of([], [], [], scores=[])) == 0
    assert Objects.of([], [], []).boxes.shape == (0, 4)


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        (np.array([2, 0, 2]), [2, 0, 2]),
        (np.array([False, True, True]), [1, 2]),
        (np.zeros(0, np.int64), []),
        (np.array([-1]), [2]),
    ],
    ids=str,
)
def test_selection_takes_every_column(chosen, expected):
    whole = rows_of(complete())
    assert rows_of(complete().select(chosen)) == [whole[i] for i in expected]


def test_parts_put_together_are_the_whole():
    whole = complete(5)
    parts = [whole.select(rows) for rows in (np.array([0, 1]), np.zeros(0, np.int64), np.array([2, 3, 4]))]
    assert rows_of(Objects.concatenate(parts)) == rows_of(whole)
    plain = Objects.of([0], [0], [[0, 0, 1, 1]])
    assert Objects.concatenate([plain, plain]).scores is None


def test_one_class_for_all():
    objects = complete().class_agnostic()
    assert objects.labels.tolist() == [0, 0, 0]
    assert objects.ids.tolist() == [70, 71, 72]


def test_classes_come_one_after_another_when_taken_as_one():
    """In the order of the classes, then that of the file; each row keeps its id."""
    whole = complete(5).select(np.array([3, 0, 4, 1, 2]))
    mixed = Objects.concatenate([whole, whole])
    assert mixed.class_agnostic().ids.tolist() == [70, 70, 71, 71, 72, 72, 73, 73, 74, 74]
    ties = Objects.of([0] * 4, [1, 0, 1, 0], np.ones((4, 4)))
    assert ties.class_agnostic().ids.tolist() == [1, 3, 0, 2]
    assert ties.labels.tolist() == [1, 0, 1, 0]


def test_the_area_is_that_of_the_mask_unless_it_is_told():
    boxes = [[0, 0, 4, 5], [0, 0, 4, 5]]
    assert Objects.of([0, 0], [0, 0], boxes, masks=masks(3, 7)).areas.tolist() == [3, 7]
    assert Objects.of([0, 0], [0, 0], boxes, masks=masks(3, 7), areas=[1, 2]).areas.tolist() == [1, 2]
    assert Objects.of([0, 0], [0, 0], boxes).areas.tolist() == [20, 20]


def test_errors_say_what_to_do(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as on a user's machine
    box = [[0, 0, 1, 1]]
    for message, arguments, columns in (
        (r"labels must hold one row for each of 1 objects; got 2\.", ([0], [0, 1], box), {}),
        (r"boxes must hold one row for each of 2 objects; got 1\.", ([0, 0], [0, 1], box), {}),
        (r"scores must hold one row for each of 1 objects; got 0\.", ([0], [0], box), {"scores": []}),
        (r"masks must hold one row for each of 1 objects; got 2\.", ([0], [0], box), {"masks": masks(1, 2)}),
        (
            r"keypoints must hold one row for each of 1 objects; got 3\.",
            ([0], [0], box),
            {"keypoints": np.zeros((3, 1, 3))},
        ),
        (r"images must be indices of at least 0; got -1\.", ([-1], [0], box), {}),
        (r"labels must be indices of at least 0; got -2\.", ([0], [-2], box), {}),
        (r"scores must be finite numbers; got NaN or infinity\.", ([0], [0], box), {"scores": [np.nan]}),
        (r"boxes must be finite numbers; got NaN or infinity\.", ([0], [0], [[0, np.inf, 1, 1]]), {"areas": [1]}),
        (r"areas must be finite numbers; got NaN or infinity\.", ([0], [0], box), {"areas": [-np.inf]}),
        (r"keypoints must be finite numbers;", ([0], [0], box), {"keypoints": np.full((1, 1, 3), np.nan)}),
    ):
        with pytest.raises(ArgumentError, match=message):
            Objects.of(*arguments, **columns)
    with pytest.raises(ArgumentError, match=r"parts must hold at least one table; got none\."):
        Objects.concatenate([])
    scored = Objects.of([0], [0], box, scores=[1])
    with pytest.raises(ArgumentError, match=r"parts must all have scores, or none of them; got some\."):
        Objects.concatenate([scored, Objects.of([0], [0], box)])


def test_masks_are_those_of_their_rows():
    assert complete().masks[1] == RLE.from_counts([0, 2, 18], (4, 5))
    assert complete().select(np.array([1])).masks.areas().tolist() == [2]
