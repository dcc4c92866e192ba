"""The search finds the parameters that a scene was made for."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchvision import tv_tensors

from delineate.data.mixture import MixedSamples
from delineate.engine import crf_search
from delineate.engine.crf_search import CRFGrid, search_crf, tune_crf
from delineate.engine.predictors import measure
from delineate.engine.semantic_predictor import SemanticPredictor
from delineate.engine.weights import ModelCard
from delineate.errors import ArgumentError, DataError
from delineate.postprocess.dense_crf import DenseCRF
from delineate.postprocess.refinement import parse_crf
from delineate.structures.outputs import SemanticOutputs
from delineate.structures.preprocessing import Preprocessing
from delineate.structures.taxonomy import Taxonomy

SMALL = CRFGrid(bilateral_weight=(0, 5), bilateral_sigma_xy=(20,), bilateral_sigma_rgb=(10,), iterations=3)


class Noisy(nn.Module):
    """Right where the second channel says so."""

    def forward(self, images: Tensor) -> SemanticOutputs:
        bright = (images[:, 0] > 0.4).float()
        wrong = (images[:, 1] > 0.9).float()
        second = bright * (1 - wrong) + (1 - bright) * wrong
        return SemanticOutputs(2 * torch.stack([1 - second, second], dim=1))


class Scenes:
    """Two flat halves; in the second channel, one pixel in six is marked for the model to get wrong."""

    name, split, skipped = "scenes", "test", ()
    taxonomy = Taxonomy(("dark", "bright"))

    def __init__(self, count: int = 3) -> None:
        random = np.random.default_rng(0)
        self.pairs = []
        for number in range(count):
            truth = np.repeat((np.arange(24) >= 8 + 3 * number)[None], 16, 0).astype(np.uint8)
            pixels = np.stack([40 + 160 * truth, np.zeros_like(truth), 30 * np.ones_like(truth)], -1)
            pixels[..., 1] = np.where(random.random(truth.shape) < 1 / 6, 255, 0)
            self.pairs.append((pixels.astype(np.uint8), truth))

    def __len__(self) -> int:
        return len(self.pairs)

    def stem(self, index: int) -> str:
        return f"scene{index}"

    def files(self, index: int) -> str:
        return f"{index}.png"

    def read(self, index: int):
        return self.pairs[index]

    def __getitem__(self, index: int):
        image, truth = self.pairs[index]
        target = {"semantic_mask": tv_tensors.Mask(torch.from_numpy(truth)), "image_id": index}
        return tv_tensors.Image(torch.from_numpy(image).permute(2, 0, 1)), target


@pytest.fixture(scope="module")
def noisy() -> SemanticPredictor:
    card = ModelCard("test", {}, Preprocessing((0.0,) * 3, (1.0,) * 3), Scenes.taxonomy)
    return SemanticPredictor(Noisy(), card, precision="float32", device="cpu")


def test_the_best_is_what_evaluation_says_it_is(noisy):
    scenes = Scenes()
    grid = CRFGrid(bilateral_weight=(0, 1), gaussian_weight=(0, 8), gaussian_sigma=(2,), iterations=3)
    found = search_crf(noisy, scenes, grid=grid, rounds=1)
    assert len(found.trials) == 2 * 3 * 4 * 2
    assert [trial.miou for trial in found.trials] == sorted((trial.miou for trial in found.trials), reverse=True)
    for trial in (found.trials[0], found.trials[-1]):
        assert trial.miou == measure(noisy, scenes, crf=trial.crf, boundary=False).scores["miou"]
    assert found.without.miou == measure(noisy, scenes, boundary=False).scores["miou"]
    assert found.best.gaussian_weight == 8  # the second channel is noise, which colour would follow
    assert found.trials[0].miou > found.without.miou + 0.1


def test_images_are_judged_on_the_classes_that_their_data_labels(noisy):
    dark = Scenes(1)
    dark.taxonomy = Taxonomy(("dark",))
    dark.pairs = [(pixels, np.where(truth == 1, 0, truth)) for pixels, truth in dark.pairs]
    mixture = MixedSamples([Scenes(2), dark], taxonomy=Taxonomy(("dark", "bright"), background=0))
    found = search_crf(noisy, mixture, grid=SMALL, rounds=1)
    for trial in found.trials:
        judged = measure(noisy, mixture, crf=trial.crf, boundary=False).scores
        assert (trial.miou, trial.pixel_accuracy) == (judged["miou"], judged["pixel_accuracy"])
    judged = measure(noisy, mixture, boundary=False).scores
    assert (found.without.miou, found.without.pixel_accuracy) == (judged["miou"], judged["pixel_accuracy"])
    alone = measure(noisy, MixedSamples([dark], taxonomy=mixture.taxonomy), boundary=False).scores
    assert alone["pixel_accuracy"] == 1  # bright is no answer there


def test_a_refined_predictor_is_searched_as_it_was(noisy):
    one = search_crf(noisy, Scenes(1), grid=SMALL, rounds=1)
    other = search_crf(noisy.refined(crf="default", superpixels="slic"), Scenes(1), grid=SMALL, rounds=1)
    assert one == other


def test_batches_and_rounds(noisy):
    scenes, steps = Scenes(), []
    one = search_crf(noisy, scenes, grid=SMALL, rounds=1, batch_size=1)
    many = search_crf(noisy, scenes, grid=SMALL, rounds=3, batch_size=3, progress=lambda *step: steps.append(step))
    known = {trial.crf: trial for trial in many.trials}
    assert all(known[trial.crf].miou == trial.miou for trial in one.trials)
    weights = {trial.crf.bilateral_weight for trial in many.trials}
    assert {0.0, 5.0} < weights
    assert len(weights) == len(many.trials) > 3
    assert [done for done, _ in steps] == list(range(1, 3 * len(many.trials) + 1))
    assert all(done <= total for done, total in steps)


def test_images_are_spread_over_the_split(noisy, monkeypatch):
    chosen = []
    monkeypatch.setattr(crf_search, "Subset", lambda data, places: chosen.append(places) or [data[i] for i in places])
    assert search_crf(noisy, Scenes(7), grid=SMALL, images=3, rounds=1).images == 3
    assert chosen == [[0, 2, 4]]
    assert search_crf(noisy, Scenes(2), grid=SMALL, images=5, rounds=1).images == 2


def test_a_finer_grid_stays_above_zero():
    grid = CRFGrid(bilateral_weight=(0, 4, 5), bilateral_sigma_xy=(50,), bilateral_sigma_rgb=(3, 9))
    finer = grid.around(DenseCRF(bilateral_weight=4.0, bilateral_sigma_xy=50, bilateral_sigma_rgb=3)).values()
    assert finer["bilateral_weight"] == (2.0, 4.0, 4.5)
    assert finer["bilateral_sigma_xy"] == (50.0,)
    assert finer["bilateral_sigma_rgb"] == (3.0, 6.0)
    assert CRFGrid(bilateral_weight=(5, 5.0)).values()["bilateral_weight"] == (5.0,)


def test_the_file_is_what_crf_takes(noisy, tmp_path):
    found = search_crf(noisy, Scenes(), grid=SMALL, rounds=1)
    found.write(tmp_path / "crf.json")
    values = json.loads((tmp_path / "crf.json").read_text())
    assert values["images"] == 3
    assert values["data"] == "scenes"
    assert values["split"] == "test"
    assert values["trials"][0] == {
        **values["crf"],
        "miou": found.trials[0].miou,
        "pixel_accuracy": values["trials"][0]["pixel_accuracy"],
    }
    assert set(values["without"]) == {"miou", "pixel_accuracy"}
    assert parse_crf(str(tmp_path / "crf.json")) == found.best


def test_a_run_is_tuned_on_its_own_validation_split(tiny_run, tmp_path):
    found = tune_crf(tiny_run, grid=SMALL, rounds=1, images=2, out=tmp_path / "a.json")
    assert (found.images, found.split) == (2, "val")
    assert parse_crf(str(tmp_path / "a.json")) == found.best
    assert tune_crf(tiny_run.path, grid=SMALL, rounds=1, split="train", out=tmp_path / "b.json").split == "train"


def test_what_is_refused(noisy):
    with pytest.raises(ArgumentError, match="images must be at least 1; got 0"):
        search_crf(noisy, Scenes(), images=0)
    with pytest.raises(ArgumentError, match="rounds must be at least 1; got 0"):
        search_crf(noisy, Scenes(), rounds=0)
    with pytest.raises(ArgumentError, match="bilateral_weight must hold values of 0 or more"):
        CRFGrid(bilateral_weight=())
    with pytest.raises(ArgumentError, match=r"gaussian_sigma must hold values of 0 or more; got \(-1.0,\)"):
        CRFGrid(gaussian_sigma=(-1,))
    ignored = Scenes(1)
    ignored.pairs = [(ignored.pairs[0][0], np.full_like(ignored.pairs[0][1], 255))]
    with pytest.raises(ArgumentError, match="data must have pixels that count; got 1 images without"):
        search_crf(noisy, ignored, grid=SMALL)
    other = Scenes(1)
    other.taxonomy = Taxonomy(("a", "b", "c"))
    with pytest.raises(DataError, match="data must have the 2 classes"):
        search_crf(noisy, other, grid=SMALL)
