import math

import pytest

from delineate.data.class_weights import enet_weights, median_frequency_weights
from delineate.errors import ArgumentError

# CamVid, train: pixels of each class in label order
CAMVID = [10682767, 14750079, 623349, 20076880, 2845085, 6166762, 743859, 714595, 3719877, 405385, 184967]


def test_median_frequency_by_hand():
    """Frequencies 0.5, 0.1, 0.2: the median is 0.2."""
    assert median_frequency_weights([50, 10, 10], [100, 100, 50]) == pytest.approx([0.4, 2, 1])


def test_a_class_that_never_occurs_weighs_nothing():
    assert median_frequency_weights([50, 0, 10], [100, 0, 100])[1] == 0
    assert enet_weights([50, 0])[1] == pytest.approx(1 / math.log(1.02))


def test_enet_weights_of_camvid():
    expected = [5.603, 4.295, 33.574, 3.335, 15.486, 8.739, 31.542, 32.012, 12.829, 38.014, 43.907]
    assert enet_weights(CAMVID) == pytest.approx(expected, abs=5e-4)


def test_weights_do_not_depend_on_the_unit():
    assert enet_weights([3 * count for count in CAMVID]) == pytest.approx(enet_weights(CAMVID))
    doubled = median_frequency_weights([2, 4, 6], [20, 20, 20])
    assert doubled == pytest.approx(median_frequency_weights([1, 2, 3], [10, 10, 10]))


def test_errors_say_what_is_wrong():
    with pytest.raises(ArgumentError, match=r"pixels must hold a class that occurs; got \[0, 0\]\."):
        median_frequency_weights([0, 0], [0, 0])
    with pytest.raises(ArgumentError, match=r"pixels must hold a class that occurs; got \[0, 0\]\."):
        enet_weights([0, 0])
    with pytest.raises(ArgumentError, match=r"constant must be above 1; got 1\."):
        enet_weights([1], constant=1)
    with pytest.raises(ArgumentError, match=r"pixels_where_present must hold 2 numbers; got 1\."):
        median_frequency_weights([1, 2], [3])
