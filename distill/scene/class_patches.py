"""Which patches of one class a class map consists of, across strips, and without those that are too small.

A class map is read in strips of pixel rows. The pixels of a strip that are connected over edges and of one class are a
piece; pieces of different strips that meet belong to one patch. No data counts as a class, so that patches cover the
map. Memory grows with the number of pieces and of their borders, not with the number of pixels.

Axes: h W pixels of a strip, M pieces, N patches, E borders between two of them.
"""

import heapq
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from distill.scene.mosaic_file import NO_DATA


class Borders(NamedTuple):
    """Which regions meet: numbers of two regions, and the length of their border in pixels; (E,) each."""

    one: NDArray[np.int64]
    other: NDArray[np.int64]
    length: NDArray[np.int64]


@dataclass(frozen=True)
class Patches:
    """Patches of a class map.

    Attributes:
        labels: Class of each patch, uint8 (N,), in the order of their first pixels.
        owners: Patch of each piece, int32 (M,).
        starts: Number of the first piece of each strip, and M.
        first: First strip of each patch (N,).
        last: Last strip of each patch (N,).
    """

    labels: NDArray[np.uint8]
    owners: NDArray[np.int32]
    starts: Sequence[int]
    first: NDArray[np.int64]
    last: NDArray[np.int64]

    def image(self, strip: int, labels: NDArray[np.uint8]) -> NDArray[np.int32]:
        """The patch of each pixel of a strip (h, W)."""
        pieces, _ = find_pieces(labels)
        return self.owners[self.starts[strip] : self.starts[strip + 1]][pieces]


def find_pieces(labels: NDArray[np.uint8]) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
    """The piece of each pixel of a strip (h, W), and the class of each piece."""
    pieces = np.empty(labels.shape, np.int32)
    classes: list[NDArray[np.uint8]] = []
    count = 0
    for label in np.flatnonzero(np.bincount(labels.ravel(), minlength=NO_DATA + 1)).tolist():
        inside = (labels == label).view(np.uint8)
        found, numbers = cv2.connectedComponents(inside, connectivity=4, ltype=cv2.CV_32S)
        numbers += count - 1
        np.copyto(pieces, numbers, where=inside.view(bool))
        classes.append(np.full(found - 1, label, np.uint8))
        count += found - 1
    return pieces, np.concatenate(classes)


def find_patches(strips: Iterable[NDArray[np.uint8]], least: Sequence[float]) -> Patches:
    """The patches of a class map.

    A patch that is too small takes the class with which it shares the longest border, the smallest patch first, and
    becomes part of all its neighbours of that class. No patch joins what has no data; one without other neighbours
    stays.

    Args:
        strips: Labels (h, W), from top to bottom.
        least: Of each strip, the number of pixels from which on a patch that starts there is large enough.
    """
    starts, areas, classes, merged, borders, corners, pixels = [0], [], [], [], [], [], 0
    above: tuple[NDArray[np.int64], NDArray[np.uint8]] | None = None
    smoothing = any(number > 1 for number in least)
    for labels in strips:
        pieces, kinds = find_pieces(labels)
        areas.append(np.bincount(pieces.ravel(), minlength=len(kinds)))
        classes.append(kinds)
        corners.append(_first_pixels(pieces, len(kinds)) + pixels)
        pixels += pieces.size
        if smoothing:
            borders.append(_borders_within(pieces, starts[-1]))
        row = pieces[0].astype(np.int64) + starts[-1]
        if above is not None:
            same = above[1] == labels[0]
            merged.append(_pairs(above[0][same], row[same])[:2])
            if smoothing:
                borders.append(_pairs(above[0][~same], row[~same]))
        above = pieces[-1].astype(np.int64) + starts[-1], labels[-1].copy()
        starts.append(starts[-1] + len(kinds))
    strip_of = np.repeat(np.arange(len(areas)), np.diff(starts))
    one, other = (np.concatenate([np.zeros(0, np.int64), *(pair[side] for pair in merged)]) for side in (0, 1))
    graph = sparse.coo_array((np.ones(len(one), bool), (one, other)), shape=(starts[-1], starts[-1]))
    count, owners = connected_components(graph, directed=False)
    first_pixel = np.full(count, pixels, np.int64)
    np.minimum.at(first_pixel, owners, np.concatenate(corners))
    owners = np.argsort(np.argsort(first_pixel)).astype(np.int32)[owners]  # numbers that no strip has a say in
    label = np.zeros(count, np.uint8)
    label[owners] = np.concatenate(classes)
    first = _first(owners, count, strip_of)
    if smoothing:
        area = np.bincount(owners, np.concatenate(areas), count).astype(np.int64)
        meeting = Borders(*(np.concatenate(column) for column in zip(*borders, strict=True)))
        meeting = _pairs(owners[meeting.one], owners[meeting.other], meeting.length)
        roots = _absorb(area, label, np.asarray(least)[first], meeting)
        kept, owner = np.unique(roots, return_inverse=True)
        owners, label, count = owner.astype(np.int32)[owners], label[kept], len(kept)
        first = _first(owners, count, strip_of)
    last = np.zeros(count, np.int64)
    last[owners] = strip_of  # the last piece of a patch is written last
    return Patches(label, owners, starts, first, last)


