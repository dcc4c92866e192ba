"""Copy-paste: things of another sample put into a sample, so that rare ones are seen more often and in other places."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from delineate.checks import require
from delineate.data.mixing import Sample, are_labelled_alike, pasted, shared_size
from delineate.kernels.regions import connected_regions
from delineate.structures.taxonomy import Taxonomy


@dataclass(frozen=True)
class CopyPaste:
    """Some connected regions of the chosen classes of another sample, pasted where they were there, with hard edges.

    Source: Ghiasi et al., "Simple Copy-Paste is a Strong Data Augmentation Method for Instance Segmentation", CVPR
        2021, section 3.
    Differs: for label maps: a thing is a connected region of one class (corners connect) instead of an instance. Both
        pictures are scaled and flipped by the augmentation itself, which is the paper's scale jitter; edges are not
        blended, which made no difference in the paper.

    Args:
        probability: the share of samples that get something.
        classes: the labels whose regions may be copied.

    Raises:
        ArgumentError: on a probability outside 0 to 1, or no class.
    """

    probability: float
    classes: tuple[int, ...]
    partners: int = field(default=1, init=False, repr=False)

    def __post_init__(self) -> None:
        require(0 <= self.probability <= 1, "probability", "lie between 0 and 1", self.probability)
        require(len(self.classes) > 0, "classes", "hold at least one label", "none")

    def __call__(self, sample: Sample, partner: Sample) -> Sample:
        """``sample`` with a random number of the regions of ``partner``, from one to all of them.

        As it is where ``partner`` shows none of the classes, or where the two label different classes.
        """
        height, width = shared_size(sample, partner)
        labels = partner[1]["semantic_mask"].as_subclass(Tensor)[:height, :width].numpy()
        regions, count = connected_regions(labels, connectivity=8)
        candidates = np.unique(regions[np.isin(labels, self.classes)])
        if len(candidates) == 0 or not are_labelled_alike(sample[1], partner[1]):
            return sample
        some = int(torch.randint(1, len(candidates) + 1, ()))
        chosen = np.zeros(count, bool)
        chosen[candidates[torch.randperm(len(candidates))[:some].numpy()]] = True
        return pasted(sample, partner, torch.from_numpy(chosen[regions]))


def copied_classes(taxonomy: Taxonomy, names: Sequence[str] | None = None) -> tuple[int, ...]:
    """The labels of the named classes; without names those of every class but the background.

    Raises:
        UnknownNameError: on a name that the taxonomy does not have; says the nearest.

    Example:
        >>> copied_classes(Taxonomy(("background", "car", "bus"), background=0))
        (1, 2)
    """
    if names is None:
        return tuple(label for label in range(taxonomy.num_classes) if label != taxonomy.background)
    return tuple(taxonomy.index(name) for name in names)
