from __future__ import annotations

import torch
from torch import nn
from torchvision.models.segmentation.fcn import FCNHead as ReferenceHead

from delineate.models.blocks.fcn_head import FCNHead
from tests.models.segmenter import copy_in_order


@torch.no_grad()
def test_equals_torchvision() -> None:
    expected, head = ReferenceHead(16, 3), FCNHead(16, 3)
    expected.train()(torch.randn(2, 16, 5, 5))
    copy_in_order(expected, head)
    features = torch.randn(2, 16, 6, 7)
    torch.testing.assert_close(head.eval()(features), expected.eval()(features))


def test_width_and_dropout() -> None:
    head = FCNHead(3, 5, channels=7, dropout=0)
    assert (head.hidden[0].out_channels, head.num_classes, head.dropout.p) == (7, 5, 0)
    assert FCNHead(3, 5).hidden[0].out_channels == 1
    assert isinstance(FCNHead(8, 2).dropout, nn.Dropout)
    head = FCNHead(8, 2, dropout=0.5).train()
    features = torch.randn(2, 8, 9, 9)
    assert not torch.equal(head(features), head(features))