def _first(owners: NDArray[np.int32], count: int, strip_of: NDArray[np.int64]) -> NDArray[np.int64]:
    first = np.zeros(count, np.int64)
    first[owners[::-1]] = strip_of[::-1]
    return first


def _first_pixels(pieces: NDArray[np.int32], count: int) -> NDArray[np.int64]:
    """Where each piece of a strip begins, counted in pixels, row by row."""
    begins = np.ones(pieces.shape, bool)
    begins[:, 1:] = pieces[:, 1:] != pieces[:, :-1]
    places = np.flatnonzero(begins)[::-1]
    first = np.zeros(count, np.int64)
    first[pieces.ravel()[places]] = places  # the first place of a piece is written last
    return first


def _borders_within(pieces: NDArray[np.int32], start: int) -> Borders:
    """Between the pieces of a strip, the first of which has the number `start`."""
    found = []
    for before, after in ((pieces[:, :-1], pieces[:, 1:]), (pieces[:-1], pieces[1:])):
        differ = before != after
        found.append((before[differ].astype(np.int64) + start, after[differ].astype(np.int64) + start))
    return _pairs(*(np.concatenate(side) for side in zip(*found, strict=True)))


def _pairs(one: NDArray[np.integer], other: NDArray[np.integer], length: NDArray[np.int64] | None = None) -> Borders:
    """Distinct pairs and the sum of their lengths, by default how often they occur."""
    code = np.minimum(one, other).astype(np.int64) << 32 | np.maximum(one, other).astype(np.int64)
    distinct, place, count = np.unique(code, return_inverse=True, return_counts=True)
    if length is not None:
        count = np.bincount(place, length, len(distinct)).astype(np.int64)
    return Borders(distinct >> 32, distinct & 0xFFFFFFFF, count)


def _absorb(
    area: NDArray[np.int64], label: NDArray[np.uint8], least: NDArray[np.float64], borders: Borders
) -> NDArray[np.int64]:
    """The patch that each patch becomes part of, the first of those that join; their class is set in `label`."""
    small = (area < least) & (label != NO_DATA)
    # Neighbours of small patches: those of patch i are `ends` and `lengths` from starts[i] to starts[i + 1].
    source = np.concatenate([borders.one, borders.other])
    wanted = np.flatnonzero(small[source] & (label[np.concatenate([borders.other, borders.one])] != NO_DATA))
    wanted = wanted[np.argsort(source[wanted], kind="stable")]
    ends = array("q", np.concatenate([borders.other, borders.one])[wanted].tobytes())
    lengths = array("q", np.concatenate([borders.length, borders.length])[wanted].tobytes())
    starts = array("q", np.searchsorted(source[wanted], np.arange(len(area) + 1)).astype(np.int64).tobytes())
    parent, size = array("q", range(len(area))), array("q", area.tobytes())
    parts: dict[int, list[int]] = {}  # small patches that a patch, still too small, consists of

    def find(patch: int) -> int:
        while parent[patch] != patch:
            parent[patch] = patch = parent[parent[patch]]
        return patch

    waiting = [(size[patch], patch) for patch in np.flatnonzero(small).tolist()]
    heapq.heapify(waiting)
    while waiting:
        pixels, patch = heapq.heappop(waiting)
        if parent[patch] != patch or size[patch] != pixels:
            continue
        shared: dict[int, int] = {}
        touching: dict[int, set[int]] = {}
        for part in parts.get(patch, [patch]):
            for place in range(starts[part], starts[part + 1]):
                neighbour = find(ends[place])
                if neighbour != patch:
                    kind = int(label[neighbour])
                    shared[kind] = shared.get(kind, 0) + lengths[place]
                    touching.setdefault(kind, set()).add(neighbour)
        if not shared:
            continue
        kind = min(shared, key=lambda kind: (-shared[kind], kind))
        joined = sorted({patch, *touching[kind]})
        root = joined[0]
        pixels = sum(size[member] for member in joined)
        for member in joined:
            parent[member] = root
        size[root], label[root] = pixels, kind
        if pixels < least[root] and small[joined].all():
            parts[root] = [part for member in joined for part in parts.pop(member, [member])]
            heapq.heappush(waiting, (pixels, root))
    return np.array([find(patch) for patch in range(len(area))], np.int64)
