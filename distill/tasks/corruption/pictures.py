"""Corruption as pictures show it.

Axes: B batch, N tokens, C channels, H W pixels.
"""

import copy
import math

import torch
from torch import Tensor, nn

from distill.contracts import StudentBase
from distill.layers import Normalize
from distill.tasks.corruption.module import Corruption
from distill.tasks.corruption.patches import from_patches, to_patches
from distill.tasks.token_grid import token_grid


def corrupted_images(
    images: Tensor, student: StudentBase, normalize: Normalize, corruption: Corruption, target: Tensor | None = None
) -> Tensor:
    """Images (B, 3, H, W), RGB in [0, 1], as the corruption shows them to the student.

    Noise and masking of tokens are drawn on the pixels that the tokens are made of. Draws from torch's CPU generator
    alone, so that all machines see the same.

    Args:
        images: (B, 3, H, W), RGB in [0, 1].
        student: Whose tokens they are.
        normalize: What the student's input passes first.
        corruption: What is done to it.
        target: The teacher's map of the images as the loss sees it (B, C, h, w), which guided masks need.
    """
    settings = corruption.settings
    size = settings.patch_size
    if settings.level == "token":
        _, touched = student.forward_corrupted(normalize(images), _count_tokens)
        size = math.ceil(images.shape[-2] / token_grid(touched.shape[1], (images.shape[-2], images.shape[-1]))[0])
        corruption = corruption.on_pixels(size)
    normalize = copy.deepcopy(normalize).cpu().float()
    pixels = normalize(images.float().cpu())
    height, width = pixels.shape[-2:]
    padded = nn.functional.pad(pixels, (0, -width % size, 0, -height % size), mode="replicate")
    padded_size = (padded.shape[-2], padded.shape[-1])
    on_cpu = copy.deepcopy(corruption).cpu().float()
    patches, _ = on_cpu(to_patches(padded, size), padded_size, None if target is None else target.cpu())
    shown = from_patches(patches, size, padded_size)[..., :height, :width]
    return (shown * normalize.std + normalize.mean).clamp(0, 1)


def _count_tokens(tokens: Tensor) -> tuple[Tensor, Tensor]:
    """A corruption that touches nothing."""
    return tokens, torch.zeros(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
