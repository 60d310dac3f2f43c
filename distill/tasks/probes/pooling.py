"""Features of regions and classes of tokens on the grid of a map.

A pixel belongs to the cell of the grid that it lies in, so a region's feature is the mean over its pixels of the map,
each read at its cell: cells that it covers in part count in part.

Axes: B batch, C channels, S side of the images in pixels, h w grid of the map, K classes.
"""

import torch
from torch import Tensor

from distill.data.class_table import IGNORE


def pool(maps: Tensor, regions: Tensor) -> Tensor:
    """Mean features (B, C) of maps (B, C, h, w) over regions, bool (B, S, S), each with a pixel or more."""
    grid = (maps.shape[-2], maps.shape[-1])
    pixels = _pixels_by_cell(regions.long(), 2, grid)[..., 1].to(maps)
    return torch.einsum("bcn,bn->bc", maps.flatten(2), pixels / pixels.sum(dim=1, keepdim=True))


def token_classes(labels: Tensor, classes: int, grid: tuple[int, int]) -> Tensor:
    """The class of every cell of a grid: the one that covers half of its pixels or more, else `IGNORE`.

    Args:
        labels: Classes of pixels, or `IGNORE`; uint8 (B, S, S).
        classes: K.
        grid: Rows and columns h, w.

    Returns:
        int64 (B, h, w).
    """
    known = torch.where(labels == IGNORE, classes, labels.long())
    counts = _pixels_by_cell(known, classes + 1, grid)
    most, found = counts[..., :classes].max(dim=-1)
    return torch.where(2 * most >= counts.sum(dim=-1), found, IGNORE).view(-1, *grid)


def _pixels_by_cell(values: Tensor, count: int, grid: tuple[int, int]) -> Tensor:
    """How many pixels of each value below `count` every cell has (B, h * w, count), of values (B, S, S)."""
    rows, columns = (
        torch.arange(side, device=values.device) * cells // side
        for side, cells in zip(values.shape[-2:], grid, strict=True)
    )
    cells = rows[:, None] * grid[1] + columns
    counts = torch.zeros(len(values), grid[0] * grid[1] * count, dtype=torch.int64, device=values.device)
    places = (cells * count + values).flatten(1)
    return counts.scatter_add_(1, places, torch.ones_like(places)).view(len(values), -1, count)
