import json
import math

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from delineate.engine.predictors import measure
from delineate.engine.recipe import build_recipe
from delineate.engine.run import Run
from delineate.engine.training import train
from delineate.errors import RunError, UnknownNameError
from delineate.postprocess.dense_crf import DenseCRF
from delineate.report import run_facts, runs, semantic
from delineate.report.runs import report_folder, report_run


def write_stripes(root, train=4, val=5):
    random = np.random.default_rng(3)
    for split, count in (("train", train), ("val", val)):
        for folder in ("images", "masks"):
            (root / split / folder).mkdir(parents=True)
        for number in range(count):
            labels = np.zeros((20, 28), np.uint8)
            labels[:, int(random.integers(6, 20)) :] = 1
            labels[:2] = 255
            pixels = random.integers(0, 70, (20, 28, 3)) + (labels == 1)[..., None] * 120
            Image.fromarray(pixels.astype(np.uint8)).save(root / split / "images" / f"{split}{number}.png")
            Image.fromarray(labels).save(root / split / "masks" / f"{split}{number}.png")
    (root / "classes.txt").write_text("ground\nwall\n")
    return root


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("semantic")
    recipe = {
        "model": {"name": "enet"},
        "data": {"path": str(write_stripes(folder / "stripes")), "batch_size": 4, "workers": 0},
        "augmentation": {"preset": "none", "crop": [16, 16]},
        "loss": [{"name": "cross_entropy", "label_smoothing": 0.1}, {"name": "soft_dice", "weight": 0.5}],
        "trainer": {"max_epochs": 1, "threads": 1, "precision": "float32"},
    }
    return train(recipe, out=folder / "run", progress=False)


def test_scores_are_those_of_measure_and_are_kept(run):
    evaluation = report_run(run, boundary=False)
    kept = json.loads(run.metrics.read_text())
    assert kept["miou"] == evaluation.scores["miou"]
    assert kept["split"] == "val"
    assert len(kept["images"]) == 5
    own = measure(run, run.path.parent / "stripes", boundary=False)
    assert own.scores["miou"] == evaluation.scores["miou"]
    assert own.images == evaluation.images
    assert "boundary_f1" not in kept


def test_the_page_tells_the_run(run):
    seen = []
    report_run(run, tta="flip", out=run.path, progress=lambda done, total: seen.append((done, total)))
    page = run.report.read_text(encoding="utf-8")
    for text in (
        "enet on stripes",
        "cross_entropy (label_smoothing=0.1) + 0.5 x soft_dice",
        "4 images of 16 x 16 pixels",
        "val, 5 images",
        "Test-time augmentation",
        "ground",
        "wall",
    ):
        assert text in page
    for number in range(5):
        assert f"val{number}" in page
    assert "https://" not in page
    assert seen[-1] == (5, 5)


def test_training_beyond_the_ordinary_is_told(run, monkeypatch):
    def facts():
        told = []
        with monkeypatch.context() as patch:
            patch.setattr(semantic, "write_report", lambda path, content: told.extend(content.facts))
            report_run(run, boundary=False, out=run.path / "told")
        return dict(told)

    names = {"Sampling", "CutMix", "Copy-paste", "Adversary", "Stages", "Starting weights", "Proposals"}
    plain = facts()
    assert not names & set(plain)
    values = yaml.safe_load(run.recipe.read_text())
    values["data"]["sampling"] = "class_balanced"
    values["adversarial"] = {"input": "scaling", "weight": 0.2, "after_epochs": 3}
    values["start"] |= {"weights": "runs/before", "proposals": "runs/first"}
    values["stages"] = [{}, {"augmentation": {"cutmix": 0.5, "copy_paste": 0.25}}]
    whole = build_recipe(values)
    monkeypatch.setattr(runs, "build_recipe", lambda values: whole)
    told = facts()
    assert {name: told[name] for name in told if name not in plain} == {
        "Sampling": "class balanced",
        "CutMix": "50 % of the images",
        "Copy-paste": "25 % of the images",
        "Adversary": "scaling, weight 0.2, after 3 epochs",
        "Stages": "2",
        "Starting weights": "runs/before",
        "Proposals": "runs/first",
    }
    order = list(told)
    assert order.index("Augmentation") + 1 == order.index("Sampling")


def test_a_crf_is_named_with_all_its_parameters(run):
    report_run(run, crf="iterations=2,bilateral_weight=4.5", boundary=False, out=run.path / "refined")
    page = (run.path / "refined" / run.report.name).read_text(encoding="utf-8")
    assert "Dense CRF" in page
    assert "bilateral_weight=4.5, iterations=2, normalisation=symmetric" in page
    assert "Dense CRF" not in run.report.read_text(encoding="utf-8")


def test_a_refinement_is_told_step_by_step(run):
    def bright(images, logits):
        wall = (images[:, :1] > 100) * 0.9 + 0.05
        return torch.cat([1 - wall, wall], 1)

    out, texts = run.path / "cleaned", {"superpixels": "slic,segments=30", "islands": 1200, "holes": 7}
    found = report_run(run, boundary=False, out=out, tta="flip", crf=bright, **texts)
    page = (out / run.report.name).read_text(encoding="utf-8")
    for text in (
        "slic, segments=30, compactness=10.0",
        "fewer than 1,200 pixels",
        "at most 7 pixels",
        "flip",
        "bright",
    ):
        assert text in page
    plain = report_run(run, boundary=False, out=run.path / "plain", crf=bright)
    page = (run.path / "plain" / run.report.name).read_text(encoding="utf-8")
    for text in ("Superpixels", "Islands", "Holes"):
        assert text not in page
    # no region of 20 x 28 pixels has 1200: one class is left of each image, where both were right nearly everywhere
    assert plain.scores["pixel_accuracy"] > 0.9
    assert all(image.pixel_accuracy < 0.9 for image in found.images)


