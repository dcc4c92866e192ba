"""YOLOv2: the published counts, grid and priors."""

from __future__ import annotations

import pytest
import torch

from delineate.errors import ArgumentError
from delineate.losses.yolov2 import YOLOv2Loss
from delineate.models.yolov2 import Darknet19, yolov2
from tests.models.detector import DetectorTests


class TestYOLOv2(DetectorTests):
    factory = staticmethod(yolov2)
    loss = YOLOv2Loss()
    options = {"width": 0.05}
    published = [({"num_classes": 20}, 50_655_389), ({"num_classes": 80}, 50_962_889)]

    @torch.no_grad()
    def test_416_pixels_give_845_boxes(self) -> None:
        outputs = self.build().eval()(torch.zeros(1, 3, 416, 416))
        assert outputs.grid == (13, 13)
        assert outputs.objectness.numel() == 845
        assert outputs.values.shape == (1, 169, 5, 4)

    @torch.no_grad()
    def test_channels_are_read_prior_by_prior_and_cells_row_by_row(self) -> None:
        model = self.build().eval()
        rows, columns = torch.arange(2.0)[:, None] * 1000, torch.arange(3.0) * 100
        model.predict = torch.nn.Identity()
        channels = torch.arange(5 * 8.0)[:, None, None] + rows + columns
        model.predict.forward = lambda joined: channels[None]  # type: ignore[method-assign]
        outputs = model(torch.zeros(1, 3, 64, 96))
        assert outputs.values[0, 4, 2].tolist() == [1116, 1117, 1118, 1119]  # row 1, column 1, the third prior
        assert outputs.objectness[0, 4].tolist() == [1104, 1112, 1120, 1128, 1136]
        assert outputs.logits[0, 5, 0].tolist() == [1205, 1206, 1207]

    def test_priors_can_be_the_datas(self) -> None:
        model = self.build(priors=[[1, 2], [3, 1]])
        outputs = model.eval()(torch.zeros(1, 3, 64, 64))
        assert outputs.priors.tolist() == [[1, 2], [3, 1]]
        assert outputs.logits.shape == (1, 4, 2, 3)


def test_the_trunk_has_darknet19s_convolutions() -> None:
    with torch.device("meta"):
        trunk = Darknet19()
    convolutions = [layer for layer in trunk.modules() if isinstance(layer, torch.nn.Conv2d)]
    assert len(convolutions) == 18  # the nineteenth is the classifier
    # the classifier's, of 1,000 classes, completes the published 20,842,376
    assert sum(p.numel() for p in trunk.parameters()) + 1024 * 1000 + 1000 == 20_842_376


@pytest.mark.parametrize("priors", [[], [[1.0]], [[1.0, 0.0]]])
def test_priors_must_be_pairs_above_0(priors: list[list[float]]) -> None:
    with pytest.raises(ArgumentError, match="delineate data anchors"):
        yolov2(3, priors=priors)
