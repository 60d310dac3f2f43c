"""Small modules and functions that several parts share.

Axes: B batch, C channels, H W grid or pixels, S source and T target positions along one axis.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# With these a standard normal input of StarReLU keeps its mean of zero and its variance of one.
STAR = (1.25**-0.5, -0.5 * 1.25**-0.5)
_RADIUS = {"bilinear": 1, "bicubic": 2}  # of the filter, in its own unit
_SLOPE, _ANTIALIASED_SLOPE = -0.75, -0.5  # of the cubic filter at distance 1, as PyTorch and Pillow choose them


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
        """Makes one with the statistics of a `distill.contracts.StudentBase`."""
        return cls(student.mean, student.std)

    def forward(self, images: Tensor) -> Tensor:
        """Maps images (B, 3, H, W) to normalised ones."""
        return (images - self.mean) / self.std


class StarReLU(nn.Module):
    """`scale * relu(x)² + bias` with two learned scalars, computed in float32 at least.

    timm's `StarReLU` (`timm.models.metaformer`) has the same weights and float32 values, but squares in the dtype of
    its input, so that float16 activations above 255 overflow.

    Args:
        scale: Initial scale.
        bias: Initial bias.

    Source: Yu et al., MetaFormer baselines for vision (https://arxiv.org/abs/2210.13452).
    """

    def __init__(self, scale: float = STAR[0], bias: float = STAR[1]) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor([scale]))
        self.bias = nn.Parameter(torch.tensor([bias]))

    def forward(self, x: Tensor) -> Tensor:
        """Maps a tensor to one of the same shape and dtype."""
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        return F.relu(wide).square().mul(self.scale).add_(self.bias).to(x.dtype)


def sin_cos_positions(grid: tuple[int, int], channels: int) -> Tensor:
    """Positions of the patches of an image as sine and cosine waves, row by row, (h * w, channels) in float32.

    The first half of the channels tells columns, the second rows, each in `channels / 4` wavelengths from 2 pi to
    20,000 pi patches. As in MAE (https://arxiv.org/abs/2111.06377), whose weights depend on the layout.

    Args:
        grid: Rows and columns (h, w).
        channels: A multiple of 4.
    """
    rows, columns = (torch.arange(count, dtype=torch.float64) for count in grid)
    frequencies = 10_000 ** -(torch.arange(channels // 4, dtype=torch.float64) / (channels // 4))
    along = [torch.outer(axis, frequencies) for axis in (columns.repeat(grid[0]), rows.repeat_interleave(grid[1]))]
    return torch.cat([wave for angles in along for wave in (angles.sin(), angles.cos())], dim=1).float()


def resize(maps: Tensor, size: tuple[int, int] | torch.Size, mode: str, antialias: bool = False) -> Tensor:
    """`torch.nn.functional.interpolate(maps, size, mode=mode, antialias=antialias)` as two small matrix products.

    Along each axis the resized map is linear in the original one, so a (T, S) matrix of the filter's weights serves all
    rows. Unlike PyTorch's kernels this is deterministic on CUDA, backwards included, takes half precision, and can be
    exported and compiled with sizes that vary. It costs S instead of 2 to 4 multiply-adds for each value of an axis:
    meant for feature maps and position embeddings, not for images.

    Args:
        maps: (B, C, H, W), of any floating-point dtype; the weights and sums are float32 at least.
        size: H and W of the result.
        mode: "bilinear" or "bicubic".
        antialias: Whether the filter is widened where the map shrinks.

    Returns:
        (B, C, *size) in the dtype of `maps`.
    """
    dtype = torch.promote_types(maps.dtype, torch.float32)
    with without_autocast(maps):
        rows, columns = (
            _weights(source, target, mode, antialias, dtype, maps.device)
            for source, target in zip(maps.shape[-2:], size, strict=True)
        )
        return (rows @ (maps.to(dtype) @ columns.T)).to(maps.dtype)


def pad_to_multiple(images: Tensor, multiple: int) -> Tensor:
    """Pads images (B, C, H, W) with zeros, right and below, to sides that are multiples of a number of pixels."""
    # Written so that the bounds of sizes that vary are seen through it when the model is exported. Without negative
    # numbers, whose quotients ONNX rounds towards zero.
    height, width = ((side + multiple - 1) // multiple * multiple for side in images.shape[-2:])
    return F.pad(images, (0, width - images.shape[-1], 0, height - images.shape[-2]))


def reaching(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """The first H rows and W columns of maps (B, C, h, w); their last ones are repeated where they stop short of it.

    Maps of a student that rounds its grid down end before the image does, where a side is no multiple of the stride.
    """
    height, width = size
    missing = (0, max(0, width - maps.shape[-1]), 0, max(0, height - maps.shape[-2]))
    return F.pad(maps[..., :height, :width], missing, mode="replicate") if any(missing) else maps[..., :height, :width]


def without_autocast(like: Tensor) -> AbstractContextManager[Any]:
    """Keeps matrix products in the dtype of their operands on the device of a tensor."""
    # The meta device knows no autocast.
    return nullcontext() if like.is_meta else torch.autocast(like.device.type, enabled=False)


def match_grid(maps: Tensor, grid: tuple[int, int] | torch.Size, mode: str) -> Tensor:
    """Maps (B, C, H, W) on another grid by `resize`; the same tensor where they are on it already."""
    return maps if maps.shape[-2:] == grid else resize(maps, grid, mode)


def _weights(source: int, target: int, mode: str, antialias: bool, dtype: torch.dtype, device: torch.device) -> Tensor:
    """The share (T, S) of each source position in each target position; rows sum to one.

    Positions are pixel centres of grids that span the same extent. Every step holds for symbolic sizes.
    """
    radius = _RADIUS[mode]
    # Positions beyond the border, which take the value at it, unless the filter is cut there and its rest normalised.
    beyond = 0 if antialias else radius
    sources = torch.arange(-beyond, source + beyond, device=device)
    targets = torch.arange(target, device=device).unsqueeze(1)
    # Distances in units of 1 / (2 T) source positions are whole numbers, so nothing is rounded before the division.
    distance = ((2 * targets + 1) * source - (2 * sources + 1) * target).to(dtype)
    unit: Any = torch.sym_max(source, target) if antialias else target  # an int, or a symbolic one
    weights = _filter(distance / (2 * unit), mode, _ANTIALIASED_SLOPE if antialias else _SLOPE)
    if antialias:
        return weights / weights.sum(1, keepdim=True)
    inside = weights[:, beyond : beyond + source]
    before, after = weights[:, :beyond].sum(1), weights[:, beyond + source :].sum(1)
    edges = torch.arange(source, device=device)
    return inside + before.unsqueeze(1) * (edges == 0) + after.unsqueeze(1) * (edges == source - 1)


def _filter(x: Tensor, mode: str, slope: float) -> Tensor:
    """The weight at distance `x` from the centre: a triangle, or Keys' piecewise cubic with a slope of `slope` at 1."""
    x = x.abs()
    if mode == "bilinear":
        return (1 - x).clamp(min=0)
    near, far = x.clamp(max=1), x.clamp(1, 2)  # each part is zero where the other one holds
    return (1 - near) * (1 + near - (slope + 2) * near * near) + slope * (far - 1) * (2 - far) ** 2
