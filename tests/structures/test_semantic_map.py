import sys

import jaxtyping
import numpy as np
import pytest
import supervision
from PIL import Image
from pycocotools import mask as coco_mask

from delineate.errors import ArgumentError, MissingDependencyError
from delineate.structures.semantic_map import VOID_COLOUR, SemanticMap
from delineate.structures.taxonomy import Taxonomy

CELLS = Taxonomy(("background", "cell", "wall"), background=0)
LABELS = np.array([[0, 1, 1, 255], [0, 1, 2, 2]])


def grey(shape=(2, 4), value=100):
    return np.full((*shape, 3), value, np.uint8)


def test_pixels_and_size():
    found = SemanticMap(LABELS, CELLS)
    assert found.labels.dtype == np.uint8
    assert found.size == (2, 4)
    assert found.pixels() == {"background": 2, "cell": 3, "wall": 2}


def test_colour_map_by_hand():
    colours = SemanticMap(LABELS, CELLS).colour_map()
    assert colours[0].tolist() == [[0, 0, 0], [128, 0, 0], [128, 0, 0], list(VOID_COLOUR)]


def test_overlay_by_hand():
    found = SemanticMap(LABELS, CELLS, grey())
    half = found.overlay(0.5)
    assert half[0].tolist() == [[100, 100, 100], [114, 50, 50], [114, 50, 50], [100, 100, 100]]
    assert np.array_equal(found.overlay(0), grey())
    full = found.overlay(1)
    assert full[0, 1].tolist() == [128, 0, 0]
    assert full[0, 0].tolist() == [100, 100, 100]


def test_without_an_image_the_overlay_is_the_colour_map():
    found = SemanticMap(LABELS, CELLS)
    assert np.array_equal(found.overlay(), found.colour_map())


def test_plot_is_enlarged_and_shows_the_overlay_beside_a_legend():
    found = SemanticMap(LABELS, CELLS, grey())
    picture = found.plot()
    factor = 160
    assert picture.height == 2 * factor
    assert picture.width > 4 * factor
    shown = np.asarray(picture)[factor // 2 :: factor, factor // 2 : 4 * factor : factor]
    assert np.array_equal(shown, found.overlay())
    legend = np.asarray(picture)[:, 4 * factor :].reshape(-1, 3)
    assert {(128, 0, 0), (0, 128, 0), (255, 255, 255)} <= set(map(tuple, legend.tolist()))


def test_plot_of_large_strange_and_empty_maps():
    large = SemanticMap(np.zeros((700, 900), int), Taxonomy(("only",)))
    assert large.plot().height == 700
    strip = SemanticMap(np.repeat([[1, 2]], 600, axis=1), CELLS, grey((1, 1200))).plot()
    assert strip.width > 1200
    assert strip.height > 2 * 14  # two lines of text, where the strip is one pixel high
    nothing = SemanticMap(np.full((320, 320), 255), CELLS, grey((320, 320))).plot()
    assert nothing.size == (320, 320)


def test_a_long_legend_is_cut():
    many = SemanticMap(np.arange(64 * 64).reshape(64, 64) // 32, Taxonomy.numbered(128))
    assert many.plot().width < 320 + 3 * 320


def test_png_holds_the_labels_and_the_palette(tmp_path):
    SemanticMap(LABELS, CELLS).to_png(tmp_path / "cells.png")
    with Image.open(tmp_path / "cells.png") as picture:
        assert picture.mode == "P"
        assert np.array_equal(np.asarray(picture), LABELS)
        assert np.array_equal(np.asarray(picture.convert("RGB")), SemanticMap(LABELS, CELLS).colour_map())
    assert [path.name for path in tmp_path.iterdir()] == ["cells.png"]


def test_png_of_an_ignore_index_that_no_byte_holds(tmp_path):
    taxonomy = Taxonomy(("a", "b"), ignore_index=-1)
    found = SemanticMap(np.array([[0, 1, -1]]), taxonomy)
    assert found.labels.dtype == np.int32
    found.to_png(tmp_path / "labels.png")
    with Image.open(tmp_path / "labels.png") as picture:
        assert np.asarray(picture).tolist() == [[0, 1, 255]]


def test_png_of_more_classes_than_a_byte_holds(tmp_path):
    taxonomy = Taxonomy(tuple(map(str, range(300))), ignore_index=65535)
    labels = np.array([[0, 255, 299, 65535]])
    SemanticMap(labels, taxonomy).to_png(tmp_path / "labels.png")
    with Image.open(tmp_path / "labels.png") as picture:
        assert np.array_equal(np.asarray(picture), labels)
    assert SemanticMap(labels, taxonomy).colour_map()[0, 3].tolist() == list(VOID_COLOUR)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools
def test_coco_agrees_with_pycocotools():
    generator = np.random.default_rng(0)
    labels = np.kron(generator.integers(0, 3, (5, 7)), np.ones((3, 3), int))
    scores = generator.random(labels.shape).astype(np.float32)
    results = SemanticMap(labels, CELLS, scores=scores).to_coco(7)
    assert [(result["image_id"], result["category_id"]) for result in results] == [(7, 1), (7, 2)]
    for result in results:
        mask = labels == result["category_id"]
        assert np.array_equal(coco_mask.decode(result["segmentation"]), mask)
        assert result["area"] == coco_mask.area(result["segmentation"])
        assert result["bbox"] == coco_mask.toBbox(result["segmentation"]).tolist()
        assert result["score"] == pytest.approx(scores[mask].mean(), rel=1e-6)


def test_coco_of_background_only_is_empty():
    assert SemanticMap(np.zeros((3, 3), int), CELLS).to_coco(1) == []
    assert "score" not in SemanticMap(LABELS, CELLS).to_coco(1)[0]


def test_supervision():
    found = SemanticMap(LABELS, CELLS).to_supervision()
    assert isinstance(found, supervision.Detections)
    assert found.xyxy.tolist() == [[1, 0, 3, 2], [2, 1, 4, 2]]
    assert found.class_id.tolist() == [1, 2]
    assert found.mask.sum(axis=(1, 2)).tolist() == [3, 2]
    assert found.data["class_name"].tolist() == ["cell", "wall"]
    assert len(SemanticMap(np.zeros((2, 2), int), CELLS).to_supervision()) == 0


def test_supervision_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(MissingDependencyError, match=r"delineate\[supervision\]"):
        SemanticMap(LABELS, CELLS).to_supervision()


def test_errors_say_what_is_wrong(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as on a user's machine
    with pytest.raises(ArgumentError, match=r"labels must be classes 0 to 2 or 255; got 3 at \(1, 0\)\."):
        SemanticMap(np.array([[0], [3]]), CELLS)
    with pytest.raises(ArgumentError, match=r"image must be \(2, 4, 3\) RGB bytes; got \(3, 4, 3\) uint8\."):
        SemanticMap(LABELS, CELLS, grey((3, 4)))
    with pytest.raises(ArgumentError, match=r"scores must be \(2, 4\); got \(2, 2\)\."):
        SemanticMap(LABELS, CELLS, scores=np.zeros((2, 2), np.float32))
    with pytest.raises(ArgumentError, match=r"alpha must lie between 0 and 1; got 2\."):
        SemanticMap(LABELS, CELLS).overlay(2.0)
