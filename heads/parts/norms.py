"""Norms of a neck, as modules and in MMCV's notation.

Axes: C channels.
"""

from collections.abc import Callable
from math import gcd
from typing import Any

from timm.layers import LayerNorm2d
from torch import nn

from distill.errors import unknown_name


def layer_norm(channels: int) -> nn.Module:
    """Layer norm over the channels C of each cell."""
    return LayerNorm2d(channels, eps=1e-6)


def _group_norm(channels: int) -> nn.Module:
    return nn.GroupNorm(_groups(channels), channels)


def _no_norm(channels: int) -> nn.Module:
    return nn.Identity()


_NORMS: dict[str, Callable[[int], nn.Module]] = {
    "layer": layer_norm,
    "group": _group_norm,
    "batch": nn.BatchNorm2d,
    "none": _no_norm,
}


def build_norm(name: str, channels: int) -> nn.Module:
    """A norm of C channels.

    Args:
        name: "layer", "group", "batch" or "none".
        channels: C.

    Raises:
        UserError: There is no such norm.
    """
    if name not in _NORMS:
        raise unknown_name("neck norm", name, _NORMS)
    return _NORMS[name](channels)


def mmcv_norm(name: str, channels: int) -> dict[str, Any] | None:
    """The same norm as MMCV's `norm_cfg`.

    Args:
        name: As for `build_norm`.
        channels: C.

    Raises:
        UserError: There is no such norm.
    """
    if name not in _NORMS:
        raise unknown_name("neck norm", name, _NORMS)
    if name == "layer":
        return {"type": LayerNorm2d, "eps": 1e-6}
    if name == "group":
        return {"type": "GN", "num_groups": _groups(channels)}
    return {"type": "BN"} if name == "batch" else None


def _groups(channels: int) -> int:
    # 16 channels per group: the best fixed width in Wu & He, "Group Normalization", table 3.
    return gcd(channels, max(1, channels // 16))
