"""The localiser: what an image shows and where, for one object or a known number of them.

Source: Sermanet et al., "OverFeat: Integrated Recognition, Localization and Detection using Convolutional Networks",
ICLR 2014, section 4: a classifier and a regressor of the box's four edges on the features of one encoder.
Differs: the encoder is free, and classes and boxes are read from one pooled vector; OverFeat regresses at every window
of several scales and merges what it gets. There may be several slots, which the loss pairs with the objects.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from delineate.checks import require
from delineate.models.blocks.pooled_features import PooledFeatures, small_linear
from delineate.models.encoders.creation import create_encoder
from delineate.models.encoders.encoder import Encoder
from delineate.ops.padding import pad_to_multiple
from delineate.registry import unknown_name
from delineate.structures.outputs import SlotOutputs
from delineate.structures.scored_boxes import DetectionOptions

BOXES = ("shared", "per_class")
START = (0.25, 0.25, 0.75, 0.75)  # every box at first: the middle of the image


class Localizer(nn.Module):
    """Encoder, pooled features, and a linear layer each for the classes and the boxes of the slots.

    Args:
        encoder: images to features.
        pooled: the last feature to a vector.
        slots: how many objects there may be.
        num_classes: object classes.
        background: whether a slot may say that it shows none.
        boxes_each: of each slot: one, or one for each class.
    """

    def __init__(
        self,
        encoder: Encoder,
        pooled: PooledFeatures,
        *,
        slots: int,
        num_classes: int,
        background: bool,
        boxes_each: int,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.pooled = pooled
        self.classes = small_linear(pooled.width, slots * (num_classes + background))
        self.boxes = small_linear(pooled.width, slots * boxes_each * 4)
        with torch.no_grad():
            self.boxes.bias.copy_(self.boxes.bias.new_tensor(START).repeat(slots * boxes_each))
        self.slots = slots
        self.boxes_each = boxes_each
        self.background = background
        self.in_channels = encoder.in_channels
        self.num_classes = num_classes
        # slots are not suppressed: each has learned an object of its own
        threshold = 0.01 if background else 0.0
        self.decoding = DetectionOptions(score_threshold=threshold, iou_threshold=1.0, most=slots)

    def forward(self, images: Float[Tensor, "B C H W"]) -> SlotOutputs:
        """Classes and boxes of every slot; boxes are shares of the images padded with zeros to the encoder's stride."""
        padded = pad_to_multiple(images, self.encoder.strides[-1], mode="constant")
        vector = self.pooled(self.encoder(padded)[-1])
        return SlotOutputs(
            logits=self.classes(vector).unflatten(1, (self.slots, -1)),
            boxes=self.boxes(vector).unflatten(1, (self.slots, self.boxes_each, 4)),
            size=(padded.shape[-2], padded.shape[-1]),
            background=self.background,
        )


def localizer(
    num_classes: int,
    *,
    objects: int = 1,
    background: bool | None = None,
    boxes: str = "shared",
    in_channels: int = 3,
    encoder: str = "resnet18",
    pretrained: bool = False,
    bins: int = 4,
    hidden: tuple[int, ...] | list[int] = (512,),
    dropout: float | int = 0.0,
) -> Localizer:
    """A localiser on any encoder, for images of any size.

    With 10 classes: 15,378,510 parameters for one object, 15,402,108 for four. To learn only the head on a pretrained
    encoder, freeze the part ``encoder`` (``start.freeze`` of a recipe).

    Args:
        num_classes: object classes.
        objects: in an image. Of more, the loss learns those that are cheapest.
        background: whether an image may show fewer objects: a slot then may be empty. Without it every slot always
            answers. When left out, with more than one object.
        boxes: "shared", one box a slot, or "per_class", one for each class. OverFeat had both, and the better results
            with the first.
        in_channels: of the images.
        encoder: any name of :func:`~delineate.models.encoders.creation.create_encoder`.
        pretrained: whether the encoder starts from ImageNet weights, which are downloaded.
        bins: a side, over which the encoder's last feature is averaged. One forgets where things are.
        hidden: of the fully connected layers on the bins.
        dropout: before each of them.

    Raises:
        UnknownNameError: on an unknown encoder or kind of boxes.
        ArgumentError: when ``objects``, ``bins`` or a width is below 1.

    Example:
        >>> with torch.device("meta"):
        ...     model = localizer(10)
        >>> sum(parameter.numel() for parameter in model.parameters())
        15378510
    """
    if boxes not in BOXES:
        raise unknown_name("boxes", boxes, BOXES)
    require(objects >= 1, "objects", "be at least 1", objects)
    backbone = create_encoder(encoder, in_channels=in_channels, pretrained=pretrained)
    return Localizer(
        backbone,
        PooledFeatures(backbone.channels[-1], bins=bins, hidden=hidden, dropout=dropout),
        slots=objects,
        num_classes=num_classes,
        background=objects > 1 if background is None else background,
        boxes_each=num_classes if boxes == "per_class" else 1,
    )
