"""Base of frozen teachers, with normalisation by their own statistics.

Axes: B batch, C channels, H W pixels, h w patches.
"""

import logging
from abc import ABC
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from distill.contracts import TeacherBase
from distill.errors import UserError

logger = logging.getLogger(__name__)


class FrozenTeacher(TeacherBase, ABC):
    """Base of teachers with a frozen encoder between normalisation and named features.

    Parameters need no gradient, `train()` keeps eval mode, and `forward` records no graph, while its features may still
    enter one as constants (`no_grad`, not `inference_mode`).

    Args:
        name: The teacher's name, as tables and run cards print it.
        encoder: The network; `features` calls it.
        multiple: Images are padded to a multiple of it, in pixels: a ViT's patch, or the deepest stride of a hierarchy.
        mean: Mean of the RGB channels, in [0, 1], that the weights were trained with.
        std: Standard deviation of the RGB channels that the weights were trained with.
        channels: Channels C of each feature.
        reduction: Stride of each feature against the image, in pixels, a divisor of `multiple`; by default all have
            `multiple` itself.

    Attributes:
        channels: Channels C of each feature `forward` returns.
        reduction: Stride of each feature against the image, in pixels.
    """

    encoder: Any  # nn.Module types submodules as Tensor | Module
    offset: Tensor
    scale: Tensor

    def __init__(
        self,
        name: str,
        encoder: nn.Module,
        multiple: int,
        mean: Sequence[float],
        std: Sequence[float],
        channels: dict[str, int],
        reduction: dict[str, int] | None = None,
    ) -> None:
        super().__init__()
        self.name = name
        self.mean = tuple(mean)
        self.std = tuple(std)
        self.channels = channels
        self.reduction = reduction or dict.fromkeys(channels, multiple)
        self.multiple = multiple
        self.encoder = encoder
        # Persistent, so that the digest tells teachers apart that differ in their statistics alone.
        self.register_buffer("offset", torch.tensor(self.mean).view(1, 3, 1, 1))
        self.register_buffer("scale", torch.tensor(self.std).view(1, 3, 1, 1))
        self.freeze()

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Computes the named features of RGB images (B, 3, H, W) in [0, 1].

        Args:
            images: RGB in [0, 1], of shape (B, 3, H, W) and any size. Where H or W is no multiple of `multiple`, zeros
                are added at the bottom and the right after normalisation, as SAM does, so that the feature at row i
                and column j always describes the patch whose corner is (i, j) times `reduction`.

        Returns:
            Named features (B, C, h, w), where h and w are H and W over `reduction`, rounded up: positions that lie in
            the padding alone are cut off.

        Raises:
            UserError: The images are not float RGB.
        """
        if images.ndim != 4 or images.shape[1] != 3 or not images.is_floating_point():
            raise UserError(
                f"teacher {self.name} takes float RGB images in [0, 1] of shape (B, 3, H, W), got {images.dtype} of "
                f"shape {tuple(images.shape)}; select three bands and scale them in the recipe's data section"
            )
        height, width = images.shape[2:]
        with torch.no_grad():
            images = (images - self.offset) / self.scale
            images = F.pad(images, (0, -width % self.multiple, 0, -height % self.multiple))
            found = self.features(images)
        steps = self.reduction
        return {name: x[..., : -(-height // steps[name]), : -(-width // steps[name])] for name, x in found.items()}

    def features(self, images: Tensor) -> dict[str, Tensor]:
        """Maps normalised images (B, 3, H, W), H and W multiples of `multiple`, to the features of `channels`."""
        raise NotImplementedError


def warn_of_random_weights(name: str) -> None:
    """Warns that a teacher has random weights (`pretrained: false`)."""
    logger.warning("teacher %s has random weights: good for timing a run, not for training a student", name)


def check_indices(kind: str, indices: Sequence[int] | None, count: int, name: str) -> list[int]:
    """The distinct indices of blocks or stages, in ascending order.

    Args:
        kind: "block" or "stage"; its plural is the recipe's key.
        indices: As given in the recipe.
        count: How many there are.
        name: The teacher's, for the error.

    Raises:
        UserError: An index outside 0 .. count - 1.
    """
    wrong = [index for index in indices or () if not 0 <= index < count]
    if wrong:
        raise UserError(
            f"teacher {name} has no {kind} {wrong[0]}; "
            f"indices in model.teacher.{kind}s go from 0 to {count - 1}, and {count - 1} is the last {kind}"
        )
    return sorted(set(indices or ()))
