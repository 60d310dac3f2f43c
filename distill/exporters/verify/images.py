"""Images on which an exported file is compared with its run.

Axes: H W pixels of an image, S side of the network's view.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]  # RGB (3, H, W)

_SIDES = (1.0, 0.75, 1.25, 1.5)  # of the run's own view; an export with a size baked in fails at the second


@dataclass(frozen=True)
class CheckImage:
    """An image, and the view that both networks get of it.

    Attributes:
        name: What it is, for messages.
        pixels: (3, H, W); its longer side is that of the view, so that neither resamples it.
        side: Side of the square view, in pixels: one that the file takes.
    """

    name: str
    pixels: Pixels
    side: int


def check_images(photographs: Sequence[Pixels], side: int, stride: int, least: int = 1) -> list[CheckImage]:
    """Parts of real images at four sizes, one that is not square, one without any object and one with many.

    Args:
        photographs: Real images of any sizes, at least one.
        side: S of the run.
        stride: Sides of views are multiples of it.
        least: The least side of a view that the file takes, in pixels; a run of smaller views is checked from it on.
    """
    least += -least % stride
    own = max(_multiple(side, stride), least)
    wanted = [own, *(_multiple(factor * own, stride) for factor in _SIDES[1:])]
    larger = (own + extra * stride for extra in range(1, len(_SIDES)))  # where the view has few strides
    sides = [one for one in dict.fromkeys([*wanted, *larger]) if one >= least][: len(_SIDES)]
    images = [
        CheckImage(f"{one} px", crop(photographs[index % len(photographs)], one, one), one)
        for index, one in enumerate(sides)
    ]
    short = max(least, round(0.6 * own) - 1)
    long = max(own, short + stride)
    wide = crop(photographs[-1], short, long)
    # Not of one value: a detector ranks equal scores in the order of PyTorch's sort, which is arbitrary.
    empty = np.random.default_rng(0).integers(126, 130, (3, own, own), np.uint8)
    return [
        *images,
        CheckImage(f"{long} px, not square", wide, long),
        CheckImage(f"{own} px, grey", empty, own),
        CheckImage(f"{own} px, crowded", _mosaic(photographs, own), own),
    ]


def _multiple(value: float, stride: int) -> int:
    return max(1, round(value / stride)) * stride


def crop(pixels: Pixels, height: int, width: int) -> Pixels:
    """The middle (3, height, width) of an image, mirrored beyond its borders where it is smaller."""
    for axis, wanted in ((1, height), (2, width)):
        length = pixels.shape[axis]
        if length < wanted:
            before = (wanted - length) // 2
            padding = [(0, 0)] * 3
            padding[axis] = (before, wanted - length - before)
            pixels = np.pad(pixels, padding, mode="symmetric")
        first = (pixels.shape[axis] - wanted) // 2
        pixels = np.take(pixels, range(first, first + wanted), axis=axis)
    return np.ascontiguousarray(pixels)


def _mosaic(photographs: Sequence[Pixels], side: int) -> Pixels:
    """Sixteen parts of images at half their resolution: more objects than an image has."""
    quarter = side // 4
    canvas = np.zeros((3, side, side), np.uint8)
    for place in range(16):
        top, left = quarter * (place // 4), quarter * (place % 4)
        part = crop(photographs[place % len(photographs)][:, ::2, ::2], quarter, quarter)
        canvas[:, top : top + quarter, left : left + quarter] = part
    return canvas
