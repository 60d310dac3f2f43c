"""Corruption as pictures show it.

Axes: B batch, N tokens, C channels, H W pixels.
"""

import copy
import math

import torch
from torch import Tensor, nn

from distill.contracts import StudentBase
from distill.layers import Normalize
from distill.tasks.corruption import Corruption, from_patches, to_patches
from distill.tasks.token_grid import token_rows


def corrupted_images(images: Tensor, student: StudentBase, normalize: Normalize, corruption: Corruption) -> Tensor:
    """Images (B, 3, H, W), RGB in [0, 1], as the corruption shows them to the student.

    Noise and masking of tokens are drawn on the pixels that the tokens are made of. Draws from torch's CPU generator
    alone, so that all machines see the same.
    """
    settings = corruption.settings
    size = settings.patch_size
    if settings.level == "token":
        _, touched = student.forward_corrupted(normalize(images), _count_tokens)
        size = math.ceil(images.shape[-2] / token_rows(touched.shape[1], images))
        corruption = corruption.on_pixels(size)
    normalize = copy.deepcopy(normalize).cpu().float()
    pixels = normalize(images.float().cpu())
    height, width = pixels.shape[-2:]
    padded = nn.functional.pad(pixels, (0, -width % size, 0, -height % size), mode="replicate")
    patches, _ = copy.deepcopy(corruption).cpu().float()(to_patches(padded, size))
    shown = from_patches(patches, size, (padded.shape[-2], padded.shape[-1]))[..., :height, :width]
    return (shown * normalize.std + normalize.mean).clamp(0, 1)


def _count_tokens(tokens: Tensor) -> tuple[Tensor, Tensor]:
    """A corruption that touches nothing."""
    return tokens, torch.zeros(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
