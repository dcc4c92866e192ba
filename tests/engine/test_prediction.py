"""Files in, files out: nothing is lost, nothing is overwritten, nothing predicted twice."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as coco_masks
from pycocotools.coco import COCO
from torch import nn

from delineate.engine.prediction import predict_files
from delineate.engine.semantic_predictor import SemanticPredictor
from delineate.engine.weights import ModelCard
from delineate.errors import ArgumentError, DataError, UnknownNameError
from delineate.structures.outputs import SemanticOutputs
from delineate.structures.preprocessing import Preprocessing
from delineate.structures.taxonomy import Taxonomy


class Brightest(nn.Module):
    def forward(self, images: torch.Tensor) -> SemanticOutputs:
        return SemanticOutputs(images * 4)


TAXONOMY = Taxonomy(("soil", "leaf", "sky"), colours=((90, 60, 0), (0, 200, 0), (0, 0, 250)), background=0)


@pytest.fixture(scope="module")
def predictor() -> SemanticPredictor:
    card = ModelCard("test", {}, Preprocessing((0.0,) * 3, (1.0,) * 3), TAXONOMY)
    return SemanticPredictor(Brightest(), card, precision="float32", device="cpu")


def picture(path: Path, seed: int = 0, size: tuple[int, int] = (24, 32)) -> np.ndarray:
    """Blocks of three colours on disk; returns their labels."""
    height, width = size
    labels = np.kron(np.random.default_rng(seed).integers(0, 3, (height // 8, width // 8)), np.ones((8, 8), int))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.eye(3)[labels].astype(np.uint8) * 220 + 10).save(path)
    return labels.astype(np.uint8)


def written(out: Path) -> dict:
    return json.loads((out / "predictions.json").read_text())


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_masks_overlays_and_coco_of_a_folder(predictor, tmp_path):
    images, out = tmp_path / "images", tmp_path / "new" / "out"
    labels = {name: picture(images / f"{name}.png", seed) for seed, name in enumerate(("a", "b"))}
    steps = []
    done = predict_files(predictor, [images], out=out, progress=lambda *step: steps.append(step))
    assert (done.count, done.failures) == (2, ())
    assert steps == [(1, 2), (2, 2)]
    assert files(out) == ["masks/a.png", "masks/b.png", "overlays/a.jpg", "overlays/b.jpg", "predictions.json"]
    for name, expected in labels.items():
        mask = Image.open(out / "masks" / f"{name}.png")
        assert mask.mode == "P"
        assert np.array_equal(np.array(mask), expected)
        assert np.array_equal(np.array(mask.convert("RGB")), np.array(TAXONOMY.colours)[expected])
        shown = np.array(Image.open(out / "overlays" / f"{name}.jpg"))
        assert shown.ndim == 3
        assert shown.std() > 5


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools
def test_the_coco_file_opens_elsewhere_and_its_masks_are_the_labels(predictor, tmp_path):
    labels = {"a": picture(tmp_path / "in/a.png", 3), "b": picture(tmp_path / "in/b.png", 4, (16, 8))}
    predict_files(predictor, [tmp_path / "in"], out=tmp_path / "out")
    coco = COCO(str(tmp_path / "out" / "predictions.json"))
    assert {c["id"]: c["name"] for c in coco.loadCats(coco.getCatIds())} == dict(enumerate(TAXONOMY.names))
    assert len(coco.anns) == len(written(tmp_path / "out")["annotations"])  # no id twice
    assert [entry["mask_file"] for entry in written(tmp_path / "out")["images"]] == ["masks/a.png", "masks/b.png"]
    for entry in coco.loadImgs(coco.getImgIds()):
        expected = labels[Path(entry["file_name"]).stem]
        assert (entry["height"], entry["width"]) == expected.shape
        found = coco.loadAnns(coco.getAnnIds(imgIds=[entry["id"]]))
        assert {a["category_id"] for a in found} == set(np.unique(expected)) - {0}
        for annotation in found:
            mask = expected == annotation["category_id"]
            assert np.array_equal(coco_masks.decode(annotation["segmentation"]), mask)
            assert annotation["area"] == mask.sum()
            assert 1 / 3 < annotation["score"] <= 1


def test_a_broken_file_is_named_and_the_others_are_written(predictor, tmp_path):
    for name in ("a", "c"):
        picture(tmp_path / f"in/{name}.png")
    (tmp_path / "in" / "b.png").write_bytes((tmp_path / "in" / "a.png").read_bytes()[:60])
    (tmp_path / "in" / "d.jpg").write_bytes(b"")
    done = predict_files(predictor, [tmp_path / "in"], out=tmp_path / "out", overlays=False)
    assert done.count == 2
    assert len(done.failures) == 2
    assert "b.png" in done.failures[0]
    assert "d.jpg" in done.failures[1]
    assert files(tmp_path / "out") == ["masks/a.png", "masks/c.png", "predictions.json"]
    assert [Path(image["file_name"]).stem for image in written(tmp_path / "out")["images"]] == ["a", "c"]


def test_equal_names_do_not_overwrite_each_other(predictor, tmp_path):
    inside = tmp_path / "in"
    places = ("one/x.png", "two/x.png", "one/x.bmp", "three/one/x.png", "one_x_png.png", "y.png")
    labels = {place: picture(inside / place, seed) for seed, place in enumerate(places)}
    predict_files(predictor, [inside], out=tmp_path / "out", overlays=False)
    entries = written(tmp_path / "out")["images"]
    assert len({entry["mask_file"] for entry in entries}) == len(places)
    assert len(list((tmp_path / "out" / "masks").iterdir())) == len(places)
    for entry in entries:
        place = Path(entry["file_name"]).relative_to(inside).as_posix()
        assert np.array_equal(np.array(Image.open(tmp_path / "out" / entry["mask_file"])), labels[place]), place
    assert "masks/y.png" in {entry["mask_file"] for entry in entries}
    assert "masks/two_x_png.png" in {entry["mask_file"] for entry in entries}


@pytest.mark.parametrize("place", ["results", "."])
def test_results_inside_the_images_are_not_taken_for_images(predictor, tmp_path, monkeypatch, place):
    picture(tmp_path / "a.png")
    picture(tmp_path / "more" / "b.png")
    monkeypatch.chdir(tmp_path)
    for given in (["."], ["."], ["**/*.png", "**/*.jpg"] if place == "results" else [str(tmp_path)]):
        done = predict_files(predictor, given, out=place)
        assert (done.count, done.failures) == (2, ())
    assert files(tmp_path / place / "masks") == ["a.png", "b.png"]
    assert files(tmp_path / place / "overlays") == ["a.jpg", "b.jpg"]


def test_only_results_is_an_error(predictor, tmp_path):
    picture(tmp_path / "in/a.png")
    predict_files(predictor, [tmp_path / "in"], out=tmp_path / "out")
    with pytest.raises(DataError, match="image must name a file besides the predictions in out; got only those"):
        predict_files(predictor, [tmp_path / "out"], out=tmp_path / "out")


def test_masks_drawn_by_hand_are_never_overwritten(predictor, tmp_path):
    picture(tmp_path / "images/a.png")
    picture(tmp_path / "masks/a.png", 1)
    before = (tmp_path / "masks/a.png").read_bytes()
    with pytest.raises(DataError, match=r"out must be a new folder or one with earlier predictions; got .*'masks'"):
        predict_files(predictor, [tmp_path / "images"], out=tmp_path)
    assert (tmp_path / "masks/a.png").read_bytes() == before
    assert not (tmp_path / "predictions.json").exists()


def test_work_that_stopped_halfway_can_be_begun_again(predictor, tmp_path):
    for name in ("a", "b"):
        picture(tmp_path / f"in/{name}.png")

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict_files(predictor, [tmp_path / "in"], out=tmp_path / "out", progress=stop)
    assert written(tmp_path / "out")["images"] == []
    assert predict_files(predictor, [tmp_path / "in"], out=tmp_path / "out").count == 2


def test_files_and_globs(predictor, tmp_path, monkeypatch):
    for name in ("a.png", "b.png", "sub/c.png"):
        picture(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert predict_files(predictor, ["a.png", "b.png"], out="one").count == 2
    assert predict_files(predictor, ["*.png"], out="two").count == 2
    assert predict_files(predictor, ["sub/**/*.png", "a.png"], out="three").count == 2
    with pytest.raises(DataError, match=r"got 'none/\*\.png', which holds none"):
        predict_files(predictor, ["none/*.png"], out="four")
    assert not Path("four").exists()


def test_options_reach_the_predictor(predictor, tmp_path):
    labels = picture(tmp_path / "a.png", 7, (64, 64))
    predict_files(predictor, [tmp_path / "a.png"], out=tmp_path / "out", tile=32, overlap=8, tta="flip")
    assert np.array_equal(np.array(Image.open(tmp_path / "out/masks/a.png")), labels)
    with pytest.raises(ArgumentError, match="overlap must be smaller than tile"):
        predict_files(predictor, [tmp_path / "a.png"], out=tmp_path / "out", tile=32, overlap=32)


def test_small_regions_are_removed_before_anything_is_written(predictor, tmp_path):
    labels = np.zeros((16, 16), np.uint8)
    labels[4:12, 4:12], labels[7:9, 7:9], labels[1, 1] = 1, 2, 2
    Image.fromarray(np.eye(3)[labels].astype(np.uint8) * 200 + 20).save(tmp_path / "a.png")
    predict_files(predictor, [tmp_path / "a.png"], out=tmp_path / "out", islands=2, holes=4)
    mask = np.array(Image.open(tmp_path / "out/masks/a.png"))
    assert (mask == 1).sum() == 64
    assert not (mask == 2).any()
    assert [found["category_id"] for found in written(tmp_path / "out")["annotations"]] == [1]


def test_wrong_options_leave_earlier_results_alone(predictor, tmp_path):
    picture(tmp_path / "a.png")
    predict_files(predictor, [tmp_path / "a.png"], out=tmp_path / "out")
    before = written(tmp_path / "out")
    with pytest.raises(UnknownNameError, match="Did you mean 'graph'"):
        predict_files(predictor, [tmp_path / "a.png"], out=tmp_path / "out", superpixels="grph")
    with pytest.raises(ArgumentError, match="overlap must be smaller than tile"):
        predict_files(predictor, [tmp_path / "a.png"], out=tmp_path / "out", tile=32, overlap=32)
    assert files(tmp_path / "out") == ["masks/a.png", "overlays/a.jpg", "predictions.json"]
    assert written(tmp_path / "out") == before


def test_what_an_earlier_call_wrote_is_removed_and_nothing_else(predictor, tmp_path):
    out = tmp_path / "out"
    for name in ("one/a.png", "one/b.png", "two/c.png"):
        picture(tmp_path / name)
    picture(tmp_path / "one/strip.png", size=(8, 66_000))
    predict_files(predictor, [tmp_path / "one"], out=out, tile=512)
    picture(out / "masks/drawn.png")
    picture(out / "overlays/drawn.jpg")
    predict_files(predictor, [tmp_path / "two"], out=out)
    assert files(out / "masks") == ["c.png", "drawn.png"]
    assert files(out / "overlays") == ["c.jpg", "drawn.jpg"]
    predict_files(predictor, [tmp_path / "two"], out=out, overlays=False)  # no overlay is kept of another prediction
    assert files(out / "overlays") == ["drawn.jpg"]


@pytest.mark.parametrize(
    "text",
    [
        '{"images": [{"mask_file": "../kept.png"}, {"mask_file": "masks/../../kept.png"}, {"mask_file": "kept.png"}]}',
        '{"images": [{"file_name": "a.png"}]}',
        '{"images": [3]}',
        "[]",
        "no JSON",
    ],
)
def test_only_masks_in_their_own_folder_are_removed(predictor, tmp_path, text):
    out = tmp_path / "out"
    for place in (tmp_path / "kept.png", out / "kept.png", out / "masks/kept.png", tmp_path / "in/a.png"):
        picture(place)
    (out / "predictions.json").write_text(text)
    predict_files(predictor, [tmp_path / "in"], out=out, overlays=False)
    assert (tmp_path / "kept.png").is_file()
    assert files(out) == ["kept.png", "masks/a.png", "masks/kept.png", "predictions.json"]


def test_an_overlay_too_long_for_a_jpeg_is_a_png(predictor, tmp_path):
    picture(tmp_path / "strip.png", size=(8, 66_000))
    predict_files(predictor, [tmp_path / "strip.png"], out=tmp_path / "out", tile=512)
    (overlay,) = (tmp_path / "out/overlays").iterdir()
    assert overlay.name == "strip.png"
    with Image.open(overlay) as opened:
        assert opened.width >= 66_000


def test_a_run_is_loaded_by_its_folder(tiny_run, squares, tmp_path):
    done = predict_files(tiny_run.path, [squares / "val" / "images"], out=tmp_path / "out")
    assert done.count == 5
    mask = np.array(Image.open(tmp_path / "out" / "masks" / "val00.png"))
    assert mask.shape == (32, 32)
    assert set(np.unique(mask)) <= {0, 1, 2}


def test_files_that_cannot_be_read_leave_earlier_results_alone(predictor, tmp_path):
    Image.fromarray(np.full((40, 50, 3), 90, np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"no picture")
    predict_files(predictor, [tmp_path / "a.png"], out=tmp_path / "out")
    before = {path: path.read_bytes() for path in sorted((tmp_path / "out").rglob("*")) if path.is_file()}
    written = predict_files(predictor, [tmp_path / "b.png"], out=tmp_path / "out")
    assert written.count == 0
    assert len(written.failures) == 1
    assert {path: path.read_bytes() for path in sorted((tmp_path / "out").rglob("*")) if path.is_file()} == before
