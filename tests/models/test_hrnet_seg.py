from __future__ import annotations

import pytest
import timm
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from delineate.errors import UnknownNameError
from delineate.models.hrnet_seg import HighResolutionBranches, hrnet_seg
from tests.models.segmenter import SegmenterTests


class TestHRNetSeg(SegmenterTests):
    name = "hrnet_seg"
    options = {"encoder": "hrnet_w18_small"}
    published = [
        # 65.8, 1.5 and 3.9 million in the release's table
        ({"num_classes": 19, "encoder": "hrnet_w48"}, 65_859_379),
        ({"num_classes": 19, "encoder": "hrnet_w18_small"}, 1_540_819),
        ({"num_classes": 19, "encoder": "hrnet_w18_small_v2"}, 3_939_579),
    ]
    # batch norm takes it away again
    without_gradient = ("decoder.mix.0.bias",)


@pytest.mark.parametrize(("encoder", "gigaflops"), [("hrnet_w48", 696.2), ("hrnet_w18_small", 31.1)])
def test_published_work_on_a_street(encoder: str, gigaflops: float) -> None:
    """The release counts multiply-adds in units of 1024^3."""
    with torch.device("meta"):
        model = hrnet_seg(19, encoder=encoder).eval()
        with FlopCounterMode(display=False) as counter:
            model(torch.zeros(1, 3, 1024, 2048))
    assert counter.get_total_flops() / 2 / 1024**3 == pytest.approx(gigaflops, abs=0.05)


@pytest.mark.parametrize(
    ("encoder", "width"),
    [("hrnet_w18_small_v2", 18), ("hrnet_w32", 32), ("hrnet_w18_small", 16)],
)
def test_branches_double_their_width(encoder: str, width: int) -> None:
    with torch.device("meta"):
        model = hrnet_seg(3, encoder=encoder).eval()
        features = model.encoder(torch.zeros(1, 3, 64, 96))
    assert model.encoder.strides == (4, 8, 16, 32)
    assert model.encoder.channels == tuple(width * n for n in (1, 2, 4, 8))
    assert [tuple(feature.shape[1:]) for feature in features] == [
        (width * n, 64 // (4 * n), 96 // (4 * n)) for n in (1, 2, 4, 8)
    ]
    assert model.decoder.mix[0].weight.shape == (15 * width, 15 * width, 1, 1)


@torch.no_grad()
def test_nearest_is_timms_network_and_release_differs_in_its_interpolation_alone() -> None:
    whole = timm.create_model("hrnet_w18_small").eval()
    models = {
        variant: hrnet_seg(2, encoder="hrnet_w18_small", variant=variant).eval() for variant in ("nearest", "release")
    }
    images = torch.randn(1, 3, 64, 96)
    expected = whole.stages(whole.act2(whole.bn2(whole.conv2(whole.act1(whole.bn1(whole.conv1(images)))))))
    kept = {
        name: value
        for name, value in whole.state_dict().items()
        if name in models["nearest"].encoder.model.state_dict()
    }
    for model in models.values():
        model.encoder.model.load_state_dict(kept)
    for ours, theirs in zip(models["nearest"].encoder(images), expected, strict=True):
        torch.testing.assert_close(ours, theirs)
    for layer in whole.modules():
        if isinstance(layer, nn.Upsample):
            layer.forward = lambda x, by=int(layer.scale_factor): F.interpolate(  # type: ignore[method-assign]
                x, size=(x.shape[2] * by, x.shape[3] * by), mode="bilinear", align_corners=True
            )
    bilinear = whole.stages(whole.act2(whole.bn2(whole.conv2(whole.act1(whole.bn1(whole.conv1(images)))))))
    for ours, theirs in zip(models["release"].encoder(images), bilinear, strict=True):
        torch.testing.assert_close(ours, theirs)
    assert not torch.allclose(bilinear[0], expected[0])


@torch.no_grad()
def test_head_by_hand() -> None:
    model = hrnet_seg(2, encoder="hrnet_w18_small").eval()
    features = [torch.randn(1, 16 * n, 16 // n, 24 // n) for n in (1, 2, 4, 8)]
    joined = torch.cat(
        [F.interpolate(feature, size=(16, 24), mode="bilinear", align_corners=True) for feature in features], dim=1
    )
    torch.testing.assert_close(model.decoder(features), model.decoder.mix(joined))
    logits = model.head(model.decoder(features))
    coarse = model.head.classify(model.decoder(features))
    torch.testing.assert_close(logits, F.interpolate(coarse, size=(64, 96), mode="bilinear", align_corners=True))


def test_residual_branches_are_at_work_from_the_start() -> None:
    norms = [
        layer for layer in HighResolutionBranches("hrnet_w18_small").modules() if isinstance(layer, nn.BatchNorm2d)
    ]
    assert all(layer.weight.eq(1).all() for layer in norms)


def test_other_encoders_are_refused() -> None:
    with pytest.raises(UnknownNameError, match="encoder must be a known name; got 'resnet50'"):
        hrnet_seg(2, encoder="resnet50")
    with pytest.raises(UnknownNameError, match="Did you mean 'hrnet_w18"):
        hrnet_seg(2, encoder="hrnet_w19")
    with pytest.raises(UnknownNameError, match="Did you mean 'release'"):
        hrnet_seg(2, encoder="hrnet_w18_small", variant="releases")
