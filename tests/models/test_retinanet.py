"""RetinaNet: the paper's counts, anchors and first bias."""

from __future__ import annotations

import pytest
import torch

from delineate.errors import ArgumentError, UnknownNameError
from delineate.losses.focal_detection import FocalDetectionLoss
from delineate.models.retinanet import octave_anchors, retinanet
from tests.models.detector import DetectorTests


class TestRetinaNet(DetectorTests):
    factory = staticmethod(retinanet)
    loss = FocalDetectionLoss()
    options = {"encoder": "resnet18", "channels": 16, "layers": 1}
    published = [
        ({"num_classes": 80}, 37_968_692),
        ({"num_classes": 80, "variant": "v1"}, 33_839_924),
        ({"num_classes": 80, "variant": "v2"}, 37_970_740),
        # torchvision's, with the 53,120 numbers of the encoder's batch norm that it keeps frozen
        ({"num_classes": 91, "variant": "v1"}, 34_014_999 + 53_120),
        ({"num_classes": 91, "variant": "v2"}, 38_198_935),
    ]

    @torch.no_grad()
    def test_levels_have_nine_anchors_a_place_at_strides_8_to_128(self) -> None:
        outputs = self.build().eval()(torch.zeros(1, 3, 64, 96))
        assert outputs.levels == (8 * 12 * 9, 4 * 6 * 9, 2 * 3 * 9, 1 * 2 * 9, 1 * 1 * 9)
        assert outputs.logits.shape == (1, sum(outputs.levels), 3)
        assert outputs.scoring == "sigmoid"

    @torch.no_grad()
    def test_images_of_any_size_are_padded_to_multiples_of_32(self) -> None:
        model = self.build().eval()
        padded = torch.zeros(1, 3, 64, 96)
        padded[..., :33, :65] = torch.randn(3, 33, 65)
        assert torch.equal(model(padded[..., :33, :65]).logits, model(padded).logits)

    @torch.no_grad()
    def test_every_anchor_begins_with_a_probability_of_one_percent(self) -> None:
        model = retinanet(3, encoder="resnet18", channels=16)
        assert torch.allclose(model.classes[-1].bias, torch.tensor(-4.59512))
        assert model.boxes[-1].bias.abs().max() == 0

    @torch.no_grad()
    def test_described_without_memory_it_keeps_its_anchors(self) -> None:
        model, images = self.build().eval(), torch.randn(1, 3, 64, 96)
        with torch.device("meta"):
            other = self.build().eval()
        other.load_state_dict(model.state_dict(), assign=True)
        assert torch.equal(other(images).anchors, model(images).anchors)

    def test_variants_are_options(self) -> None:
        first, second = self.build(variant="v1"), self.build(variant="v2")
        assert first.pyramid.extra.source == "pyramid"
        assert isinstance(second.classes[1], torch.nn.GroupNorm)
        assert isinstance(self.build(variant="v2", norm="none").classes[1], torch.nn.ReLU)
        assert second.bases[0][4].tolist() == [-20, -20, 20, 20]  # whole pixels
        assert (self.build().decoding.most, first.decoding.most) == (100, 300)

    def test_heads_have_the_published_number_of_parameters(self) -> None:
        with torch.device("meta"):
            model = retinanet(80)
        heads = [*model.classes.parameters(), *model.boxes.parameters()]
        assert sum(parameter.numel() for parameter in heads) == 6_463_220


def test_anchors_span_32_to_813_pixels() -> None:
    bases = octave_anchors((8, 16, 32, 64, 128))
    square = [base[3:6] for base in bases]  # aspect ratio 1
    assert square[0][0].tolist() == [-16, -16, 16, 16]
    assert square[4][2].tolist() == pytest.approx([-406.37, -406.37, 406.37, 406.37], abs=0.01)  # 512 * 2^(2/3) / 2
    assert octave_anchors((8,), whole_sizes=True)[0][4].tolist() == [-20, -20, 20, 20]  # int(40.3)


def test_what_is_unknown_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="encoder"):
        retinanet(3, extra="encodr")
    with pytest.raises(UnknownNameError, match="variant"):
        retinanet(3, variant="v3")
    with pytest.raises(UnknownNameError, match="group"):
        retinanet(3, norm="groups")
    with pytest.raises(ArgumentError, match="scale must be above 0"):
        retinanet(3, scale=0)
