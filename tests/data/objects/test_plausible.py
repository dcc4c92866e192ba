import numpy as np
import pytest

from delineate.data.objects.plausible import require_pixels
from delineate.errors import DataError

BOXES = np.full((10, 4), 0.5)
SIZES = np.full((10, 2), 5)


def changed(array, value, index=(3, 2)):
    array = array.astype(np.result_type(array, type(value)))
    array[index] = value
    return array


@pytest.mark.parametrize(
    ("boxes", "sizes"),
    [
        (BOXES, SIZES),
        (changed(BOXES, 1.5), SIZES),
        (changed(BOXES, -1.5), SIZES),
        (np.concatenate([BOXES, BOXES]), np.concatenate([SIZES, SIZES * 0])),  # half of the sizes are known
    ],
)
def test_relative_boxes_are_refused(boxes, sizes):
    message = (
        rf"^boxes must be pixels; all {len(boxes)} lie within 0\.\.1\.5, as relative ones do, in a\.jsonl\. Multiply"
    )
    with pytest.raises(DataError, match=message):
        require_pixels(boxes, sizes, "a.jsonl")


@pytest.mark.parametrize(
    ("boxes", "sizes"),
    [
        (BOXES[:9], SIZES[:9]),  # too few to tell
        (BOXES[:0], SIZES[:0]),
        (changed(BOXES, 1.6), SIZES),
        (changed(BOXES, -1.6), SIZES),
        (BOXES, changed(SIZES, 4, (3, 1))),  # 4 pixels may hold such boxes
        (BOXES, SIZES * 0),  # of unknown size
        (BOXES * 0, SIZES),  # empty boxes are of either kind
    ],
)
def test_pixels_pass(boxes, sizes):
    assert require_pixels(boxes, sizes, "a.jsonl") is None
