from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch

from delineate.errors import ArgumentError, UnknownNameError
from delineate.models.catalogue import create_model
from delineate.models.crf_rnn import CRFRNN, crf_rnn
from delineate.models.pretrained import load_matching
from delineate.structures.preprocessing import Preprocessing
from tests.models.segmenter import SegmenterTests

BASE = {"name": "unet", "encoder": "resnet18", "decoder_channels": [16, 8]}


class TestCRFRNN(SegmenterTests):
    name = "crf_rnn"
    # three iterations in place of ten: noise gives the CRF pixels in doubt between two labels, and each iteration
    # makes the last digit in which two memory formats differ there larger
    options = {"base": BASE, "test_iterations": 3}
    # the release's base has 134,489,780: a bias more for each class (its first upsampling); the CRF has 3 x 21 x 21
    published = [({"num_classes": 21}, 134_489_780 - 21 + 3 * 21 * 21)]

    @pytest.mark.slow
    def test_exports_to_onnx_with_dynamic_batch_and_size(self, tmp_path: Path) -> None:
        """It cannot be, and says why; the segmenter in front of the CRF can."""
        pytest.importorskip("onnxscript")
        from delineate.export.onnx import export_onnx

        model = self.build().eval()
        with pytest.raises(ArgumentError, match=r"model must .*got.* a CRF as a layer.*depends on the values"):
            export_onnx(model, tmp_path / "model.onnx", in_channels=3)
        assert export_onnx(model.segmenter, tmp_path / "segmenter.onnx", in_channels=3).is_file()


def test_is_the_segmenter_with_a_mean_field_on_the_pixels_of_the_file():
    model = crf_rnn(3, base=BASE).eval()
    pixels = torch.randint(0, 256, (2, 3, 33, 20), dtype=torch.uint8)
    images = Preprocessing.for_channels(3)(pixels)
    assert torch.equal(model.pixels(images), pixels.float())
    with torch.no_grad():
        expected = model.mean_field(model.segmenter(images).logits, pixels.float())
        assert torch.equal(model(images).logits, expected)


@pytest.mark.parametrize("channels", [1, 4])
def test_pixels_of_other_channels(channels):
    model = crf_rnn(2, in_channels=channels, base=BASE)
    pixels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).repeat(1, channels, 1, 1)
    images = Preprocessing.for_channels(channels)(pixels)
    assert torch.equal(model.pixels(images), pixels.float())


def test_noise_vanishes_inside_one_colour():
    """The CRF of the released parameters, behind a segmenter that is right two times in three."""
    torch.manual_seed(3)
    side = (torch.arange(40) >= 20).long().expand(1, 30, 40)
    pixels = (60 + 100 * side)[:, None].expand(1, 3, 30, 40).to(torch.uint8)
    noisy = torch.where(torch.rand(1, 30, 40) < 0.67, side, 1 - side)
    model = crf_rnn(2, base=BASE).eval()
    unary = 2.0 * torch.nn.functional.one_hot(noisy, 2).permute(0, 3, 1, 2).float()
    with torch.no_grad():
        refined = model.mean_field(unary, model.pixels(Preprocessing()(pixels)))
    assert (noisy == side).float().mean() < 0.7
    assert (refined.argmax(1) == side).float().mean() > 0.99


def test_side_heads_of_the_base_pass_through():
    model = crf_rnn(3, base={**BASE, "auxiliary_stride": 8})
    assert len(model.train()(torch.randn(2, 3, 64, 64)).auxiliary) == 1
    assert model.eval()(torch.randn(2, 3, 64, 64)).auxiliary == ()


def test_starts_from_a_trained_segmenter_and_gives_it_back():
    trained = create_model("unet", num_classes=3, encoder="resnet18", decoder_channels=[16, 8])
    model = crf_rnn(3, base=BASE)
    report = load_matching(model, trained.state_dict())
    crf = {"mean_field.spatial_weights", "mean_field.bilateral_weights", "mean_field.compatibility"}
    assert set(report.missing) == crf
    assert not report.unexpected
    images = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(model.eval().segmenter(images).logits, trained.eval()(images).logits)
    assert set(model.state_dict()) == {*trained.state_dict(), *crf}
    other = create_model("unet", num_classes=3, encoder="resnet18", decoder_channels=[16, 8])
    assert set(load_matching(other, model.state_dict()).unexpected) == crf
    assert torch.equal(other.eval()(images).logits, trained(images).logits)


def test_weights_keep_their_names_inside_another_module():
    model = crf_rnn(2, base=BASE)
    outer = torch.nn.ModuleDict({"model": model, "norm": torch.nn.BatchNorm2d(2)})
    state = outer.state_dict()
    assert set(state) == {f"model.{name}" for name in model.state_dict()} | {
        f"norm.{name}" for name in outer["norm"].state_dict()
    }
    twin = torch.nn.ModuleDict({"model": crf_rnn(2, base=BASE), "norm": torch.nn.BatchNorm2d(2)})
    twin.load_state_dict(state)
    assert all(torch.equal(value, state[name]) for name, value in twin.state_dict().items())
    copied = copy.deepcopy(model)
    assert set(copied.state_dict()) == set(model.state_dict())


def test_the_optimizer_finds_the_segmenter_as_the_encoder():
    model = crf_rnn(3, base=BASE)
    assert model.encoder is model.segmenter
    assert not any(name.startswith("encoder.") for name, _ in model.named_parameters())


def test_bases_by_name_and_by_options():
    assert isinstance(crf_rnn(2, base="enet"), CRFRNN)
    with pytest.raises(UnknownNameError, match="Did you mean 'fcn8s'"):
        crf_rnn(2, base="fcn8")
    with pytest.raises(ArgumentError, match="Did you mean 'encoder'"):
        crf_rnn(2, base={"name": "unet", "encodr": "resnet18"})
    with pytest.raises(ArgumentError, match=r"base must name a segmenter; got \{'encoder': 'resnet18'\}"):
        crf_rnn(2, base={"encoder": "resnet18"})
    with pytest.raises(ArgumentError, match="base must be a segmenter without a CRF; got 'crf_rnn'"):
        crf_rnn(2, base="crf_rnn")
    with pytest.raises(ArgumentError, match="base must leave out num_classes, which the whole model decides; got 5"):
        crf_rnn(2, base={"name": "unet", "num_classes": 5})
