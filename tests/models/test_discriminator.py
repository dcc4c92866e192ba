from __future__ import annotations

import pytest
import torch

from delineate.errors import UnknownNameError
from delineate.explain.receptive_field import receptive_field
from delineate.models.discriminator import FIELDS, Discriminator


@pytest.mark.parametrize("field", FIELDS)
def test_sees_as_much_as_in_the_paper(field: str) -> None:
    found = receptive_field(Discriminator(5, field=field, width=2), in_channels=5, size=(64, 64))
    assert found.size == (FIELDS[field], FIELDS[field])
    assert found.stride == (4, 4)


@pytest.mark.parametrize("size", [(1, 1), (3, 9), (32, 48), (35, 50)])
def test_scores_windows_of_any_map(size: tuple[int, int]) -> None:
    scores = Discriminator(3, width=2)(torch.randn(2, 3, *size))
    assert scores.shape == (2, 1, max(1, size[0] // 4), max(1, size[1] // 4))


def test_learns_to_tell_two_kinds_of_map() -> None:
    torch.manual_seed(0)
    network = Discriminator(1, width=4)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    stripes = (torch.arange(16) % 4 < 2).float().expand(1, 1, 16, 16)
    for _ in range(30):
        optimizer.zero_grad()
        loss = torch.nn.functional.softplus(torch.cat([-network(stripes), network(stripes.mT)])).mean()
        loss.backward()
        optimizer.step()
    assert network(stripes).mean() > 0 > network(stripes.mT).mean()


def test_errors() -> None:
    with pytest.raises(UnknownNameError, match=r"field must be a known name; got 'lage'. Did you mean 'large'"):
        Discriminator(3, field="lage")
