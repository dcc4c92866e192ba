"""YOLO9000: the published count and grid, and a tree of words for classes."""

from __future__ import annotations

import pytest
import torch

from delineate.errors import ArgumentError
from delineate.losses.yolov2 import YOLOv2Loss
from delineate.models.yolo9000 import yolo9000
from delineate.structures.word_tree import WordTree
from tests.models.detector import DetectorTests

TREE = WordTree(("thing", "plant", "dog"), (-1, -1, 0))


class TestYOLO9000(DetectorTests):
    factory = staticmethod(yolo9000)
    loss = YOLOv2Loss()
    options = {"width": 0.05}
    published = [({"num_classes": 9418}, 48_793_101)]

    def test_the_last_layer_has_the_published_channels(self) -> None:
        with torch.device("meta"):
            assert yolo9000(9418).predict.out_channels == 28_269

    @torch.no_grad()
    def test_544_pixels_give_867_boxes(self) -> None:
        outputs = self.build().eval()(torch.zeros(1, 3, 544, 544))
        assert outputs.grid == (17, 17)
        assert outputs.objectness.numel() == 867
        assert outputs.priors.tolist()[0] == pytest.approx([0.77871, 1.14074])

    @torch.no_grad()
    def test_outputs_carry_the_tree(self) -> None:
        model = self.build(tree=TREE.to_paths()).eval()
        assert model.tree == TREE
        assert model(torch.zeros(1, 3, 64, 64)).tree == TREE
        assert self.build().tree.is_flat


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        (["thing", "thing/dog"], "tree must have 3 paths, one a class; got 2"),
        (["thing", "thing/dog", "plant"], "parents before children and siblings side by side"),
        (["plant", "dog", "thing/dog"], "words must have one parent"),
    ],
)
def test_paths_must_be_those_of_a_grouped_tree(paths: list[str], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        yolo9000(3, tree=paths, width=0.05)
