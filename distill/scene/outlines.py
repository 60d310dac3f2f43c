"""Masks as polygons along the edges of their pixels.

Axes: N masks, M corners of outlines, R rings. Coordinates are (column, row) in pixels of the scene; the corners of
pixels are whole numbers.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import shapely
from numpy.typing import NDArray
from scipy import ndimage

from distill.patch import Patch

Polygons = NDArray[np.object_]  # (N,) of shapely's Polygon and MultiPolygon

_STACK = 1 << 20  # pixels that are traced at once


def outlines(masks: Sequence[Patch]) -> Polygons:
    """The exact polygons of masks, valid and with holes; their area is the number of pixels.

    Pixels that touch at a corner only lie in different parts of a MultiPolygon. Exteriors run counter-clockwise by
    coordinates (clockwise on a screen). A mask without pixels gives an empty polygon.

    They equal those of `rasterio.features.shapes` with connectivity 4, at a tenth of the time for objects of a few
    dozen pixels (`benchmarks/scene_polygons.py`): many masks are traced at once.
    """
    found = np.full(len(masks), shapely.Polygon(), object)
    for numbers in _stacks(masks):
        found[numbers] = _trace([masks[number] for number in numbers])
    return found


def _stacks(masks: Sequence[Patch]) -> Iterator[NDArray[np.int64]]:
    """Numbers of masks that are traced at once: such of similar width, one above the other."""
    heights, widths = (np.array([mask.pixels.shape[axis] for mask in masks], np.int64) for axis in (0, 1))
    order = np.argsort(widths, kind="stable")
    first, height = 0, 0
    for place, number in enumerate(order):
        height += heights[number]
        if place > first and height * widths[number] > _STACK:
            yield order[first:place]
            first, height = place, heights[number]
    if len(order) > first:
        yield order[first:]


def _trace(masks: Sequence[Patch]) -> list[shapely.Polygon | shapely.MultiPolygon]:
    """Outlines of masks that are laid out one above the other, with empty pixels between them."""
    tops = np.cumsum([0, *(mask.pixels.shape[0] + 1 for mask in masks)]) + 1
    stack = np.zeros((tops[-1], max(mask.pixels.shape[1] for mask in masks) + 2), bool)
    for mask, top in zip(masks, tops, strict=False):
        stack[top : top + mask.pixels.shape[0], 1 : 1 + mask.pixels.shape[1]] = mask.pixels
    components, _ = ndimage.label(stack)
    rows, columns, below = _corners(stack, components)
    order, lengths = _rings(below.tolist())
    starts = np.cumsum([0, *lengths])[:-1]
    # A ring goes from its first corner to the right: along the top of a part of a mask, or along the top of a hole.
    row, column = rows[order[starts]], columns[order[starts]]
    owner = np.maximum(components[row, column], components[row - 1, column])  # one of them is 0
    mask_of_ring = np.searchsorted(tops, row, side="right") - 1
    shifts = np.array([(mask.left - 1, mask.top - top) for mask, top in zip(masks, tops, strict=False)])
    points = np.stack([columns[order], rows[order]], axis=1) + np.repeat(shifts[mask_of_ring], lengths, axis=0)
    rings = shapely.linearrings(points, indices=np.repeat(np.arange(len(lengths)), lengths))
    # The outline of a part begins above its holes, so it is the first ring with this owner.
    _, first, inverse = np.unique(owner, return_index=True, return_inverse=True)
    exterior, part = np.unique(first[inverse], return_inverse=True)
    together = np.argsort(part, kind="stable")
    polygons = shapely.orient_polygons(shapely.polygons(rings[together], indices=part[together]))
    bounds = np.searchsorted(mask_of_ring[exterior], np.arange(len(masks) + 1))
    return [_whole(polygons[start:end]) for start, end in pairwise(bounds)]


def _whole(parts: Polygons) -> shapely.Polygon | shapely.MultiPolygon:
    return parts[0] if len(parts) == 1 else shapely.MultiPolygon(parts.tolist())


def _corners(
    stack: NDArray[np.bool_], components: NDArray[np.int32]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Where outlines turn, row by row: row (M,), column (M,), and the corner at the other end of the vertical edge.

    The corner at the other end of the horizontal edge is the neighbour in this order: 0 and 1, 2 and 3, ...

    Where two pixels touch at a corner only, two outlines meet, and the point counts twice: first as the right end of
    an edge, then as the left end of another. Pixels of different parts are kept apart there, and so are the two holes
    beside pixels of one part, so that no ring touches itself.
    """
    north_west, north_east, south_west, south_east = stack[:-1, :-1], stack[:-1, 1:], stack[1:, :-1], stack[1:, 1:]
    double = (north_west == south_east) & (north_east == south_west) & (north_west != north_east)
    turns = np.flatnonzero((north_west ^ north_east ^ south_west ^ south_east) | double)
    rows, columns = np.divmod(turns, stack.shape[1] - 1)
    rows, columns = rows + 1, columns + 1
    twice = double[rows - 1, columns - 1]
    row, column = rows[twice], columns[twice]
    falling = stack[row, column]  # the pixels at the top left and bottom right; else the others
    one_part = np.where(
        falling,
        components[row - 1, column - 1] == components[row, column],
        components[row - 1, column] == components[row, column - 1],
    )
    copies = np.repeat(np.arange(len(rows)), np.where(twice, 2, 1))
    second = np.append(False, copies[1:] == copies[:-1])
    # Of the two corners at a point, the first goes up if it lies around the top left pixel, and down if around the
    # one at the bottom left.
    first_up = np.zeros(len(rows), bool)
    first_up[twice] = falling != one_part
    downwards = second == first_up[copies]
    rows, columns = rows[copies], columns[copies]
    by_column = np.lexsort([downwards, rows, columns])
    below = np.empty(len(rows), np.int64)
    below[by_column[0::2]], below[by_column[1::2]] = by_column[1::2], by_column[0::2]
    return rows, columns, below


def _rings(below: list[int]) -> tuple[NDArray[np.int64], list[int]]:
    """The corners of every ring, one ring after the other, and how many each has. A ring begins at its first corner."""
    order: list[int] = []
    lengths: list[int] = []
    seen = bytearray(len(below))
    for start in range(0, len(below), 2):
        if seen[start]:
            continue
        before, corner = len(order), start
        while True:
            other = corner ^ 1
            seen[corner] = seen[other] = 1
            order += (corner, other)
            corner = below[other]
            if corner == start:
                break
        lengths.append(len(order) - before)
    return np.array(order, np.int64), lengths
