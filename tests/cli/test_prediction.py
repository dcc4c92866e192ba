import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from delineate.engine import prediction
from delineate.engine.prediction import WrittenPredictions
from delineate.export import catalogue


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 255, (40, 52, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "colour.png")
    Image.fromarray(pixels[..., 0]).save(folder / "grey.png")
    Image.fromarray(pixels).convert("RGBA").save(folder / "clear.png")
    return folder


def test_a_folder_and_a_glob_are_predicted_once(typed, trained, pictures):
    result = typed(
        "predict", trained.path, pictures, pictures / "gr*.png", "--tile", 32, "--overlap", 8, "--tta", "flip"
    )
    assert result.exit_code == 0
    assert result.output.startswith("3 images: predictions/masks, predictions/predictions.json\n")
    for name in ("colour", "grey", "clear"):
        with Image.open(f"predictions/masks/{name}.png") as mask:
            assert mask.size == (52, 40)
    coco = json.loads(Path("predictions/predictions.json").read_text(encoding="utf-8"))
    assert len(coco["images"]) == 3
    with Image.open("predictions/overlays/colour.jpg") as overlay:
        assert overlay.width >= 52


def test_a_crf_refines(typed, trained, pictures):
    assert typed("predict", trained.path, pictures, "--out", "plain", "--no-overlays").exit_code == 0
    text = "bilateral_weight=0,gaussian_weight=30,gaussian_sigma=8"
    assert typed("predict", trained.path, pictures, "--out", "out", "--crf", text, "--no-overlays").exit_code == 0
    plain, sure = (
        json.loads(Path(folder, "predictions.json").read_text())["annotations"] for folder in ("plain", "out")
    )
    assert max(found["score"] for found in sure) > max(found["score"] for found in plain)


def test_every_refinement_is_handed_over(typed, trained, pictures, monkeypatch):
    given = {}

    def write(run, images, **options):
        given.update(options)
        return WrittenPredictions(1)

    monkeypatch.setattr(prediction, "predict_files", write)
    wanted = {"tta": "flip", "crf": "default", "superpixels": "slic,segments=4", "islands": 20, "holes": 30}
    words = [word for name, value in wanted.items() for word in (f"--{name}", value)]
    assert typed("predict", trained.path, pictures, *words).exit_code == 0
    assert given.items() >= wanted.items()
    given.clear()
    assert typed("predict", trained.path, pictures).exit_code == 0
    assert not given.keys() & wanted.keys()


def test_help_tells_the_refinements_in_their_order(typed):
    text = " ".join(typed("predict", "--help").output.replace("│", " ").split())
    options = text[text.index("Refinement, in this order") :]
    places = [options.index(name) for name in ("--tta", "--crf", "--superpixels", "--islands", "--holes")]
    assert places == sorted(places)
    assert "scales=0.5+0.75+1" in options
    assert "fuse=max" in options


def test_a_broken_file_is_named_and_the_others_go_on(typed, trained, pictures):
    (pictures / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    result = typed("predict", trained.path, pictures, "--no-overlays", "--out", "out")
    assert result.exit_code == 1
    assert "skipped: " in result.output
    assert "broken.jpg" in result.output
    assert "3 images: out/masks" in result.output
    assert "pictures:" not in result.output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--tile", "32"], "overlap"),
        (["--tta", "turn"], "test-time augmentation must be a known name; got 'turn'"),
        (["--crf", "bilateral_weigh=3"], "Did you mean 'bilateral_weight'?"),
        (["--superpixels", "slick"], "superpixels must be a known name; got 'slick'. Did you mean 'slic'?"),
        (["--superpixels", "graph,scales=3"], "Did you mean 'scale'?"),
        (["--islands", "-3"], "islands must be an area of 0 pixels or more; got -3"),
        (["--holes", "-3"], "holes must be an area of 0 pixels or more; got -3"),
        (["nowhere/*.png"], "image must name a file, a folder with images or a glob; got 'nowhere/*.png'"),
    ],
)
def test_what_predict_refuses(typed, trained, pictures, words, message):
    result = typed("predict", trained.path, pictures, *words)
    assert result.exit_code == 1
    assert message in str(result.exception)


def test_predict_without_weights(typed, pictures, tmp_path):
    assert "weights must be" in str(typed("predict", tmp_path / "gone", pictures).exception)


def test_export_hands_over_all_the_run_knows_and_names_the_file(typed, trained, tmp_path, monkeypatch):
    given = {}

    def write(model, path, **options):
        given.update(options, model=model)
        return path

    monkeypatch.setattr(catalogue, "export_onnx", write)
    result = typed("export", trained.path)
    assert result.exit_code == 0
    assert result.output == f"onnx: {trained.path / 'model.onnx'}\n"
    assert given["in_channels"] == 3
    assert given["taxonomy"].names == ("road", "tree")
    assert given["preprocessing"].channels == 3
    assert given["model"].num_classes == 2
    beside = typed("export", trained.weights, "--out", tmp_path / "enet.onnx")
    assert beside.output == f"onnx: {tmp_path / 'enet.onnx'}\n"


@pytest.mark.slow  # the exporter needs half a minute
def test_export_writes_a_file(typed, trained, tmp_path):
    assert typed("export", trained.path, "--out", tmp_path / "enet.onnx").exit_code == 0
    assert (tmp_path / "enet.onnx").stat().st_size > 100_000


def test_an_unknown_export_format(typed, trained):
    assert "format must be a known name; got 'onx'. Did you mean 'onnx'?" in str(
        typed("export", trained.path, "--format", "onx").exception
    )


def test_export_without_its_libraries_names_the_extra(typed, trained, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "onnx" else find(name, *a))
    result = typed("export", trained.path)
    assert result.exit_code == 1
    assert "pip install 'delineate[export]'" in str(result.exception)
