"""Presets, what overrides them, the errors, and the table in the documentation."""

from __future__ import annotations

import pickle
from pathlib import Path

import msgspec
import pytest
import torch
from torchvision import tv_tensors
from torchvision.transforms import v2

from delineate.data.augmentation import (
    PRESETS,
    Augmentation,
    augmentation_preset,
    eval_transform,
    resolved,
    train_mixings,
    train_transform,
)
from delineate.data.copy_paste import CopyPaste
from delineate.data.digits import DigitScenes
from delineate.data.mixing import CutMix
from delineate.data.order import SampleKey, SeededSamples
from delineate.errors import RecipeError, UnknownNameError
from delineate.structures.taxonomy import Taxonomy

PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "augmentation.md"


def cell(value):
    if value is None:
        return "all"
    if isinstance(value, list):
        return f"{value[0]:g} to {value[1]:g}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}"


def documented_rows():
    names = list(PRESETS)
    yield f"| value | {' | '.join(names)} |"
    yield "|---|" + "---|" * len(names)
    for key in Augmentation.__struct_fields__:
        if key not in ("preset", "crop"):
            yield f"| `{key}` | {' | '.join(cell(PRESETS[name].to_dict()[key]) for name in names)} |"


def test_the_documented_table_is_the_code():
    assert "\n".join(documented_rows()) in PAGE.read_text(encoding="utf-8")


def test_every_preset_carries_its_name_and_the_default_is_medium():
    assert [preset.preset for preset in PRESETS.values()] == list(PRESETS)
    assert Augmentation() == augmentation_preset("medium")
    assert resolved({}) == augmentation_preset("medium")
    assert augmentation_preset("microscopy").elastic == 10
    assert augmentation_preset("microscopy").elastic_grid == 3
    with pytest.raises(UnknownNameError, match="Did you mean 'medium'"):
        augmentation_preset("medum")


def test_given_values_replace_the_presets_and_nothing_else():
    got = resolved({"preset": "strong", "crop": [320, 416], "rotation": 0, "scale": [1, 2]})
    assert got.crop == (320, 416)
    assert got.scale == (1.0, 2.0)
    assert got.rotation == 0
    assert got.noise == augmentation_preset("strong").noise
    assert resolved(got.to_dict()) == got
    assert resolved({"preset": "strong", "crop": None}).crop is None
    assert msgspec.convert(msgspec.yaml.decode(msgspec.yaml.encode(got.to_dict())), Augmentation) == got


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"preset": "medum"}, r"augmentation.preset must be a known preset; got 'medum'. Did you mean 'medium'\?"),
        ({"flip": 1}, r"augmentation.flip must be a known key; got 'flip'. Did you mean 'flip_vertical'\?"),
        ({"crop": 320}, r"augmentation.crop must be \[height, width\] in whole pixels, or null; got 320."),
        ({"crop": [0, 4]}, r"augmentation.crop must be \[height, width\], both positive; got \(0, 4\)."),
        ({"scale": [2, 1]}, r"augmentation.scale must be \[smallest, largest\], both positive; got \(2.0, 1.0\)."),
        ({"rotation": "ten"}, r"augmentation.rotation must be a number; got 'ten'."),
        ({"rotation": 200}, "augmentation.rotation must be at most 180 degrees; got 200"),
        ({"photometric": 1.5}, "augmentation.photometric must lie between 0 and 1; got 1.5."),
        ({"noise": -1}, "augmentation.noise must be 0 or more; got -1"),
        ({"blur": float("nan")}, "augmentation.blur must be 0 or more; got nan."),
        ({"rotate90": 3}, "augmentation.rotate90 must be true or false; got 3."),
        ({"elastic_grid": 1}, "augmentation.elastic_grid must be at least 2; got 1."),
        ({"cutmix": 2}, r"augmentation.cutmix must lie between 0 and 1; got 2.0\."),
        ({"copy_paste": -1}, r"augmentation.copy_paste must be 0 or more; got -1.0\."),
        ({"copy_paste_classes": 3}, "augmentation.copy_paste_classes must be a list of class names, or null for all"),
        (
            {"copy_paste_classes": []},
            r"augmentation.copy_paste_classes must name at least one class, or be null for all",
        ),
    ],
)
def test_wrong_values_name_their_key(values, text):
    with pytest.raises(RecipeError, match=text):
        resolved(values)


def test_a_name_that_resembles_nothing_lists_the_known():
    with pytest.raises(RecipeError, match=r"Known: none, light, medium, strong, microscopy."):
        resolved({"preset": "qqqqqq"})
    with pytest.raises(RecipeError, match="scale must be"):
        Augmentation(scale=(0.0, 1.0))


