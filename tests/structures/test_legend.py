import numpy as np
import pytest
from PIL import Image

from delineate.structures.legend import with_legend

RED, BLUE = (200, 0, 0), (0, 0, 200)


def black(width, height):
    return Image.new("RGB", (width, height))


def boxes(picture, colour, right_of):
    """Rows of pixels in which a colour occurs right of the picture, as numbers of separate swatches."""
    rows = (np.asarray(picture)[:, right_of:] == colour).all(axis=2).any(axis=1)
    return int(np.count_nonzero(np.diff(rows.astype(int), prepend=0) == 1))


def test_a_swatch_for_each_entry_beside_the_untouched_picture():
    sheet = with_legend(black(400, 330), [(RED, "one", 0.25), (BLUE, "two", 0.75), (RED, "three", 0.0)])
    assert not np.asarray(sheet)[:, :400].any()
    assert boxes(sheet, RED, 400) == 2
    assert boxes(sheet, BLUE, 400) == 1
    assert sheet.height == 330


@pytest.mark.parametrize(("size", "factor"), [((64, 48), 7), ((320, 320), 1), ((500, 100), 1), ((1, 1), 320)])
def test_small_pictures_are_enlarged_by_a_whole_factor(size, factor):
    assert with_legend(black(*size), []).size == (size[0] * factor, size[1] * factor)


def test_many_entries_take_columns_and_of_very_many_the_largest_are_listed():
    narrow = with_legend(black(400, 330), [(RED, "x", 1 / 10)] * 10).width
    wide = with_legend(black(400, 330), [(RED, "x", 1 / 30)] * 30).width
    assert wide > 400 + 2 * (narrow - 400) * 0.8
    entries = [(RED, f"small {i}", 0.001) for i in range(100)] + [(BLUE, "large", 0.9)]
    assert boxes(with_legend(black(400, 330), entries), BLUE, 400) == 1


def test_a_long_name_is_cut():
    short, long = (with_legend(black(400, 330), [(RED, name, 1.0)]).width for name in ("n" * 28, "n" * 300))
    assert abs(long - short) < 20
