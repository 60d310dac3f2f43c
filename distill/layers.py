"""Small modules that several parts share.

Axes: B batch, H W pixels.
"""

from collections.abc import Sequence
from typing import Any, Self

import torch
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor, nn


class Normalize(nn.Module):
    """Subtracts a mean from RGB images and divides by a standard deviation.

    Both are buffers, so that no step copies them to the device again, and not persistent: they are no weights.

    Args:
        mean: Of the three channels, in [0, 1].
        std: Of the three channels.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(list(mean)).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(list(std)).view(3, 1, 1), persistent=False)

    @classmethod
    def of(cls, student: Any) -> Self:
        """With the statistics of a `distill.contracts.Student`, or ImageNet's where it has none."""
        return cls(getattr(student, "mean", IMAGENET_DEFAULT_MEAN), getattr(student, "std", IMAGENET_DEFAULT_STD))

    def forward(self, images: Tensor) -> Tensor:
        """Maps images (B, 3, H, W) to normalised ones."""
        return (images - self.mean) / self.std
