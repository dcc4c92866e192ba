"""YOLO9000: YOLOv2's cells and priors, with a tree of words for classes.

Source: Redmon, Farhadi, "YOLO9000: Better, Faster, Stronger", CVPR 2017, section 4; three priors and no layers between
Darknet-19 and the prediction from its released definition (yolo9000.cfg).
Differs: nothing; the tree is that of the data, not WordNet's.
"""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from delineate.checks import require
from delineate.models.yolov2 import STRIDE, Darknet19, prior_outputs, prior_sizes
from delineate.ops.anchors import YOLO9000_PRIORS
from delineate.ops.padding import pad_to_multiple
from delineate.structures.outputs import GridOutputs
from delineate.structures.scored_boxes import DetectionOptions
from delineate.structures.word_tree import ROOT, WordTree


class YOLO9000(nn.Module):
    """Darknet-19 and one convolution that says of each prior where, whether and which word.

    Args:
        encoder: images to features at strides 16 and 32, of which the last are used.
        predict: the last layer.
        priors: width and height of the boxes of each cell, in cells.
        tree: the words.
    """

    # as released, for evaluation; its demonstration answers with one word a box, the most specific one above 0.5
    decoding = DetectionOptions(score_threshold=0.005, iou_threshold=0.45, groups="class", most=300)

    def __init__(self, encoder: Darknet19, predict: nn.Module, *, priors: Float[Tensor, "P 2"], tree: WordTree) -> None:
        super().__init__()
        self.encoder = encoder
        self.predict = predict
        self.priors = priors
        self.tree = tree
        self.in_channels = encoder.in_channels
        self.num_classes = tree.num_classes

    def forward(self, images: Float[Tensor, "B C H W"]) -> GridOutputs:
        """Boxes, objectness and words of every prior at every cell; images are padded to multiples of 32."""
        padded = pad_to_multiple(images, STRIDE)
        maps = self.predict(self.encoder(padded)[-1])
        return prior_outputs(maps, self.priors, size=(padded.shape[-2], padded.shape[-1]), tree=self.tree)


def yolo9000(
    num_classes: int,
    *,
    tree: Sequence[str] | None = None,
    in_channels: int = 3,
    width: float | int = 1.0,
    priors: Sequence[Sequence[float | int]] | None = None,
) -> YOLO9000:
    """YOLO9000 on Darknet-19, every layer normalised, for images of any size.

    With the released tree of 9,418 words and three priors: 48,793,101 parameters, 867 boxes at 544 pixels. ImageNet
    detection mAP 19.7, and 16.0 on the 156 classes of which it has never seen a box (paper).

    Args:
        num_classes: words, inner ones included.
        tree: the path of every word from its root in label order, "animal/dog"; siblings share a softmax, see
            :class:`~delineate.structures.word_tree.WordTree`. None for words that all exclude one another.
        in_channels: of the images.
        width: every layer has this share of its channels.
        priors: width and height of each prior in cells of 32 pixels, from ``delineate data anchors``; those of the
            release when None.

    Raises:
        ArgumentError: when ``width`` is not above 0, priors are no pairs of numbers above 0, or the tree does not have
            ``num_classes`` paths, one a word, parents before children and siblings side by side.

    Example:
        >>> import torch
        >>> with torch.device("meta"):
        ...     model = yolo9000(9418)
        >>> sum(parameter.numel() for parameter in model.parameters())
        48793101
    """
    require(width > 0, "width", "be above 0", width)
    boxes = prior_sizes(YOLO9000_PRIORS if priors is None else priors)
    words = word_tree(num_classes, tree)
    encoder = Darknet19(in_channels, width=width)
    last = nn.Conv2d(encoder.channels[-1], len(boxes) * (5 + num_classes), 1)
    nn.init.normal_(last.weight, std=0.01)
    nn.init.zeros_(last.bias)  # type: ignore[arg-type]
    return YOLO9000(encoder, last, priors=boxes, tree=words)


def word_tree(num_classes: int, paths: Sequence[str] | None) -> WordTree:
    """The tree of these paths, or roots alone.

    Raises:
        ArgumentError: when the paths are not those of ``num_classes`` words in label order.
    """
    if paths is None:
        return WordTree(tuple(map(str, range(num_classes))), (ROOT,) * num_classes)
    require(len(paths) == num_classes, "tree", f"have {num_classes} paths, one a class", len(paths))
    tree = WordTree.from_paths(list(paths))
    ordered = "hold the path of every word, parents before children and siblings side by side"
    differs = next((path for path, own in zip(paths, tree.to_paths(), strict=False) if path != own), "")
    require(tree.to_paths() == tuple(paths), "tree", ordered, f"'{differs}' elsewhere", "WordTree.to_paths lists them.")
    return tree
