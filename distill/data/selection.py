"""Which training images are held out, and how often each of the others is seen."""

import hashlib
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import torch

from distill.errors import UserError

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


def hold_out_by_name(root: Path, paths: Sequence[Path], fraction: float) -> tuple[list[Path], list[Path]]:
    """Splits files into those to train on, in their given order, and those held out, in the order of `by_name`.

    A file is held out if a hash of its name, a number from 0 to 1, is below `fraction`: unlike under `hold_out`, it
    stays where it is when other files come or go. Each part gets at least one file where there are two.

    Args:
        root: Folder that names are relative to.
        paths: What is split.
        fraction: Share that is held out, 0 to below 1.
    """
    ordered = by_name(root, paths)
    if fraction == 0:
        return list(paths), []
    count = sum(_position(root, path) < fraction for path in ordered)
    count = min(max(count, 1), len(ordered) - 1)
    held_out = set(ordered[:count])
    return [path for path in paths if path not in held_out], ordered[:count]


def by_name(root: Path, paths: Sequence[Path]) -> list[Path]:
    """Files by a hash of their names relative to `root`: a shuffle that does not depend on what else is there."""
    return sorted(paths, key=lambda path: _position(root, path))


def _position(root: Path, path: Path) -> float:
    """A number in [0, 1) that depends on the relative name alone."""
    name = path.relative_to(root).as_posix().encode()
    return int.from_bytes(hashlib.blake2b(name, digest_size=6).digest(), "big") / 2**48


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
