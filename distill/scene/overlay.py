"""Draws predictions over a picture of the scene; memory depends only on the size of the picture.

Axes: H W pixels of the scene, h w of the picture.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from distill.colours import class_colour, class_rgb
from distill.data.ignore import IGNORE
from distill.data.zoom import Zoom
from distill.patch import Patch
from distill.scene.detections import Detection
from distill.scene.legend import with_legend

LONGEST = 2048  # pixels of a picture
_SHORTEST = 768  # pixels of the longer side: a smaller scene is enlarged, so that outlines are thin beside its objects
_FILLED = 0.3  # share of the colour inside an object; its outline has the colour itself
_CLASSES = 0.45  # the same of a class of pixels


class Overlay:
    """A picture of a scene with the outlines of objects, or with the classes of its pixels.

    Args:
        picture: The scene as uint8 RGB (3, h, w); what is larger than `LONGEST` is shrunk.
        size: Height and width of the scene.
        class_names: Classes in label order.
    """

    def __init__(self, picture: NDArray[np.uint8], size: tuple[int, int], class_names: Sequence[str]) -> None:
        self._canvas = _fitted(np.ascontiguousarray(np.moveaxis(picture, 0, 2)))
        height, width = self._canvas.shape[:2]
        self._size, self._names = size, list(class_names)
        self._line = 2 if max(height, width) > 640 else 1
        self._colours = (class_rgb(len(self._names)) * 255).round()
        shrunk = size[0] > height or size[1] > width
        self._shown = _Shrunk(size, (height, width)) if shrunk else Zoom((0, 0, *size), (height, width))
        self._rows, self._columns = _middles(size[0], height), _middles(size[1], width)
        self._labels: NDArray[np.uint8] | None = None
        self._counts = np.zeros(len(self._names), np.int64)

    def add(self, detections: Iterable[Detection]) -> None:
        """Draws objects."""
        for detection in detections:
            self._counts[detection.label] += 1
            patch = self._shown(detection.mask) or self._speck(detection.mask)
            rows, columns = patch.pixels.shape
            under = self._canvas[patch.top : patch.top + rows, patch.left : patch.left + columns]
            colour = self._colours[detection.label]
            inside = patch.pixels.astype(bool)
            under[inside] = _mixed(under[inside], colour, _FILLED)
            under[inside & ~_inner(inside, self._line)] = colour

    def add_block(self, top: int, labels: NDArray[np.uint8]) -> None:
        """Draws whole rows of the scene.

        Args:
            top: The first row.
            labels: Classes (n, W); 255 has none.
        """
        if self._labels is None:
            self._labels = np.full(self._canvas.shape[:2], IGNORE, np.uint8)
        for row in labels:  # one at a time, because counting makes eight bytes of each pixel
            self._counts += np.bincount(row[row != IGNORE], minlength=len(self._names))
        first, end = np.searchsorted(self._rows, (top, top + len(labels)))
        self._labels[first:end] = labels[np.ix_(self._rows[first:end] - top, self._columns)]

    def pixels(self) -> NDArray[np.uint8]:
        """The picture so far, RGB (h, w, 3)."""
        if self._labels is None:
            return self._canvas.copy()
        table = class_rgb(IGNORE)[np.minimum(self._labels, IGNORE - 1)] * 255
        shown = _mixed(self._canvas, table, _CLASSES)
        border = _borders(self._labels, self._line)
        shown[border] = table[border].round()
        shown[self._labels == IGNORE] = self._canvas[self._labels == IGNORE]
        return shown

    def save(self, path: Path) -> None:
        """Writes the picture with the classes it shows below it: as PNG where the name ends so, else as JPEG.

        Raises:
            OSError: The file cannot be written.
        """
        counts, of_pixels = self._counts, self._labels is not None
        entries = {
            self._names[label]: (class_colour(label), _amount(int(counts[label]), counts.sum() if of_pixels else None))
            for label in np.flatnonzero(counts).tolist()
        }
        image = with_legend(self.pixels(), entries or {"nothing found": ("#808080", "")})
        if path.suffix.lower() == ".png":
            image.save(path, "PNG")
        else:
            image.save(path, "JPEG", quality=90, subsampling=0)  # else lines of a pixel lose their colour

    def _speck(self, patch: Patch) -> Patch:
        """A dot in place of an object that covers half of no pixel of the picture."""
        height, width = self._canvas.shape[:2]
        rows, columns = patch.pixels.shape
        y = min(int((patch.top + rows / 2) * height / self._size[0]), height - 1)
        x = min(int((patch.left + columns / 2) * width / self._size[1]), width - 1)
        top, left = max(y - 1, 0), max(x - 1, 0)
        return Patch(top, left, np.ones((min(y + 2, height) - top, min(x + 2, width) - left), np.uint8))


class _Shrunk:
    """Masks in a picture with fewer pixels than the scene: the pixels that an object covers by half or more.

    The same as `Zoom` but for single pixels, and ten times as fast: every pixel of the scene counts for one pixel of
    the picture, the one its middle lies in.
    """

    def __init__(self, size: tuple[int, int], shown: tuple[int, int]) -> None:
        self._of = [((np.arange(n) + 0.5) * m / n).astype(np.int64) for n, m in zip(size, shown, strict=True)]
        self._covered = [np.bincount(of, minlength=m) for of, m in zip(self._of, shown, strict=True)]

    def __call__(self, patch: Patch) -> Patch | None:
        """The object in pixels of the picture; None if it covers half of none."""
        rows = self._of[0][patch.top : patch.top + patch.pixels.shape[0]]
        columns = self._of[1][patch.left : patch.left + patch.pixels.shape[1]]
        y, x = rows[0], columns[0]
        sums = np.add.reduceat(patch.pixels, np.searchsorted(rows, np.arange(y, rows[-1] + 1)), axis=0, dtype=np.int32)
        sums = np.add.reduceat(sums, np.searchsorted(columns, np.arange(x, columns[-1] + 1)), axis=1)
        heights, widths = self._covered[0][y : rows[-1] + 1], self._covered[1][x : columns[-1] + 1]
        pixels = (2 * sums >= np.outer(heights, widths)).astype(np.uint8)
        return Patch(int(y), int(x), pixels) if pixels.any() else None


def _fitted(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A picture (h, w, 3), shrunk if it is large and enlarged by a whole number if it is small; memory of its own."""
    height, width = picture.shape[:2]
    longest = max(height, width)
    times = min(1.0, LONGEST / longest) * max(1, _SHORTEST // longest)
    size = (max(1, round(width * times)), max(1, round(height * times)))
    return np.array(Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC))


