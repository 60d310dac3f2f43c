"""Which tokens are masked: the first ones of an order that is random, guided by the teacher, or one of blocks.

An order is given by keys (B, N): the token with the smallest key is the first. The first n tokens of an order are
masked, so that fractions are exact with every shape and guide.

Axes: B batch, N tokens on a grid of (h, w), K blocks, C H W the teacher's map.
"""

import math

import torch
from torch import Tensor, nn

# A token of the highest energy is chosen e^6 = 400 times as often as one of the lowest, where both are left.
_SHARPNESS = 6.0


def ranks(keys: Tensor) -> Tensor:
    """The place of each token (B, N) in the order of its image."""
    return keys.argsort(dim=1).argsort(dim=1)


def energy(target: Tensor, grid: tuple[int, int]) -> Tensor:
    """How much tokens matter to the teacher (B, N): the mean squared departure of its map from the image's mean.

    A proxy of attention, which guides masks in AttMask (Kakogeorgiou et al., arXiv 2203.12719): positions that repeat
    the image's average have none.

    Args:
        target: The teacher's map (B, C, H, W).
        grid: Rows and columns of the tokens.
    """
    target = target.detach().float()
    departure = (target - target.mean(dim=(2, 3), keepdim=True)).square().mean(dim=1, keepdim=True)
    return nn.functional.adaptive_avg_pool2d(departure, grid).flatten(1)


def guided(keys: Tensor, energies: Tensor, guide: str) -> Tensor:
    """An order that prefers tokens of high or low energy.

    Successive draws without replacement, with odds of exp(6 q), where q is the token's rank by energy from 0 to 1:
    ranks, so that the odds do not depend on the scale of the teacher's maps. The draw is one of exponential arrival
    times (Efraimidis and Spirakis, 2006).

    Args:
        keys: Uniform in [0, 1), (B, N).
        energies: (B, N).
        guide: "high" or "low".
    """
    share = ranks(energies) / max(energies.shape[1] - 1, 1)
    if guide == "low":
        share = 1 - share
    return -torch.log1p(-keys) / torch.exp(_SHARPNESS * share)


def blocks(
    keys: Tensor, grid: tuple[int, int], area: tuple[float, float], aspect: tuple[float, float], fraction: float
) -> Tensor:
    """An order in which the tokens of one block follow those of another, each block from its centre outwards.

    Blocks are rectangles of random size, as in BEiT (arXiv 2106.08254) and I-JEPA (arXiv 2301.08243), centred on the
    first tokens of another order and moved inside the image. They may overlap. The last block that a mask takes is cut
    off so that its fraction is exact.

    Args:
        keys: The order of the centres (B, N): random or guided.
        grid: Rows and columns (h, w) of the tokens.
        area: Smallest and largest area of a block, as a fraction of the image.
        aspect: Smallest and largest height over width.
        fraction: Largest fraction of tokens that is masked, for which there must be enough blocks.
    """
    rows, columns = grid
    batch, count = keys.shape
    number = min(count, enough_blocks(fraction, area[0]))
    centres = keys.argsort(dim=1)[:, :number, None]  # (B, K, 1)
    sizes = torch.rand(2, batch, number, 1, device=keys.device)
    areas = count * (area[0] + (area[1] - area[0]) * sizes[0])
    low, high = (math.log(bound) for bound in aspect)
    ratios = torch.exp(low + (high - low) * sizes[1])
    height = (areas * ratios).sqrt().round().clamp(1, rows)
    width = (areas / height).round().clamp(1, columns)
    height = (areas / width).round().clamp(1, rows)  # the area counts more than the aspect
    row, column = centres // columns, centres % columns
    top = torch.minimum((row - height // 2).clamp_min(0), rows - height)
    left = torch.minimum((column - width // 2).clamp_min(0), columns - width)
    token = torch.arange(count, device=keys.device)
    own_row, own_column = token // columns, token % columns
    inside = (own_row >= top) & (own_row < top + height) & (own_column >= left) & (own_column < left + width)
    # The first block that has a token owns it; what no block has comes last.
    owner = torch.where(inside, torch.arange(number, device=keys.device)[:, None], number).amin(dim=1)  # (B, N)
    nearest = owner.clamp_max(number - 1)
    away = (own_row - row[..., 0].gather(1, nearest)).abs() + (own_column - column[..., 0].gather(1, nearest)).abs()
    return (owner * (rows + columns) + away) * count + token  # no two keys are equal


def enough_blocks(fraction: float, area: float) -> int:
    """How many blocks of at least `area` cover a fraction of the image for certain enough: three times the mean.

    Where they do not, the nearest tokens to the last block are masked as well.
    """
    fraction, area = min(fraction, 0.95), min(area, 0.95)
    return 2 + math.ceil(3 * math.log(1 - fraction) / math.log(1 - area))
