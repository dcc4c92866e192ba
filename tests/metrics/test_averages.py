import math

import numpy as np

from delineate.metrics.averages import defined_mean, share


def test_what_is_undefined_is_left_out():
    assert defined_mean(np.array([[1.0, np.nan], [0.0, np.nan]])) == 0.5
    assert math.isnan(defined_mean(np.array([np.nan])))
    assert math.isnan(defined_mean(np.zeros((0, 3))))


def test_a_share_of_nothing_is_undefined():
    np.testing.assert_equal(share(np.array([0, 3, 2]), np.array([0, 4, 2])), [np.nan, 0.75, 1.0])
