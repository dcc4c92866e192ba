"""Folders of maps, scored image by image."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from delineate.engine.scoring import score
from delineate.errors import DataError


def folder_of(path: Path, **maps: object) -> Path:
    """PNG files, or ``.npy`` where a name ends so."""
    path.mkdir(parents=True, exist_ok=True)
    for name, values in maps.items():
        array = np.asarray(values)
        if array.dtype.kind == "f":
            np.save(path / f"{name}.npy", array)
        else:
            Image.fromarray(array.astype(np.uint8)).save(path / f"{name}.png")
    return path


def test_the_worked_example_of_semantic_scores(tmp_path):
    """Counts [[3, 1], [2, 4]]: IoU 3/6 and 4/7."""
    true = folder_of(tmp_path / "true", a=[[0, 0, 0, 0]], b=[[1, 1, 1], [1, 1, 1]])
    found = folder_of(tmp_path / "found", a=[[0, 0, 0, 1]], b=[[0, 0, 1], [1, 1, 1]])
    scores = score("semantic", true, found)
    assert scores["miou"] == pytest.approx((3 / 6 + 4 / 7) / 2)
    assert scores["pixel_accuracy"] == pytest.approx(0.7)
    assert (scores["images"], scores["invalid_predictions"]) == (2, 0)


def test_classes_void_and_foreign_ids(tmp_path):
    true = folder_of(tmp_path / "masks", a=[[0, 1, 2, 255]])
    found = folder_of(tmp_path / "found", a=[[0, 1, 7, 0]])
    (tmp_path / "classes.txt").write_text("sky\nroad\ncar\nsea\n")
    scores = score("semantic", true, found)
    assert list(scores["per_class"]) == ["sky", "road", "car", "sea"]
    assert scores["per_class"]["car"]["iou"] == 0
    assert math.isnan(scores["per_class"]["sea"]["iou"])
    assert scores["invalid_predictions"] == 1
    ignored = score("semantic", true, found, ignore_index=2)
    assert ignored["miou"] == 1
    assert ignored["invalid_predictions"] == 0
    (tmp_path / "two.txt").write_text("sky\nroad\n")
    with pytest.raises(DataError, match=r"ground truth must hold ids of the 2 classes; got id 2 in .*a\.png"):
        score("semantic", true, found, classes=tmp_path / "two.txt")


def test_boundaries_are_averaged_over_images(tmp_path):
    maps = np.zeros((2, 20, 20), int)
    maps[:, :, 10:] = 1
    moved = maps.copy()
    moved[1] = np.roll(moved[1], 4, axis=1)
    true = folder_of(tmp_path / "true", a=maps[0], b=maps[1])
    found = folder_of(tmp_path / "found", a=moved[0], b=moved[1])
    scores = score("semantic", true, found, boundary=True)
    assert 0 < scores["boundary_f1"] < 1
    assert score("semantic", true, true, boundary=True)["boundary_f1"] == 1


def test_arrays_and_subfolders_and_words_in_names(tmp_path):
    labels = np.array([[0, 1], [1, 1]])
    (tmp_path / "true/deep").mkdir(parents=True)
    np.save(tmp_path / "true/deep/a_mask.npy", labels)
    (tmp_path / "found/deep").mkdir(parents=True)
    Image.fromarray(labels.astype(np.uint8)).save(tmp_path / "found/deep/a.png")
    assert score("semantic", tmp_path / "true", tmp_path / "found")["miou"] == 1


def test_what_does_not_fit(tmp_path):
    true = folder_of(tmp_path / "true", a=[[0, 1]], b=[[0, 1]])
    with pytest.raises(DataError, match=r"predictions must cover every true map; got none for .*b\.png in"):
        score("semantic", true, folder_of(tmp_path / "one", a=[[0, 1]]))
    with pytest.raises(DataError, match=r"prediction must be 1 x 2 as .*b\.png; got 2 x 2 in"):
        score("semantic", true, folder_of(tmp_path / "sizes", a=[[0, 1]], b=[[0, 1], [0, 1]]))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="ground truth must be a folder of maps"):
        score("semantic", tmp_path / "empty", true)
    with pytest.raises(DataError, match=r"predictions must be a folder of maps; got .*where nothing is"):
        score("semantic", true, tmp_path / "gone")
    folder_of(tmp_path / "twice", a=[[0, 1]], b=[[0, 1]])
    np.save(tmp_path / "twice/a.npy", np.array([[0, 1]]))
    with pytest.raises(DataError, match="predictions must have one map an image"):
        score("semantic", true, tmp_path / "twice")
    (tmp_path / "one/b.png").write_bytes((tmp_path / "true/b.png").read_bytes()[:30])
    with pytest.raises(DataError, match=r"b\.png"):
        score("semantic", true, tmp_path / "one")


def test_saliency_of_pictures_and_floats(tmp_path):
    mask = np.zeros((12, 16), int)
    mask[3:9, 4:12] = 255
    true = folder_of(tmp_path / "true", a=mask)
    exact = score("saliency", true, folder_of(tmp_path / "exact", a=mask))
    assert exact["mae"] == 0
    assert exact["max_f"] == pytest.approx(1)
    floats = score("saliency", true, folder_of(tmp_path / "floats", a=mask / 255))
    assert floats["mae"] == 0
    half = score("saliency", true, folder_of(tmp_path / "half", a=np.where(mask > 0, 255, 51)))
    assert half["mae"] == 0  # least and largest value become 0 and 1
    with pytest.raises(DataError, match=r"prediction must hold values from 0 to 1.* The map is .*far.a\.npy\."):
        score("saliency", true, folder_of(tmp_path / "far", a=mask * 1e6))
    with pytest.raises(DataError, match=r"map must be \(H, W\) finite numbers"):
        score("saliency", true, folder_of(tmp_path / "nan", a=np.full((12, 16), np.nan)))


def test_saliency_of_masks_of_any_range(tmp_path):
    """0 and 1, 0 and 255 and 16 bits are the same masks; 128 of 255 is not yet object."""
    mask = np.zeros((12, 16), int)
    mask[3:9, 4:12] = 1
    found = folder_of(tmp_path / "found", a=mask * 255)
    wanted = score("saliency", folder_of(tmp_path / "whole", a=mask * 255), found)
    assert wanted["mean_f"] > 0.9
    ones = folder_of(tmp_path / "ones", a=mask)
    arrays = {"int": mask, "int255": mask * 255, "wide": mask * 65535, "bool": mask > 0, "float255": mask * 255.0}
    for name, values in arrays.items():
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "a.npy", values)
    for true in (ones, *(tmp_path / name for name in arrays)):
        assert score("saliency", true, found) == wanted, true.name
    grey = folder_of(tmp_path / "grey", a=np.where(mask > 0, 129, 128))
    assert score("saliency", grey, found) == wanted
    np.save(tmp_path / "int/a.npy", np.where(mask > 0, 129, 128))
    assert score("saliency", tmp_path / "int", found) == wanted


@pytest.mark.data
def test_the_published_figures_of_saliency(real_data):
    folder = real_data / "refvec"
    expected = json.loads((folder / "EXPECTED.json").read_text())["sod_metrics"]["expected"]["v1_3_0"]
    scores = score("saliency", folder / "pysodmetrics/masks", folder / "pysodmetrics/preds")
    names = {"MAE": "mae", "Smeasure": "s_measure", "wFmeasure": "weighted_f", "adpEm": "adaptive_e"}
    names |= {"meanEm": "mean_e", "maxEm": "max_e", "adpFm": "adaptive_f", "meanFm": "mean_f", "maxFm": "max_f"}
    for name, key in names.items():
        assert scores[key] == pytest.approx(expected[name], abs=1e-9), name


@pytest.mark.data
def test_the_panoptic_sample_against_itself(real_data):
    path = real_data / "refvec/panoptic_sample/sample_data/panoptic_examples.json"
    scores = score("panoptic", path, path)
    assert (scores["pq"], scores["sq"], scores["rq"], scores["images"]) == (1, 1, 1, 2)
    with pytest.raises(DataError, match=r"images must list at least one image|annotations must be COCO panoptic JSON"):
        score("panoptic", real_data / "refvec/EXPECTED.json", path)
