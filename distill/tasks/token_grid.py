"""Tokens of an image as a grid.

Axes: B batch, N tokens, H W the target's grid.
"""

from torch import Tensor, nn


def to_grid(tokens: Tensor, images: Tensor, grid: tuple[int, int]) -> Tensor:
    """Spreads a value of each token (B, N), row by row, over a grid (B, H, W) by area."""
    batch, count = tokens.shape
    rows = token_rows(count, images)
    token_map = tokens.view(batch, 1, rows, count // rows).float()
    return nn.functional.interpolate(token_map, grid, mode="area")[:, 0]


def token_rows(count: int, images: Tensor) -> int:
    """In how many rows `count` tokens cover the images."""
    height, width = images.shape[-2:]
    return round((count * height / width) ** 0.5)
