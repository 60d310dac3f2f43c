"""Tokens of an image as a grid.

Axes: B batch, N tokens, H W the target's grid.
"""

from torch import Tensor, nn


def to_grid(tokens: Tensor, images: Tensor, grid: tuple[int, int]) -> Tensor:
    """Spreads a value of each token (B, N), row by row, over a grid (B, H, W) by area."""
    batch, count = tokens.shape
    height, width = images.shape[-2:]
    token_map = tokens.view(batch, 1, *token_grid(count, (height, width))).float()
    return nn.functional.interpolate(token_map, grid, mode="area")[:, 0]


def token_grid(count: int, image_size: tuple[int, int]) -> tuple[int, int]:
    """In how many rows and columns `count` square tokens cover an image of (H, W) pixels."""
    height, width = image_size
    rows = round((count * height / width) ** 0.5)
    return rows, count // rows
