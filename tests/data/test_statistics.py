import json
import math

import numpy as np
import pytest
from PIL import Image

from delineate.data.digits import DigitScenes
from delineate.data.digits_objects import DigitObjects
from delineate.data.opening import open_dataset
from delineate.data.statistics import DatasetStatistics, class_weights, dataset_statistics
from delineate.errors import ArgumentError, DataError, UnknownNameError
from delineate.structures.taxonomy import Taxonomy


class Samples:
    """Pairs in memory."""

    name, split = "samples", "train"

    def __init__(self, pairs, taxonomy):
        self.pairs, self.taxonomy = pairs, taxonomy

    def __len__(self):
        return len(self.pairs)

    def read(self, index):
        return self.pairs[index]


def two_images():
    first = np.full((2, 2, 3), 255, np.uint8), np.array([[0, 0], [0, 1]], np.uint8)
    second = np.zeros((2, 4, 3), np.uint8), np.array([[0, 0, 0, 0], [255, 255, 0, 0]], np.uint8)
    return Samples([first, second], Taxonomy(("road", "tree", "sign")))


def test_counts_by_hand():
    calls = []
    found = dataset_statistics(two_images(), progress=lambda done, total: calls.append((done, total)))
    assert found.images == 2
    assert found.pixels == (9, 1, 0)
    assert found.ignored == 2
    assert found.images_with_class == (2, 1, 0)
    assert found.pixels_where_present == (12, 4, 0)
    assert found.shares == (0.9, 0.1, 0)
    assert dict(found.sizes) == {(2, 2): 1, (2, 4): 1}
    assert found.mean == pytest.approx([1 / 3] * 3)
    assert found.std == pytest.approx([math.sqrt(2) / 3] * 3)
    assert calls == [(1, 2), (2, 2)]
    assert found.weights("median_frequency") == pytest.approx([0.5 / 0.75, 0.5 / 0.25, 0])
    assert found.weights("none") == [1, 1, 1]


def test_agrees_with_numpy_on_the_digits():
    scenes = DigitScenes("val", length=12, size=(48, 40))
    found = dataset_statistics(scenes)
    images, labels = zip(*(scenes.read(i) for i in range(12)), strict=True)
    assert found.pixels == tuple(np.bincount(np.stack(labels).ravel(), minlength=11).tolist())
    assert found.images_with_class == tuple(sum(int((k == mask).any()) for mask in labels) for k in range(11))
    pixels = np.stack(images).reshape(-1, 3) / 255
    assert found.mean == pytest.approx(pixels.mean(axis=0))
    assert found.std == pytest.approx(pixels.std(axis=0))
    assert found.sizes == (((48, 40), 12),)


def test_grey_images_have_one_mean():
    pairs = [(np.full((3, 3, 1), 51, np.uint8), np.zeros((3, 3), np.uint8))]
    found = dataset_statistics(Samples(pairs, Taxonomy(("only",))))
    assert found.mean == pytest.approx([0.2])
    assert found.std == (0,)


def test_nothing_labelled_is_undefined():
    pairs = [(np.zeros((2, 2, 3), np.uint8), np.full((2, 2), 255, np.uint8))]
    found = dataset_statistics(Samples(pairs, Taxonomy(("a", "b"))))
    assert all(math.isnan(share) for share in found.shares)
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["classes"][0]["share"] is None
    with pytest.raises(ArgumentError, match="pixels must hold a class that occurs"):
        found.weights("enet")


def test_an_empty_data_set():
    found = dataset_statistics(Samples([], Taxonomy(("a",))))
    assert found.images == 0
    assert found.mean == ()
    assert found.summary().startswith("0 images")


def test_rows_and_json_agree():
    found = dataset_statistics(two_images())
    assert [row[0] for row in found.rows()] == ["road", "tree", "sign"]
    assert all(len(row) == len(DatasetStatistics.columns) for row in found.rows())
    values = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert values["classes"][0]["share"] == 0.9
    assert values["sizes"][0]["height"] == 2
    assert "12 pixels, 16.67 % of them without a label" in found.summary()


def test_plot_is_a_picture(tmp_path):
    found = dataset_statistics(two_images())
    found.plot(tmp_path / "classes.png")
    with Image.open(tmp_path / "classes.png") as picture:
        assert picture.width > 800
        assert len(picture.convert("RGB").getcolors(1 << 24)) > 20
    assert [path.name for path in tmp_path.iterdir()] == ["classes.png"]


def test_class_weights_by_name():
    samples = two_images()
    assert class_weights(samples, scheme="none") == [1, 1, 1]
    assert class_weights(samples, scheme="enet") == dataset_statistics(samples).weights("enet")
    with pytest.raises(UnknownNameError, match="Did you mean 'median_frequency'"):
        class_weights(samples, scheme="median-frequency")
    with pytest.raises(UnknownNameError, match="class_weights must be a known name"):
        dataset_statistics(samples).weights("inverse")


@pytest.mark.slow
@pytest.mark.data
def test_camvid_agrees_with_published_counts(real_data):
    found = dataset_statistics(open_dataset(real_data / "camvid", split="train"))
    assert found.pixels == (
        10682767,
        14750079,
        623349,
        20076880,
        2845085,
        6166762,
        743859,
        714595,
        3719877,
        405385,
        184967,
    )
    assert found.ignored == 2503995
    expected = [0.2793, 0.2017, 4.7865, 0.1490, 1.0, 0.4217, 3.8467, 1.9736, 0.7889, 6.3747, 8.8587]
    assert found.weights("median_frequency") == pytest.approx(expected, abs=5e-5)
    assert found.sizes == (((360, 480), 367),)


def test_objects_have_statistics_of_their_own():
    with pytest.raises(DataError, match="Pass it to object_statistics"):
        dataset_statistics(DigitObjects("val", length=2))