@pytest.mark.parametrize("preset", list(PRESETS))
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_every_preset_gives_one_size_and_labels_that_exist(preset, channels):
    image, target = DigitScenes("train", size=(60, 90))[3]
    image = tv_tensors.Image(image[:1].repeat(channels, 1, 1))
    transform = pickle.loads(pickle.dumps(train_transform(resolved({"preset": preset, "crop": [48, 64]}))))  # noqa: S301
    assert isinstance(transform, v2.Transform)
    allowed = {*target["semantic_mask"].unique().tolist(), 255}
    for _ in range(3):
        got, moved = transform(image, target)
        assert isinstance(got, tv_tensors.Image)
        assert got.shape == (channels, 48, 64)
        assert got.dtype == torch.uint8
        assert moved["semantic_mask"].shape == (48, 64)
        assert set(moved["semantic_mask"].unique().tolist()) <= allowed
        assert set(moved["masks"].unique().tolist()) <= {0, 1}
        assert len(moved["boxes"]) == len(moved["masks"]) == len(moved["labels"])


def test_mixings_are_what_the_recipe_names():
    taxonomy = Taxonomy(("background", "car", "bus"), background=0)
    assert train_mixings(resolved({}), taxonomy) == ()
    both = train_mixings(resolved({"cutmix": 0.5, "copy_paste": 0.25}), taxonomy)
    assert both == (CopyPaste(0.25, (1, 2)), CutMix(0.5))
    named = resolved({"copy_paste": 1, "copy_paste_classes": ["bus"]})
    assert train_mixings(resolved(named.to_dict()), taxonomy) == (CopyPaste(1.0, (2,)),)
    with pytest.raises(
        RecipeError, match=r"augmentation.copy_paste_classes: class must .* got 'buss'. Did you mean 'bus'"
    ):
        train_mixings(resolved({"copy_paste": 1, "copy_paste_classes": ["buss"]}), taxonomy)
    with pytest.raises(RecipeError, match=r"augmentation.copy_paste must be 0 where the background is the only class"):
        train_mixings(resolved({"copy_paste": 1}), Taxonomy(("background",), background=0))


def test_mixed_digits_hold_labels_of_both():
    scenes = DigitScenes("train", size=(64, 64))
    augmentation = resolved({"preset": "light", "crop": [48, 48], "cutmix": 0.5, "copy_paste": 0.5})
    samples = SeededSamples(
        scenes, train_transform(augmentation), seed=0, mixings=train_mixings(augmentation, scenes.taxonomy)
    )
    plain = SeededSamples(scenes, train_transform(augmentation), seed=0)
    changed = 0
    for index in range(12):
        image, target = samples[SampleKey(0, index)]
        assert image.shape == (3, 48, 48)
        assert target["image_id"] == index
        assert set(target["semantic_mask"].unique().tolist()) <= {*range(11), 255}
        assert torch.equal(image, samples[SampleKey(0, index)][0])
        changed += not torch.equal(image, plain[SampleKey(0, index)][0])
    assert 4 < changed < 12


def test_the_same_torch_seed_gives_the_same_sample():
    image, target = DigitScenes("train")[0]
    transform = train_transform(resolved({"preset": "microscopy", "blur": 1.0, "noise": 5.0}))
    results = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        results.append(transform(image, target))
    assert torch.equal(results[0][0], results[1][0])
    for key in ("semantic_mask", "masks", "boxes", "labels", "tags"):
        assert torch.equal(results[0][1][key], results[1][1][key])
    assert not torch.equal(results[0][0], results[2][0])


def test_none_and_eval_change_nothing():
    image, target = DigitScenes("train")[0]
    for transform in (train_transform(augmentation_preset("none")), eval_transform()):
        got, moved = transform(image, target)
        assert torch.equal(got, image)
        assert all(torch.equal(moved[key], target[key]) for key in ("semantic_mask", "masks", "boxes", "labels"))
    as_float = tv_tensors.Image(image.float() / 255)
    assert torch.equal(eval_transform()(as_float), image)


def test_padding_takes_the_given_ignore_index_and_fill():
    image, target = DigitScenes("train", size=(32, 32))[0]
    augmentation = resolved({"preset": "none", "crop": [40, 40]})
    got, moved = train_transform(augmentation, ignore_index=77, fill=(1, 2, 3))(image, target)
    padded = moved["semantic_mask"] == 77
    assert int(padded.sum()) == 40 * 40 - 32 * 32
    assert got[:, padded].unique(dim=1).flatten().tolist() == [1, 2, 3]