def test_cells_are_kept_and_shown(run):
    folder = report_folder(run)
    evaluation = report_run(run, boundary=False, cells="wall")
    assert folder == run.path  # a score more, of the same predictions
    cells = evaluation.scores["cells"]
    kept = json.loads(run.metrics.read_text())["cells"]
    assert kept == cells
    assert 0 < cells["rand"] <= 1
    page = run.report.read_text(encoding="utf-8")
    assert "Cells of &#39;wall&#39;" in page
    assert semantic.cells_in_words(cells) in page
    with pytest.raises(UnknownNameError, match=r"cells must be a known name; got 'wal'\. Did you mean 'wall'"):
        report_run(run, cells="wal")


def test_undefined_cells_in_words():
    names = ("rand", "rand_split", "rand_merge", "information", "threshold", "pixel_error")
    text = semantic.cells_in_words(dict.fromkeys(names, math.nan))
    assert text == "Rand F n/a at threshold n/a, split n/a, merge n/a, information n/a, pixel error n/a"


def test_another_split(run):
    evaluation = report_run(run.path, split="train", boundary=False)
    assert {image.name for image in evaluation.images} == {f"train{number}" for number in range(4)}
    folder = run.path / "evaluations" / "stripes-train"
    assert "train, 4 images" in (folder / "report.html").read_text(encoding="utf-8")
    assert json.loads((folder / "metrics.json").read_text())["split"] == "train"


def test_a_run_keeps_its_own_scores(run, tmp_path):
    stripes = run.path.parent / "stripes"
    assert report_folder(run) == report_folder(run, split="val") == run.path
    assert report_folder(run, split="train") == run.path / "evaluations/stripes-train"
    assert report_folder(run, tta="flip, scale") == run.path / "evaluations/stripes-val-flip-scale"
    assert report_folder(run, data=tmp_path / "other") == run.path / "evaluations/other-val"
    assert report_folder(run, crf="default") == run.path / "evaluations/stripes-val-crf"
    assert report_folder(run, tta="flip", crf="iterations=2, bilateral_weight=4.5") == (
        run.path / "evaluations/stripes-val-flip-crf-iterations-2-bilateral_weight-4.5"
    )
    assert report_folder(run, crf="some/crf.json") == run.path / "evaluations/stripes-val-crf"
    assert report_folder(run, tta="", crf="", superpixels="", islands=0, holes=0) == run.path
    assert report_folder(run, superpixels="graph") == run.path / "evaluations/stripes-val-superpixels-graph"
    everything = report_folder(run, split="train", crf="default", superpixels="slic,segments=90", islands=50, holes=20)
    assert everything.name == "stripes-train-crf-superpixels-slic-segments-90-islands-50-holes-20"
    assert report_folder(run, islands=5) != report_folder(run, holes=5)
    assert report_folder(run, crf=DenseCRF(iterations=3)).name.endswith("-iterations-3-normalisation-symmetric")
    assert report_folder(run, crf="some/crf-walls.json") == run.path / "evaluations/stripes-val-crf-walls"
    report_run(run, data=stripes, boundary=False, out=tmp_path / "new/scores")
    assert {file.name for file in (tmp_path / "new/scores").iterdir()} == {"metrics.json", "report.html"}


def test_a_folder_that_is_no_run(tmp_path):
    with pytest.raises(RunError, match="run must be a folder that training made"):
        report_run(tmp_path)
    with pytest.raises(RunError, match="no recipe"):
        report_run(Run(tmp_path).path)


def test_best_and_worst_share_no_image(run, monkeypatch):
    shown = []
    monkeypatch.setattr(semantic, "write_report", lambda path, content: shown.extend(content.examples))
    evaluation = report_run(run, boundary=False)
    score = {image.name: image.miou for image in evaluation.images if not math.isnan(image.miou)}
    groups = {kind: [e.name for e in shown if e.group == kind] for kind in ("best", "worst", "random")}
    assert len(shown) == len({example.name for example in shown}) == 5
    assert (len(groups["worst"]), len(groups["best"])) == (2, 3)
    assert max(score[name] for name in groups["worst"]) <= min(score[name] for name in groups["best"])
    assert groups["best"] == sorted(groups["best"], key=lambda name: -score[name])
    for example in shown:
        assert example.target.shape == example.prediction.shape == (20, 28)


@pytest.mark.parametrize(("seconds", "text"), [(12.4, "12 s"), (61, "1 min 1 s"), (3599.6, "1 h 0 min"), (0, "0 s")])
def test_durations(seconds, text):
    assert run_facts._duration(seconds) == text


def test_one_file_left_out():
    assert run_facts.left_out(1) == "1 file could not be read and was left out."
    assert run_facts.left_out(2) == "2 files could not be read and were left out."


def test_a_model_is_named_with_what_waschosen():
    from delineate.engine.recipe import build_recipe
    from delineate.report.run_facts import chosen

    model = build_recipe({"model": {"name": "unet", "decoder_channels": [32, 16]}}).model
    assert chosen(model) == {"name": "unet", "encoder": "resnet34", "decoder_channels": [32, 16]}
    assert chosen(build_recipe({"model": "enet"}).model) == {"name": "enet"}
    # a tuple by default is a list in a recipe, and still the default
    assert chosen(build_recipe({"model": {"name": "unet"}}).model) == {"name": "unet", "encoder": "resnet34"}
