"""Instance maps as true and as predicted objects."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from delineate.data.objects.instance_maps import masks_of_map, read_predictions, read_truth
from delineate.errors import DataError
from delineate.structures.rle import RLE


def write(folder: Path, name: str, ids: list[list[int]]) -> None:
    folder.mkdir(exist_ok=True)
    Image.fromarray(np.array(ids, np.uint16)).save(folder / f"{name}.png")


@pytest.fixture
def maps(tmp_path: Path) -> Path:
    write(tmp_path / "true", "b", [[0, 7, 7], [300, 300, 0]])
    write(tmp_path / "true", "a", [[0, 0], [0, 0]])
    return tmp_path / "true"


def test_by_hand(maps):
    truth = read_truth(maps)
    assert truth.image_ids == ("a", "b")
    assert truth.image_sizes.tolist() == [[2, 2], [2, 3]]
    assert truth.classes == ("object",)
    objects = truth.objects
    assert objects.images.tolist() == [1, 1]
    assert objects.boxes.tolist() == [[1, 0, 2, 1], [0, 1, 2, 1]]
    assert objects.areas.tolist() == [2, 2]
    assert objects.masks[1].decode().tolist() == [[False, False, False], [True, True, False]]
    assert objects.scores is None


def test_predictions_have_a_score_of_one(maps, tmp_path):
    truth = read_truth(maps)
    write(tmp_path / "found", "b_mask", [[0, 1, 1], [0, 0, 2]])
    write(tmp_path / "found", "a", [[0, 0], [0, 0]])
    found = read_predictions(tmp_path / "found", truth)
    assert found.scores.tolist() == [1, 1]
    assert found.images.tolist() == [1, 1]
    assert read_predictions(maps, truth).masks[0] == truth.objects.masks[0]


def test_arrays_count_too(maps, tmp_path):
    (tmp_path / "arrays").mkdir()
    np.save(tmp_path / "arrays/a.npy", np.array([[0, 70000], [0, 0]]))
    np.save(tmp_path / "arrays/b.npy", np.zeros((2, 3), int))
    assert read_predictions(tmp_path / "arrays", read_truth(maps)).areas.tolist() == [1]
    np.save(tmp_path / "arrays/a.npy", np.array([[0, -1], [0, 0]]))
    with pytest.raises(DataError, match=r"instance map must hold numbers from 0; got -1 in .*a\.npy"):
        read_predictions(tmp_path / "arrays", read_truth(maps))


def test_what_does_not_fit(maps, tmp_path):
    truth = read_truth(maps)
    write(tmp_path / "other", "c", [[1]])
    with pytest.raises(DataError, match=r"maps must be called after an image of the truth; got .*c\.png"):
        read_predictions(tmp_path / "other", truth)
    write(tmp_path / "one", "b", [[0, 0, 0], [0, 0, 0]])
    with pytest.raises(DataError, match=r"maps must cover every image; got none for a in .*one"):
        read_predictions(tmp_path / "one", truth)
    write(tmp_path / "size", "a", [[1]])
    write(tmp_path / "size", "b", [[0, 0, 0], [0, 0, 0]])
    with pytest.raises(DataError, match=r"map must be 2 x 2, as its image; got 1 x 1 in .*a\.png"):
        read_predictions(tmp_path / "size", truth)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"instance maps must be pictures or \.npy; got none in"):
        read_truth(tmp_path / "empty")
    (maps / "deeper").mkdir()
    (maps / "b.png").rename(maps / "deeper/a.png")
    with pytest.raises(DataError, match="maps must be one an image"):
        read_truth(maps)


@pytest.mark.data
def test_the_nuclei(real_data):
    truth = read_truth(real_data / "dsb2018/labels")
    assert truth.num_images == 250
    assert len(truth.objects) == sum(
        len(np.unique(np.array(Image.open(path)))) - 1 for path in (real_data / "dsb2018/labels").iterdir()
    )


@pytest.mark.parametrize("seed", range(20))
def test_masks_of_a_map_are_those_of_its_numbers(seed):
    generator = np.random.default_rng(seed)
    ids = generator.integers(0, generator.integers(2, 5), generator.integers(1, 9, 2)) * 700
    values, masks = masks_of_map(ids)
    assert values.tolist() == [value for value in np.unique(ids) if value > 0]
    assert list(masks) == [RLE.encode(ids == value) for value in values]
