"""Random changes of an image together with its target, on torchvision.transforms.v2.

Every transform takes ``(image, target)``: a uint8 ``tv_tensors.Image`` of any number of channels, and a dictionary
whose ``tv_tensors`` (masks, boxes, key points; any key) follow the image. All randomness comes from torch's global
generator, so that seeding it repeats the result. Flips are torchvision's own; scaling, turning, bending and cropping
are :class:`~delineate.data.view.RandomView`; here is what else torchvision does not have, or not in one pass.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from delineate.checks import require
from delineate.data.view import uniform

LUMA = (0.299, 0.587, 0.114)
YIQ = ((0.299, 0.587, 0.114), (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112))
INSTANCE_KEYS = ("boxes", "masks", "labels", "area", "iscrowd", "keypoints", "visibility", "scores", "weights")


class RandomQuarterTurn(v2.Transform):
    """The image turned by 0, 90, 180 or 270 degrees, each as likely; only 0 or 180 where it is not square.

    An oblong image keeps its shape, so that crops of one size stay of one size.
    """

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """The number of degrees, drawn at random."""
        height, width = functional.get_size(flat_inputs[0])
        turns = int(torch.randint(0, 4, ()))
        return {"degrees": 90 * turns if height == width else 180 * (turns % 2)}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """The turned ``inpt``; pixels only change places."""
        degrees = params["degrees"]
        return self._call_kernel(functional.rotate, inpt, angle=degrees, expand=True) if degrees else inpt


class Photometric(v2.Transform):
    """Brightness, contrast, saturation and hue changed at random, as one affine map of the colours.

    With three channels: hue and saturation turn and stretch the colour plane of YIQ, contrast stretches around the
    image's mean luminance, brightness scales. With any other number only contrast and brightness are left. Because the
    four are one matrix, values are clipped once, at the end, and the cost is that of one pass.

    Args:
        strength: 0 for none; at 1 brightness, contrast and saturation change by a factor of 0.5 to 1.5 and hue by up to
            36 degrees.

    Example:
        >>> image = tv_tensors.Image(torch.full((3, 4, 4), 100, dtype=torch.uint8))
        >>> torch.equal(Photometric(0.0)(image), image)
        True
    """

    _transformed_types = (tv_tensors.Image, functional.is_pure_tensor)

    def __init__(self, strength: float = 0.5) -> None:
        super().__init__()
        require(0 <= strength <= 1, "strength", "lie between 0 and 1", strength)
        self.strength = strength

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """The four changes, drawn at random."""
        reach = 0.5 * self.strength
        factors = {name: uniform(1 - reach, 1 + reach) for name in ("brightness", "contrast", "saturation")}
        return {**factors, "hue": uniform(-0.2, 0.2) * math.pi * self.strength}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """The recoloured image."""
        return recoloured(inpt, **params) if self.strength else inpt


def recoloured(image: Tensor, *, brightness: float, contrast: float, saturation: float, hue: float) -> Tensor:
    """The image under one affine map of its colours; same type and dtype.

    Args:
        image: (C, H, W), uint8 or float in 0..1.
        brightness: factor on everything, last.
        contrast: factor on the distance to the mean luminance.
        saturation: factor on the distance to grey; three channels only.
        hue: radians in the colour plane of YIQ; three channels only.
    """
    plain = image.as_subclass(Tensor)
    channels = plain.shape[-3]
    pixels = plain.reshape(channels, -1).float()  # C HW
    mean = pixels.mean(dim=1)
    if channels == 3:
        colour = torch.tensor(colour_matrix(saturation, hue))
        centre = float(mean @ torch.tensor(LUMA))
    else:
        colour = torch.eye(channels)
        centre = float(mean.mean())
    shift = torch.full((channels, 1), brightness * (1 - contrast) * centre)
    changed = torch.addmm(shift, colour * (brightness * contrast), pixels)
    if plain.is_floating_point():
        changed = changed.clamp_(0, 1).to(plain.dtype)
    else:
        changed = changed.add_(0.5).clamp_(0, 255).to(plain.dtype)  # truncation rounds
    changed = changed.view(plain.shape)
    return tv_tensors.wrap(changed, like=image) if isinstance(image, tv_tensors.TVTensor) else changed


def colour_matrix(saturation: float, hue: float) -> list[list[float]]:
    """The 3x3 matrix on RGB that stretches and turns the colour plane of YIQ; luminance and greys stay.

    Example:
        >>> [[round(value, 3) for value in row] for row in colour_matrix(0.0, 0.0)][0]
        [0.299, 0.587, 0.114]
    """
    yiq = torch.tensor(YIQ, dtype=torch.float64)
    yiq[1:] -= yiq[1:].mean(dim=1, keepdim=True)  # the published digits leave greys a trace of colour
    sine, cosine = saturation * math.sin(hue), saturation * math.cos(hue)
    turn = torch.tensor([[1.0, 0.0, 0.0], [0.0, cosine, -sine], [0.0, sine, cosine]], dtype=torch.float64)
    return (torch.linalg.inv(yiq) @ turn @ yiq).tolist()


class RandomNoise(v2.Transform):
    """Gaussian noise of a random strength, added to half of the images.

    Args:
        sigma: the largest standard deviation in grey levels of 0..255.
        p: the share of images that get any.
    """

    _transformed_types = (tv_tensors.Image, functional.is_pure_tensor)

    def __init__(self, sigma: float, p: float = 0.5) -> None:
        super().__init__()
        require(sigma >= 0, "sigma", "be 0 grey levels or more", sigma)
        self.sigma = sigma
        self.p = p

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """The standard deviation, drawn at random."""
        return {"sigma": uniform(0, self.sigma) if float(torch.rand(())) < self.p else 0.0}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """The noisy image."""
        if not params["sigma"]:
            return inpt
        plain = inpt.as_subclass(Tensor)
        noise = torch.randn(plain.shape) * params["sigma"]
        if plain.is_floating_point():
            noisy = noise.div_(255).add_(plain).clamp_(0, 1).to(plain.dtype)
        else:
            noisy = noise.add_(plain).add_(0.5).clamp_(0, 255).to(plain.dtype)
        return tv_tensors.wrap(noisy, like=inpt) if isinstance(inpt, tv_tensors.TVTensor) else noisy


class RandomBlur(v2.Transform):
    """Gaussian blur of a random width, on half of the images; the kernel is no longer than that width needs.

    Args:
        sigma: the largest standard deviation in pixels.
        p: the share of images that get any.
    """

    _transformed_types = (tv_tensors.Image, functional.is_pure_tensor)

    def __init__(self, sigma: float, p: float = 0.5) -> None:
        super().__init__()
        require(sigma >= 0, "sigma", "be 0 pixels or more", sigma)
        self.sigma = sigma
        self.p = p

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """The standard deviation, drawn at random."""
        return {"sigma": uniform(0, self.sigma) if float(torch.rand(())) < self.p else 0.0}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """The blurred image."""
        sigma = params["sigma"]
        if sigma < 0.1:  # below that the kernel is a single one
            return inpt
        side = 2 * math.ceil(2 * sigma) + 1
        return self._call_kernel(functional.gaussian_blur, inpt, kernel_size=[side, side], sigma=[sigma, sigma])


class VisibleInstances(v2.Transform):
    """The target with the instances that are still in the picture, and boxes drawn tightly around their masks.

    After a crop or a turn the upright box around a moved box is too large, and some instances are gone. Where the
    target has ``masks`` (N, H, W), ``boxes`` are measured from them: outer edges, so a box is as wide as its pixels.
    Entries of one value an instance (``INSTANCE_KEYS``: boxes, masks, labels and the rest) are shortened together;
    ``tags`` (one value a class, label 0 first) lose the classes whose last instance went. A target without instances
    stays as it is.

    Args:
        min_pixels: an instance with fewer is gone. Above 1, label maps keep what instance masks lose.
    """

    def __init__(self, min_pixels: int = 1) -> None:
        super().__init__()
        require(min_pixels >= 1, "min_pixels", "be at least 1", min_pixels)
        self.min_pixels = min_pixels

    def forward(self, *inputs: Any) -> Any:
        """The inputs, each dictionary among them reduced to what is visible."""
        outputs = tuple(self._reduced(value) if isinstance(value, dict) else value for value in inputs)
        return outputs if len(outputs) > 1 else outputs[0]

    def _reduced(self, target: dict[str, Any]) -> dict[str, Any]:
        masks, boxes = target.get("masks"), target.get("boxes")
        result = dict(target)
        if masks is not None and masks.ndim == 3:
            keep = masks.as_subclass(Tensor).flatten(1).count_nonzero(dim=1) >= self.min_pixels
            if boxes is not None:
                tight = boxes_of_masks(masks).to(boxes.dtype)
                tight = functional.convert_bounding_box_format(tight, tv_tensors.BoundingBoxFormat.XYXY, boxes.format)
                result["boxes"] = tv_tensors.wrap(tight, like=boxes)
            if "area" in target:
                area = masks.as_subclass(Tensor).flatten(1).count_nonzero(dim=1)
                result["area"] = area.to(target["area"].dtype)
        elif boxes is not None:
            form = tv_tensors.BoundingBoxFormat
            xyxy = functional.convert_bounding_box_format(boxes.as_subclass(Tensor), boxes.format, form.XYXY)
            width, height = (xyxy[:, 2:] - xyxy[:, :2]).clamp_min(0).unbind(1)
            keep = (width * height >= self.min_pixels) & (width >= 1) & (height >= 1)
        else:
            return target
        return result if bool(keep.all()) else kept_instances(result, keep)


def kept_instances(target: dict[str, Any], keep: Tensor) -> dict[str, Any]:
    """The target with the instances where ``keep`` (N,) holds, and the tags that still have one.

    Example:
        >>> target = {"labels": torch.tensor([3, 5]), "area": torch.tensor([4.0, 9.0]), "stem": "a"}
        >>> kept_instances(target, torch.tensor([False, True]))
        {'labels': tensor([5]), 'area': tensor([9.]), 'stem': 'a'}
    """
    result = dict(target)
    for key in INSTANCE_KEYS:
        value = target.get(key)
        if isinstance(value, Tensor) and value.ndim > 0 and len(value) == len(keep):
            shortened = value.as_subclass(Tensor)[keep]
            result[key] = (
                tv_tensors.wrap(shortened, like=value) if isinstance(value, tv_tensors.TVTensor) else shortened
            )
    labels, tags = target.get("labels"), target.get("tags")
    if labels is not None and tags is not None:
        gone = labels[~keep]
        gone = gone[~torch.isin(gone, labels[keep])]
        result["tags"] = tags.clone().index_fill_(0, gone, 0)
    return result


def boxes_of_masks(masks: Tensor) -> Float[Tensor, "N 4"]:
    """The tight xyxy box of each mask (N, H, W), outer edges; zeros where a mask is empty.

    Example:
        >>> masks = torch.zeros(1, 5, 6)
        >>> masks[0, 1:3, 2:6] = 1
        >>> boxes_of_masks(masks).tolist()
        [[2.0, 1.0, 6.0, 3.0]]
    """
    plain = masks.as_subclass(Tensor) != 0
    sides = []
    for dim, length in ((1, plain.shape[2]), (2, plain.shape[1])):
        covered = plain.any(dim=dim)  # N W, then N H
        places = torch.arange(length)
        first = torch.where(covered, places, length).amin(dim=1) if length else plain.new_zeros(len(plain)).long()
        last = torch.where(covered, places + 1, 0).amax(dim=1) if length else first
        sides.append((torch.minimum(first, last), last))
    (left, right), (top, bottom) = sides
    return torch.stack([left, top, right, bottom], dim=1).float()
