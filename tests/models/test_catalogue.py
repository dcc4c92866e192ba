from __future__ import annotations

import subprocess
import sys

import pytest

from delineate.errors import ArgumentError, UnknownNameError
from delineate.models.catalogue import MODELS, create_model, list_models, model_options, parameter_count
from tests.models.small import SMALL


def test_lists_every_model_in_order() -> None:
    names = list_models()
    assert names == sorted(MODELS)
    # the networks of the lectures
    assert {"unet_original", "fcn32s", "fcn16s", "fcn8s", "segnet", "segnet_basic", "enet", "deconvnet"} <= set(names)
    assert {"pspnet", "deeplabv1", "deeplabv2", "deeplabv3", "deeplabv3plus", "dilated_frontend"} <= set(names)
    assert {"dilation8", "dilation10", "hourglass", "hrnet_seg", "reseg", "crf_rnn"} <= set(names)
    assert {"patch_classifier", "farabet_multiscale", "multiscale_fcn", "fpn", "upernet", "fcn_resnet"} <= set(names)


def test_searches_names_papers_and_summaries() -> None:
    assert list_models(task="semantic", search="unet") == ["unet", "unet_original"]
    assert "unet" in list_models(search="ronneberger")
    assert list_models(search="unpools") == ["segnet"]
    assert list_models(search="fcn*s") == ["fcn16s", "fcn32s", "fcn8s"]
    assert list_models(search="no such thing") == []


def test_unknown_names_answer_with_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'deeplabv3plus'"):
        create_model("deeplabv3pluss", num_classes=2)
    with pytest.raises(UnknownNameError, match="Did you mean 'semantic'"):
        list_models(task="semantics")


def test_unknown_options_answer_with_the_nearest_before_anything_is_built() -> None:
    with pytest.raises(
        ArgumentError, match=r"options must be ones that 'unet' takes; got 'encodr'. Did you mean 'encoder'"
    ):
        create_model("unet", num_classes=2, encodr="resnet18")
    with pytest.raises(ArgumentError, match=r"got 'xyz'. It takes: in_channels, encoder, pretrained"):
        create_model("unet", num_classes=2, xyz=1)


@pytest.mark.parametrize("count", [0, -1])
def test_num_classes_is_a_count(count: int) -> None:
    with pytest.raises(ArgumentError, match="num_classes must be a whole number above 0"):
        create_model("unet", num_classes=count)


@pytest.mark.parametrize("name", list_models())
def test_every_entry_is_complete(name: str) -> None:
    entry, options = MODELS[name], model_options(name)
    assert options["in_channels"] in (1, 3)
    assert options.get("encoder") == entry.encoder
    assert "num_classes" not in options
    assert entry.load().__doc__


def test_every_model_has_a_small_version_for_the_tests() -> None:
    assert set(SMALL) == set(list_models(task="semantic"))  # of the others see tests/engine/test_objects.py


def test_listing_builds_nothing() -> None:
    """The table of models must not cost the import of torch."""
    code = "import sys; import delineate.models.catalogue as c; c.list_models(); print('torch' in sys.modules)"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "False"


def test_parameters_are_counted_without_being_made() -> None:
    assert parameter_count("fcn8s") == 134_489_759
    assert parameter_count("unet", num_classes=2, encoder="resnet18") == sum(
        parameter.numel() for parameter in create_model("unet", num_classes=2, encoder="resnet18").parameters()
    )
