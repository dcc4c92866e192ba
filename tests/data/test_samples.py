from __future__ import annotations

import numpy as np
import torch

from delineate.data.digits import DigitScenes
from delineate.data.samples import SelectedTargets


def test_selected_targets_are_the_whole_ones_with_fewer_keys() -> None:
    whole = DigitScenes("val", length=3)
    few = SelectedTargets(whole, ("semantic_mask", "image_id", "keypoints"))
    assert len(list(few)) == 3
    for index in range(3):
        image, target = few[index]
        expected_image, expected = whole[index]
        assert sorted(target) == ["image_id", "semantic_mask"]
        assert torch.equal(image, expected_image)
        assert torch.equal(target["semantic_mask"], expected["semantic_mask"])
        assert target["image_id"] == index


def test_selected_targets_tell_what_the_whole_set_tells() -> None:
    whole = DigitScenes("val", length=3)
    few = SelectedTargets(whole, ("semantic_mask",))
    assert (few.name, few.taxonomy, few.skipped, len(few)) == ("digits", whole.taxonomy, [], 3)
    assert (few.stem(2), few.files(2)) == (whole.stem(2), whole.files(2))
    assert all(np.array_equal(ours, theirs) for ours, theirs in zip(few.read(1), whole.read(1), strict=True))