def _middles(length: int, shown: int) -> NDArray[np.int64]:
    """The pixel of the scene in the middle of each pixel of the picture, along one side."""
    return ((np.arange(shown) + 0.5) * length / shown).astype(np.int64)


def _mixed(under: NDArray[np.uint8], colour: NDArray[np.floating], share: float) -> NDArray[np.uint8]:
    return ((1 - share) * under.astype(np.float32) + np.float32(share) * colour).round().astype(np.uint8)


def _inner(inside: NDArray[np.bool_], line: int) -> NDArray[np.bool_]:
    """The pixels of a mask that lie `line` pixels or more behind its outline."""
    wide = np.zeros((inside.shape[0] + 2, inside.shape[1] + 2), bool)
    for _ in range(line):
        wide[1:-1, 1:-1] = inside
        inside = inside & wide[:-2, 1:-1] & wide[2:, 1:-1] & wide[1:-1, :-2] & wide[1:-1, 2:]
    return inside


def _borders(labels: NDArray[np.uint8], line: int) -> NDArray[np.bool_]:
    """The pixels that have another class within `line` pixels below or to the right."""
    border = np.zeros(labels.shape, bool)
    for step in range(1, line + 1):
        border[:-step] |= labels[:-step] != labels[step:]
        border[:, :-step] |= labels[:, :-step] != labels[:, step:]
    return border


def _amount(count: int, pixels: int | None) -> str:
    """How much of a class there is: objects, or a share of the pixels that have a class."""
    if pixels is None:
        return f"{count:,}"
    share = 100 * count / pixels
    return f"{share:.1f} %" if share >= 0.1 else "< 0.1 %"
