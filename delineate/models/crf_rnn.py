"""CRF-RNN: a segmenter with a dense CRF behind it, trained as one network.

Source: Zheng, Jayasumana, Romera-Paredes, Vineet, Su, Du, Huang, Torr, "Conditional Random Fields as Recurrent Neural
Networks", ICCV 2015, and its released code, torrvision/crfasrnn.
Differs: any segmenter of the catalogue in place of FCN-8s. The release's FCN-8s has a bias in its first upsampling (21
parameters more than :func:`~delineate.models.fcn.fcn8s`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from delineate.checks import require
from delineate.models.blocks.mean_field import MeanField
from delineate.models.catalogue import create_model
from delineate.structures.outputs import SemanticOutputs
from delineate.structures.preprocessing import Preprocessing

Number = int | float
SEGMENTER, CRF = "segmenter.", "mean_field."


class CRFRNN(nn.Module):
    """A segmenter's logits, refined by mean-field iterations on the image.

    The CRF compares pixel values 0..255, and the segmenter takes them normalised: the normalisation is undone, and the
    result rounded, so that the CRF sees the very pixels of the file.

    Saved weights carry the segmenter's own names, with the CRF's under ``mean_field.``: what a segmenter learned alone
    loads into it by name, as in the paper, where all of it is trained from a trained FCN-8s (section 6).

    Args:
        segmenter: images to SemanticOutputs.
        mean_field: the CRF.
        preprocessing: how pixels became ``images``.
    """

    def __init__(self, segmenter: nn.Module, mean_field: MeanField, *, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.segmenter = segmenter
        self.mean_field = mean_field
        self.preprocessing = preprocessing
        self.in_channels = preprocessing.channels
        self.num_classes = mean_field.num_classes
        self.register_state_dict_post_hook(_name_as_the_segmenter)
        self.register_load_state_dict_pre_hook(_name_as_here)

    @property
    def encoder(self) -> nn.Module:
        """The segmenter: what is trained before, and what the optimizer's ``encoder_lr`` slows down.

        The released code gives the CRF's two weight matrices 10,000 times, its compatibilities 1,000 times the learning
        rate of the segmenter.
        """
        return self.segmenter

    def forward(self, images: Float[Tensor, "B C H W"]) -> SemanticOutputs:
        """Logits of the CRF at the size of ``images``, and the segmenter's side heads."""
        unary: SemanticOutputs = self.segmenter(images)
        logits = self.mean_field(unary.logits, self.pixels(images))
        return SemanticOutputs(logits, auxiliary=unary.auxiliary)

    def pixels(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """The pixel values 0..255 that ``images`` were normalised from."""
        mean = torch.tensor(self.preprocessing.mean, device=images.device).view(-1, 1, 1)
        std = torch.tensor(self.preprocessing.std, device=images.device).view(-1, 1, 1)
        return ((images.detach().float() * std + mean) * 255).round_()


def _name_as_the_segmenter(model: nn.Module, state: dict[str, Tensor], prefix: str, _: Any) -> None:
    """``segmenter.a`` becomes ``a``."""
    inner = prefix + SEGMENTER
    for name in [name for name in state if name.startswith(inner)]:
        state[prefix + name.removeprefix(inner)] = state.pop(name)


def _name_as_here(model: nn.Module, state: dict[str, Tensor], prefix: str, *_: Any) -> None:
    """``a`` becomes ``segmenter.a``, but for the CRF's own weights."""
    own = prefix + CRF
    for name in [name for name in state if name.startswith(prefix) and not name.startswith(own)]:
        state[prefix + SEGMENTER + name.removeprefix(prefix)] = state.pop(name)


def crf_rnn(
    num_classes: int,
    *,
    in_channels: int = 3,
    base: str | Mapping[str, Any] = "fcn8s",
    iterations: int = 5,
    test_iterations: int = 10,
    theta_alpha: Number = 160.0,
    theta_beta: Number = 3.0,
    theta_gamma: Number = 3.0,
    spatial_weight: Number = 3.0,
    bilateral_weight: Number = 5.0,
) -> CRFRNN:
    """CRF-RNN: any segmenter of the catalogue with the mean-field iterations of a dense CRF as its last layer.

    With 21 classes on FCN-8s: 134,491,082 parameters, of which 3 x 21 x 21 are the CRF's. The images must be
    normalised as :meth:`Preprocessing.for_channels` does (ImageNet's statistics for three channels), which training,
    evaluation and prediction do.

    It cannot be exported to ONNX, as the size of the CRF's lattice depends on the pixels; its ``segmenter`` can.

    Args:
        num_classes: logits a pixel, the background included.
        in_channels: of the images; the CRF compares all of them.
        base: a segmenter's name, or a mapping of ``name`` and its options, such as
            ``{name: unet, encoder: resnet18}``.
        iterations: of the mean field in training.
        test_iterations: of the mean field in evaluation.
        theta_alpha: standard deviation of the bilateral filter in pixels of distance.
        theta_beta: standard deviation of the bilateral filter in grey levels, of 0..255.
        theta_gamma: standard deviation of the spatial filter in pixels of distance.
        spatial_weight: what each class starts with for the spatial filter.
        bilateral_weight: what each class starts with for the bilateral filter.

    Raises:
        UnknownNameError: on an unknown base.
        ArgumentError: on an option that the base does not have, and as :class:`MeanField`.

    Example:
        >>> model = crf_rnn(2, base={"name": "unet", "encoder": "resnet18", "decoder_channels": [16, 8]})
        >>> sum(parameter.numel() for parameter in model.mean_field.parameters())
        12
    """
    options: dict[str, Any] = {"name": base} if isinstance(base, str) else dict(base)
    name: Any = options.pop("name", None)
    require(
        isinstance(name, str),
        "base",
        "name a segmenter",
        base,
        "Write base: unet, or base: {name: unet, encoder: ...}.",
    )
    require(name != "crf_rnn", "base", "be a segmenter without a CRF", "'crf_rnn'")
    for taken in ("num_classes", "in_channels"):
        require(taken not in options, "base", f"leave out {taken}, which the whole model decides", options.get(taken))
    return CRFRNN(
        create_model(name, num_classes=num_classes, in_channels=in_channels, **options),
        MeanField(
            num_classes,
            iterations=iterations,
            test_iterations=test_iterations,
            theta_alpha=theta_alpha,
            theta_beta=theta_beta,
            theta_gamma=theta_gamma,
            spatial_weight=spatial_weight,
            bilateral_weight=bilateral_weight,
        ),
        preprocessing=Preprocessing.for_channels(in_channels),
    )
