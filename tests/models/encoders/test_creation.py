from __future__ import annotations

import pytest

from delineate.errors import ArgumentError, UnknownNameError
from delineate.models.encoders.creation import create_encoder
from delineate.models.encoders.timm_encoder import TimmEncoder
from delineate.models.encoders.torchvision_encoder import StagedEncoder


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("resnet18", TimmEncoder),
        ("timm/resnet18", TimmEncoder),
        ("torchvision/resnet18", StagedEncoder),
        ("vgg11_bn", StagedEncoder),
        ("alexnet", StagedEncoder),
    ],
)
def test_the_library_follows_from_the_name(name: str, kind: type) -> None:
    assert type(create_encoder(name)) is kind


def test_errors_say_what_exists() -> None:
    with pytest.raises(UnknownNameError, match=r"encoder must be a known name; got 'resnet19'. Did you mean 'resnet1"):
        create_encoder("resnet19")
    with pytest.raises(UnknownNameError, match="Did you mean 'vgg16"):
        create_encoder("torchvision/vgg_16")
    with pytest.raises(ArgumentError, match="encoder must be prefixed 'timm/' or 'torchvision/'; got 'keras/vgg16'"):
        create_encoder("keras/vgg16")
    with pytest.raises(ArgumentError, match="output_stride must be 8, 16 or 32; got 4"):
        create_encoder("resnet18", output_stride=4)
    with pytest.raises(ArgumentError, match="in_channels must be at least 1; got 0"):
        create_encoder("resnet18", in_channels=0)
