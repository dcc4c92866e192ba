"""Every model of the catalogue in a quick small version, for tests of what is done with models."""

from __future__ import annotations

from typing import Any

SMALL: dict[str, dict[str, Any]] = {
    "unet": {"encoder": "resnet18", "decoder_channels": (16, 16, 8, 8, 4)},
    "unet_original": {"in_channels": 3, "batch_norm": True, "base_channels": 8},
    "fcn8s": {"fc_channels": 32, "width": 0.125},
    "fcn16s": {"fc_channels": 32, "width": 0.125},
    "fcn32s": {"fc_channels": 32, "width": 0.125},
    "segnet": {"base_channels": 8},
    "deeplabv3plus": {"encoder": "resnet18", "decoder_channels": 16, "low_level_channels": 8},
    "enet": {},
    "patch_classifier": {"in_channels": 3, "base_channels": 8, "hidden_channels": 16},
    "farabet_multiscale": {"channels": (4, 8, 16), "hidden_channels": 16},
    "multiscale_fcn": {"encoder": "resnet18", "channels": 16},
    "fcn_resnet": {"encoder": "torchvision/resnet18", "head_channels": 16},
    "deconvnet": {"base_channels": 4, "fc_channels": 16},
    "segnet_basic": {"channels": 8},
    "pspnet": {"encoder": "resnet18", "head_channels": 16},
    "deeplabv1": {"width": 0.125, "fc_channels": 32},
    "deeplabv2": {"encoder": "resnet18"},
    "deeplabv3": {"encoder": "resnet18", "channels": 16},
    "dilated_frontend": {"width": 0.125, "fc_channels": 32},
    "dilation8": {"width": 0.125, "fc_channels": 32, "context": "basic"},
    "dilation10": {"width": 0.125, "fc_channels": 32},
    "hourglass": {"channels": 16},
    "hrnet_seg": {"encoder": "hrnet_w18_small"},
    "reseg": {"width": 0.125, "sweep_channels": (8, 8), "upsample_channels": 8},
    "fpn": {"encoder": "resnet18", "pyramid_channels": 16, "channels": 16},
    "upernet": {"encoder": "resnet18", "channels": 16, "feature_norm": "none"},
    "crf_rnn": {"base": {"name": "unet", "encoder": "resnet18", "decoder_channels": (16, 8)}},
}
