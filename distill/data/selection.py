"""Which training images are held out, and how often each of the others is seen."""

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from distill.errors import UserError

WINDOW = 4  # blocks that are read at a time

T = TypeVar("T")


def hold_out(items: Sequence[T], fraction: float, seed: int) -> tuple[list[T], list[T]]:
    """Splits items into those to train on and those held out, both in their given order.

    Args:
        items: What is split.
        fraction: Share that is held out, 0 to below 1; each part gets at least one item.
        seed: Decides which.

    Raises:
        UserError: A single item cannot be split.
    """
    if fraction == 0:
        return list(items), []
    if len(items) < 2:
        raise UserError(f"val_fraction is {fraction:g}, but there is only {len(items)} training image; set it to 0")
    count = min(max(1, round(fraction * len(items))), len(items) - 1)
    order = torch.randperm(len(items), generator=torch.Generator().manual_seed(seed))
    chosen = set(order[:count].tolist())
    kept = [item for i, item in enumerate(items) if i not in chosen]
    return kept, [item for i, item in enumerate(items) if i in chosen]


def hash_positions(names: Iterable[str], count: int) -> NDArray[np.float64]:
    """A number in [0, 1) for each name (N,), that depends on the name alone.

    What is chosen by it stays chosen when other images come or go.
    """
    hashes = (hashlib.blake2b(name.encode("utf-8", "surrogateescape"), digest_size=6).digest() for name in names)
    return np.fromiter((int.from_bytes(digest, "big") / 2**48 for digest in hashes), np.float64, count)


def hold_out_by_position(
    positions: NDArray[np.float64], fraction: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Splits images into those to train on, in their given order, and those held out, by position.

    Images whose position is below `fraction` are held out: unlike under `hold_out`, an image stays where it is when
    others come or go. Each part gets at least one image where there are two.

    Args:
        positions: See `hash_positions`.
        fraction: Share that is held out, 0 to below 1.

    Returns:
        The numbers of the images of both parts.
    """
    if fraction == 0:
        return np.arange(len(positions)), np.arange(0)
    ordered = positions.argsort(kind="stable")
    count = min(max(int((positions < fraction).sum()), 1), len(ordered) - 1)
    return np.sort(ordered[count:]), ordered[:count]


def block_order(blocks: NDArray[np.int32], generator: torch.Generator) -> Tensor:
    """A shuffle of samples (N,) that reads few blocks at a time, for disks on which far jumps are slow.

    The blocks are shuffled, and cut into windows of `WINDOW`; then the samples of each window are.

    Args:
        blocks: The block that each sample lies in (N,), numbers from 0 on.
        generator: Decides.
    """
    window = torch.randperm(int(blocks.max()) + 1, generator=generator) // WINDOW
    order = torch.randperm(len(blocks), generator=generator)
    return order[window[torch.from_numpy(blocks)[order]].argsort(stable=True)]


def repeat_factors(classes: Sequence[set[int]], threshold: float) -> list[float]:
    """How often each image is to be seen, so that rare classes are: 1 or more.

    A class in a share f of the images asks for max(1, sqrt(threshold / f)), an image for the most any of its classes
    asks for.

    Args:
        classes: The classes in each image.
        threshold: Share of images below which a class counts as rare.

    Source: Gupta, Dollár, Girshick, "LVIS: A Dataset for Large Vocabulary Instance Segmentation", CVPR 2019
    (https://arxiv.org/abs/1908.03195), repeat factor sampling.
    """
    images = Counter(label for found in classes for label in found)
    wanted = {label: max(1.0, math.sqrt(threshold * len(classes) / count)) for label, count in images.items()}
    return [max((wanted[label] for label in found), default=1.0) for found in classes]


def epoch_size(factors: Sequence[float]) -> int:
    """Samples in an epoch in which each image is seen `factors` times on average."""
    return math.ceil(sum(factors) - 1e-9)  # the sum of many ones may be a rounding error above a whole number


def draw_repeats(factors: Sequence[float], seed: int) -> list[tuple[int, int]]:
    """One epoch: (image, which time), images in order.

    Fractions are rounded up or down at random, so that the mean over epochs is right, as in the original. There each
    image is rounded on its own and the epoch's length varies; here all are rounded by one systematic draw, which keeps
    the length that a resumable loader has to know.
    """
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(factors), generator=generator)  # neighbours in the draw must not be so in every epoch
    total = epoch_size(factors)
    ends = torch.tensor(factors, dtype=torch.float64)[order].cumsum(0)
    ends = ends * (total / ends[-1])
    ends[-1] = total
    marks = torch.floor(ends + torch.rand((), generator=generator, dtype=torch.float64))
    counts = torch.empty(len(factors), dtype=torch.int64)
    counts[order] = marks.diff(prepend=torch.zeros(1, dtype=torch.float64)).long()
    return [(image, time) for image, count in enumerate(counts.tolist()) for time in range(count)]
