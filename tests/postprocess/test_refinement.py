from __future__ import annotations

import json

import pytest
import torch
from torch import Tensor

from delineate.errors import ArgumentError, UnknownNameError
from delineate.postprocess.dense_crf import DenseCRF
from delineate.postprocess.refinement import crf_parameters, parse_crf, refined


def half_and_half(images: Tensor) -> Tensor:
    return torch.cat([images[:, :1].float(), torch.zeros_like(images[:, :1]).float()], dim=1)


def test_refined_answers_are_log_probabilities_of_the_refinement():
    seen = []

    def swap(images: Tensor, logits: Tensor) -> Tensor:
        seen.append((images, logits))
        return logits.softmax(1).flip(1)

    images = torch.randint(0, 3, (2, 3, 4, 5), dtype=torch.uint8)
    found = refined(half_and_half, swap)(images)
    torch.testing.assert_close(found.exp(), half_and_half(images).softmax(1).flip(1))
    assert torch.equal(seen[0][0], images)
    assert torch.equal(seen[0][1], half_and_half(images))


def test_a_probability_of_nothing_stays_finite_and_low():
    probs = torch.tensor([[[[1.0, 0.0]], [[0.0, 1.0]]]])
    found = refined(half_and_half, lambda images, logits: probs)(torch.zeros(1, 3, 1, 2, dtype=torch.uint8))
    assert found.isfinite().all()
    assert torch.equal(found.argmax(1), torch.tensor([[[0, 1]]]))
    torch.testing.assert_close(found.softmax(1), probs)


def test_texts():
    assert parse_crf("default") == parse_crf(" Default ") == DenseCRF()
    found = parse_crf("bilateral_weight=5, bilateral_sigma_rgb = 7.5,iterations=10,normalisation=after")
    assert found == DenseCRF(bilateral_weight=5.0, bilateral_sigma_rgb=7.5, iterations=10, normalisation="after")
    assert isinstance(found.bilateral_weight, float)
    assert isinstance(found.iterations, int)


@pytest.mark.parametrize("wrapped", [False, True])
def test_files(tmp_path, wrapped):
    values = {"bilateral_weight": 4, "iterations": 7}
    path = tmp_path / "some.JSON"
    path.write_text(json.dumps({"crf": values, "miou": 0.5} if wrapped else values))
    assert parse_crf(str(path)) == DenseCRF(bilateral_weight=4.0, iterations=7)


def test_what_is_written_reads_back(tmp_path):
    crf = DenseCRF(gaussian_weight=2.0, bilateral_sigma_xy=33.5, iterations=3, normalisation="none")
    (tmp_path / "a.json").write_text(json.dumps(crf_parameters(crf)))
    assert parse_crf(str(tmp_path / "a.json")) == crf
    text = ",".join(f"{name}={value}" for name, value in crf_parameters(crf).items())
    assert parse_crf(text) == crf


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("defualt", UnknownNameError, "crf must be a known name; got 'defualt'. Did you mean 'default'"),
        ("bilateral_wieght=5", UnknownNameError, "parameter of the crf .*'bilateral_wieght'.*'bilateral_weight'"),
        ("kernels=5", UnknownNameError, "got 'kernels'"),
        ("iterations=5.5", ArgumentError, "iterations must be a whole number; got '5.5'"),
        ("bilateral_weight=much", ArgumentError, "bilateral_weight must be a number; got 'much'"),
        ("bilateral_weight=nan", ArgumentError, "bilateral_weight must be finite; got nan"),
        ("bilateral_sigma_xy=0", ArgumentError, "bilateral_sigma_xy must be at least 0.01; got 0"),
        ("normalisation=befor", UnknownNameError, "Did you mean 'before'"),
        ("bilateral_weight=", ArgumentError, "crf must be 'default', name=value with commas, or a .json file; got"),
        ("bilateral_weight=3,", ArgumentError, "crf must be 'default', name=value with commas"),
        ("", ArgumentError, "crf must be 'default', name=value with commas"),
        ("nowhere.json", ArgumentError, r"crf must name a readable file; got 'nowhere.json' \(No such file"),
    ],
)
def test_what_is_refused(text, error, message):
    with pytest.raises(error, match=message):
        parse_crf(text)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "crf must name a JSON file; got '"),
        ("[1]", "crf must name a file with an object of parameters; got '"),
        ('{"crf": null}', "crf must name a file with an object of parameters; got '"),
        ('{"iterations": 2.5}', "iterations must be a whole number; got 2.5"),
        ('{"bilateral_weight": null}', "bilateral_weight must be a number; got None"),
        ('{"weight": 2}', "Did you mean"),
    ],
)
def test_files_that_are_refused(tmp_path, content, message):
    path = tmp_path / "crf.json"
    path.write_text(content)
    with pytest.raises((ArgumentError, UnknownNameError), match=message):
        parse_crf(str(path))
