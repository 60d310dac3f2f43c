"""How the pixels of training views vary: light, colour, radar speckle.

Axes: C = 3 channels RGB, H W pixels of a crop of the image file.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import Gamma
from torchvision.transforms.v2 import functional as F

from distill.errors import UserError


@dataclass
class Augmentation:
    """Random changes of the pixels of training views; by default there are none. Where views look is the data
    module's `scale_jitter`, `flip` and `turns`.

    Args:
        brightness: Largest relative change of the brightness: a factor from 1 - b to 1 + b.
        contrast: The same for the contrast around the image's mean grey.
        saturation: The same for the distance of colours from grey.
        speckle: Share of the views that get speckle. For radar images: the rest keeps what validation looks like.
        looks: Looks L of that speckle; 1 is a raw radar image, more are smoother.
    """

    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    speckle: float = 0.0
    looks: float = 4.0

    def __post_init__(self) -> None:
        """Checks the ranges.

        Raises:
            UserError: A share outside of 0 to 1, or no look at all.
        """
        for key in ("brightness", "contrast", "saturation", "speckle"):
            value = vars(self)[key]
            if not 0 <= value <= 1:
                raise UserError(f"augmentation.{key} is {value}; it must lie in [0, 1]")
        if self.looks <= 0:
            raise UserError(f"augmentation.looks is {self.looks}; it must be positive")

    def recolour(self, pixels: Tensor) -> Tensor:
        """Changes brightness, contrast, saturation and speckle of uint8 pixels (3, H, W), in this order.

        Draws from torch's global generator, and nothing for what is off.
        """
        for strength, adjust in (
            (self.brightness, F.adjust_brightness),
            (self.contrast, F.adjust_contrast),
            (self.saturation, F.adjust_saturation),
        ):
            if strength:
                pixels = adjust(pixels, 1 + strength * (2 * float(torch.rand(())) - 1))
        if self.speckle and float(torch.rand(())) < self.speckle:
            pixels = add_speckle(pixels, self.looks)
        return pixels


def add_speckle(pixels: Tensor, looks: float) -> Tensor:
    """Multiplies uint8 pixels (3, H, W) by speckle, the same in all channels; draws from torch's global generator.

    Pixels are taken for amplitudes, as detected radar images store them, so they are multiplied by the square root of
    the intensity's speckle, which is gamma-distributed with mean 1 and variance 1 / L.

    Source: Goodman, "Some fundamental properties of speckle", J. Opt. Soc. Am. 66 (1976): fully developed speckle; the
    mean of L independent looks of it is gamma-distributed.
    """
    intensity = Gamma(looks, looks).sample(pixels.shape[-2:])
    return (pixels * intensity.sqrt()).round().clamp(max=255).to(torch.uint8)
