"""Rounds targets to a precision, in the same way live and stored, so that both are equal to the bit.

Axes: B batch, C channels, h w the teacher's grid.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from distill.errors import unknown_name

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16, "int8": torch.int8}
_LEVELS = 127  # of int8 on either side of zero

Encoded = dict[str, Tensor]


def require_dtype(name: str) -> str:
    """The name of a precision.

    Raises:
        UserError: There is no such precision.
    """
    if name not in DTYPES:
        raise unknown_name("model.target_dtype", name, DTYPES)
    return name


def encode(maps: Tensor, dtype: str) -> Encoded:
    """Targets as they are stored.

    Args:
        maps: (B, C, h, w), of any floating type.
        dtype: One of `DTYPES`. "int8" has a scale of its own for every channel of every image, its largest absolute
            value divided by 127. float16 ends at 65504: larger values are clipped to it.

    Returns:
        `values` (B, C, h, w), and for int8 `scale` (B, C) float32.
    """
    # In one layout, too: sums over channels, as in a cosine, round by the order in which they are taken.
    maps = maps.detach().float().contiguous()
    if dtype == "int8":
        scale = maps.abs().amax(dim=(2, 3)) / _LEVELS
        levels = maps / scale.clamp_min(torch.finfo(torch.float32).tiny)[:, :, None, None]
        return {"values": levels.round().clamp(-_LEVELS, _LEVELS).to(torch.int8), "scale": scale}
    if dtype == "float16":
        largest = torch.finfo(torch.float16).max
        maps = maps.clamp(-largest, largest)
    return {"values": maps.to(DTYPES[dtype])}


def decode(stored: Mapping[str, Tensor]) -> Tensor:
    """Targets (B, C, h, w) float32 of what `encode` returned."""
    values = stored["values"].float()
    return values * stored["scale"][:, :, None, None] if "scale" in stored else values


def rounded(maps: Tensor, dtype: str) -> Tensor:
    """Targets (B, C, h, w) float32 as they come back from a cache of that precision."""
    return decode(encode(maps, dtype))
