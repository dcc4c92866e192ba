from __future__ import annotations

import json
from dataclasses import fields, replace
from inspect import signature

import numpy as np
import pytest
import torch
from torch import Tensor

from delineate.errors import ArgumentError, UnknownNameError
from delineate.postprocess.cleaning import fill_holes, remove_islands
from delineate.postprocess.dense_crf import DenseCRF
from delineate.postprocess.refinement import (
    Refinement,
    RefinementOptions,
    crf_parameters,
    parse_crf,
    parse_superpixels,
    refined,
    superpixel_parameters,
)
from delineate.postprocess.superpixels import SuperpixelVoting, graph_superpixels, slic_superpixels
from delineate.postprocess.test_time_augmentation import augmented, parse_views


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


def test_superpixels_by_text():
    assert parse_superpixels("slic") == parse_superpixels(" SLIC ") == SuperpixelVoting("slic")
    found = parse_superpixels("graph, scale=200,min_size = 5")
    assert found == SuperpixelVoting("graph", scale=200.0, min_size=5)
    assert isinstance(found.min_size, int)
    assert superpixel_parameters(found) == {"sigma": 0.8, "scale": 200.0, "min_size": 5}


@pytest.mark.parametrize(("method", "function"), [("slic", slic_superpixels), ("graph", graph_superpixels)])
def test_the_options_of_a_method_are_those_of_its_function(method, function):
    own = superpixel_parameters(SuperpixelVoting(method))
    defaults = {name: option.default for name, option in signature(function).parameters.items() if name != "image"}
    assert own == defaults


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("slick", UnknownNameError, "superpixels must be a known name; got 'slick'. Did you mean 'slic'"),
        ("slic,segment=9", UnknownNameError, "option of slic superpixels .*'segment'. Did you mean 'segments'"),
        ("slic,scale=9", UnknownNameError, "option of slic superpixels must be a known name; got 'scale'"),
        ("graph,scale", UnknownNameError, "superpixels must be a known name; got 'scale'"),
        ("slic,", ArgumentError, "superpixels must be 'slic' or 'graph', then name=value with commas; got 'slic,'"),
        ("slic,segments=", ArgumentError, "superpixels must be 'slic' or 'graph', then name=value"),
        ("slic,segments=2.5", ArgumentError, "segments must be a whole number; got '2.5'"),
        ("slic,segments=0", ArgumentError, "segments must be at least 1; got 0"),
        ("graph,scale=nan", ArgumentError, "scale must be 0 or more; got nan"),
    ],
)
def test_superpixels_that_are_refused(text, error, message):
    with pytest.raises(error, match=message):
        parse_superpixels(text)


def test_views_come_first_then_the_crf_then_superpixels():
    images = torch.randint(0, 256, (2, 3, 12, 16), dtype=torch.uint8)
    small = lambda images: half_and_half(images) / 100  # noqa: E731
    crf = DenseCRF(bilateral_weight=0.0, gaussian_weight=0.5, iterations=2)
    voting = SuperpixelVoting(segments=6)
    views = augmented(small, parse_views("flip"))
    expected = voting(images, crf(images, views(images)).log())
    texts = Refinement("flip", "bilateral_weight=0,gaussian_weight=0.5,iterations=2", "slic,segments=6")
    found = texts.over(small)(images).softmax(1)
    torch.testing.assert_close(found, expected)
    assert torch.equal(Refinement("flip", crf, voting).over(small)(images).softmax(1), found)
    other_way = crf(images, voting(images, views(images)).log())
    assert (found - other_way).abs().max() > 0.01


def test_islands_go_before_holes():
    labels = np.zeros((7, 7), np.uint8)
    labels[1:6, 1:6] = 1
    labels[2:4, 2:4] = 0  # a hole of four
    labels[0, 0] = 2  # an island of one, at the edge
    cleaned = Refinement(islands=2, holes=4).cleaned(labels)
    assert cleaned.dtype == np.uint8
    assert np.array_equal(cleaned, fill_holes(remove_islands(labels, min_area=2), max_area=4))
    assert (cleaned == 1).sum() == 25
    assert not (cleaned == 2).any()
    assert np.array_equal(Refinement(islands=2).cleaned(labels), remove_islands(labels, min_area=2))
    assert np.array_equal(Refinement(holes=4).cleaned(labels), fill_holes(labels, max_area=4))
    assert np.array_equal(Refinement(holes=3).cleaned(labels), labels)
    ignored = np.where(labels == 0, 9, labels)
    assert np.array_equal(Refinement(islands=9, holes=9).cleaned(ignored, ignore_index=9) == 9, ignored == 9)


def test_nothing_is_done_when_nothing_is_asked():
    plain, labels = Refinement(tta=" ", crf="", superpixels=" "), np.zeros((2, 2), np.int64)
    assert plain.over(half_and_half) is half_and_half
    assert plain.cleaned(labels) is labels
    assert replace(plain, crf="default").steps == (DenseCRF(),)


def test_the_keywords_are_the_fields():
    assert list(RefinementOptions.__annotations__) == [field.name for field in fields(Refinement)]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"islands": -1}, ArgumentError, "islands must be an area of 0 pixels or more; got -1"),
        ({"holes": -2}, ArgumentError, "holes must be an area of 0 pixels or more; got -2"),
        ({"tta": "flp"}, UnknownNameError, "Did you mean 'flip'"),
        ({"crf": "defalt"}, UnknownNameError, "Did you mean 'default'"),
        ({"superpixels": "grap"}, UnknownNameError, "Did you mean 'graph'"),
    ],
)
def test_a_wrong_refinement_is_refused_before_any_work(options, error, message):
    with pytest.raises(error, match=message):
        Refinement(**options)
