"""What every model returns."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields

import pytest
import torch
from jaxtyping import TypeCheckError

from delineate.structures.outputs import SemanticOutputs


def test_logits_stand_alone_or_with_side_heads():
    logits, side = torch.zeros(2, 5, 8, 9), torch.zeros(2, 5, 3, 4)
    assert SemanticOutputs(logits).auxiliary == ()
    outputs = SemanticOutputs(logits, (side, logits))
    assert [head.shape[-2:] for head in outputs.auxiliary] == [(3, 4), (8, 9)]
    assert [field.name for field in fields(outputs)] == ["logits", "auxiliary"]


def test_it_cannot_be_changed():
    with pytest.raises(FrozenInstanceError):
        SemanticOutputs(torch.zeros(1, 2, 3, 3)).logits = torch.ones(1)


@pytest.mark.parametrize(
    ("logits", "auxiliary"),
    [
        (torch.zeros(2, 8, 9), ()),
        (torch.zeros(2, 5, 8, 9, dtype=torch.int64), ()),
        (torch.zeros(2, 5, 8, 9), (torch.zeros(2, 4, 3, 3),)),
        (torch.zeros(2, 5, 8, 9), (torch.zeros(1, 5, 3, 3),)),
    ],
)
def test_shapes_are_checked_in_tests(logits, auxiliary):
    with pytest.raises(TypeCheckError):
        SemanticOutputs(logits, auxiliary)
