"""Land cover of a scene from the logits of overlapping tiles.

The logits of a pixel are the weighted mean over the tiles that reach it. The weight of a tile falls linearly towards
its borders, inside overlaps only; where a tile is alone it is 1. The weights of a pixel add up to 1, so that logits
are sums, and a pixel is final as soon as its last tile is there.

A row of tiles becomes a file (`RowBlender`; see `mosaic_file`), in any order and on any machine. `class_blocks` joins
the files: its result depends on nothing else.

Axes: K classes, h w pixels of a tile or a block, H W pixels of the scene.
"""

import itertools
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from distill.data.tiling import Tile, TilePlan
from distill.errors import UserError
from distill.files import write_atomically
from distill.scene.mosaic_file import NO_DATA, RowLayout, RowReader
from distill.scene.writing import Writing

MOST_CLASSES = 255  # uint8, of which one value means no data
_JOINED = 16 * 2**20  # bytes of logits that are joined at once
_TALLEST = 256  # pixel rows of a block


class ClassBlock(NamedTuple):
    """Pixel rows of a class map, of full width.

    Attributes:
        top: Of the block in the scene, in pixels.
        labels: (h, W) uint8, 255 where the scene has no data.
        confidence: (h, W) uint8, the softmax probability of the label times 255, rounded; 0 where the scene has no
            data. None if not asked for.
    """

    top: int
    labels: NDArray[np.uint8]
    confidence: NDArray[np.uint8] | None


def blending_weights(starts: Sequence[int], side: int) -> list[NDArray[np.float32]]:
    """Weights of the tiles along an axis, (side,) each; those of a pixel add up to 1.

    Args:
        starts: First pixel of each tile, rising; up to three tiles or more may reach a pixel.
        side: Of the tiles, in pixels.
    """
    total = np.zeros(starts[-1] + side)
    ramps = []
    for number, start in enumerate(starts):
        ramp = np.ones(side)
        steps = np.arange(side) + 0.5
        if number and (overlap := starts[number - 1] + side - start) > 0:
            ramp = np.minimum(ramp, steps / overlap)
        if number + 1 < len(starts) and (overlap := start + side - starts[number + 1]) > 0:
            ramp = np.minimum(ramp, steps[::-1] / overlap)
        total[start : start + side] += ramp
        ramps.append(ramp)
    return [(ramp / total[start : start + side]).astype(np.float32) for start, ramp in zip(starts, ramps, strict=True)]


class RowBlender(Writing):
    """Writes the file of one row of tiles.

    Holds the logits of the columns that the next tile shares, not those of the row. As a context manager it closes at
    the end, and discards what it wrote after an error.

    Args:
        plan: Of the scene.
        row: Number of the row of tiles.
        classes: K.
        path: The file. It appears when the row is complete; until then a hidden file beside it grows.
        confidence: Whether to keep confidences.

    Raises:
        UserError: More classes than a class map can hold, or the file cannot be written.
    """

    def __init__(self, plan: TilePlan, row: int, classes: int, path: Path, confidence: bool) -> None:
        check_classes(classes)
        self._path, self._layout = path, RowLayout(plan, row, classes, confidence)
        self._rows = blending_weights(plan.tops, self._layout.height)[row]
        self._width = min(plan.tile, plan.width)
        self._columns = blending_weights(plan.lefts, self._width)
        self._open = np.zeros((classes, self._layout.height, 0), np.float32)
        self._next = 0
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        except OSError as error:
            raise self._failure(error) from error
        self._temporary = Path(name)
        self._file = os.fdopen(descriptor, "wb")
        self._write(self._layout.header)

    def add(self, tile: Tile, logits: NDArray[np.float32] | None, valid: NDArray[np.bool_]) -> None:
        """Takes the next tile, from left to right.

        Args:
            tile: Of the plan.
            logits: (K, h, w); None if the tile has no data.
            valid: Which pixels are data (h, w).

        Raises:
            UserError: Logits that are no finite numbers, or the disk is full.
        """
        logits = self._checked(tile, logits, valid)
        reached, (left, right) = self._open.shape[2], self._layout.columns[self._next]
        done = right - left
        spans = [span for span in ((0, min(reached, done)), (min(reached, done), done)) if span[0] < span[1]]
        parts = [self._blended(logits, start, stop) for start, stop in spans]
        for band in self._layout.bands:
            rows = slice(band.start, band.stop)
            write = self._write_logits if band.shared else self._write_labels
            write([part[:, rows] for part in parts], valid[rows, :done], self._rows[rows])
        if right < self._layout.plan.width:
            self._open = self._blended(logits, done, self._width)
        self._next += 1

    def close(self) -> None:
        """Gives the file its name.

        Raises:
            UserError: It cannot be written; an earlier file is kept.
        """
        if self._next != len(self._layout.columns):
            self.discard()
            raise ValueError(f"row {self._layout.row} ends after {self._next} of {len(self._layout.columns)} tiles")
        try:
            self._file.close()
        except OSError as error:
            self.discard()
            raise self._failure(error) from error
        write_atomically(self._path, self._temporary.replace)

    def discard(self) -> None:
        """Removes what was written."""
        try:
            self._file.close()
        except OSError:
            pass  # the disk is full; what could not be written is removed anyway
        finally:
            self._temporary.unlink(missing_ok=True)

    def _checked(self, tile: Tile, logits: NDArray[np.float32] | None, valid: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Logits of the next tile; zeros, which take no memory, if it has no data."""
        row, shape = self._layout.row, (self._layout.classes, self._layout.height, self._width)
        if (tile.row, tile.column) != (row, self._next):
            raise ValueError(f"tile {tile.column} of row {tile.row} came, tile {self._next} of row {row} is next")
        if logits is None:
            if valid.any():
                raise ValueError(f"tile {tile.column} of row {row} has data but no logits")
            return np.broadcast_to(np.float32(0), shape)
        if logits.shape != shape:
            raise ValueError(f"logits have the shape {logits.shape}, the tile {shape}")
        if not np.isfinite(logits).all():
            raise UserError(
                f"the model gives values that are no numbers for the tile at column {tile.left}, row {tile.top} of the "
                "scene; use another checkpoint, or --device cpu"
            )
        return logits

    def _blended(self, logits: NDArray[np.float32], start: int, stop: int) -> NDArray[np.float32]:
        """Weighted logits of columns of the tile, with what the tiles before gave them; a view where it is alone."""
        weights, before = self._columns[self._next][start:stop], self._open[:, :, start:stop]
        if before.shape[2] == 0 and (weights == 1).all():
            return logits[:, :, start:stop]
        blended = logits[:, :, start:stop] * weights
        blended[:, :, : before.shape[2]] += before
        return blended

    def _write_logits(
        self, parts: Sequence[NDArray[np.float32]], valid: NDArray[np.bool_], weights: NDArray[np.float32]
    ) -> None:
        """A band that is shared with another row of tiles."""
        block = np.empty((len(valid), self._layout.classes, valid.shape[1]), np.float32)
        column = 0
        for part in parts:
            np.multiply(part.swapaxes(0, 1), weights[:, None, None], out=block[:, :, column : column + part.shape[2]])
            column += part.shape[2]
        self._write(block)
        self._write(np.packbits(valid, axis=1))

    def _write_labels(self, parts: Sequence[NDArray[np.float32]], valid: NDArray[np.bool_], _: object) -> None:
        """A band that this row of tiles has alone."""
        layers = [classify(part, self._layout.confidence) for part in parts]
        self._write(np.where(valid, np.concatenate([layer[0] for layer in layers], axis=1), np.uint8(NO_DATA)))
        if self._layout.confidence:
            self._write(np.concatenate([layer[1] for layer in layers], axis=1) * valid)

    def _write(self, values: NDArray[np.generic] | bytes) -> None:
        try:
            self._file.write(values if isinstance(values, bytes) else np.ascontiguousarray(values).data)
        except OSError as error:
            self.discard()
            raise self._failure(error) from error

    def _failure(self, error: OSError) -> UserError:
        return UserError(
            f"{self._path} cannot be written ({error.strerror}); free space or permit writing there, or name another "
            "place"
        )


def class_blocks(plan: TilePlan, paths: Sequence[Path], classes: int, confidence: bool) -> Iterator[ClassBlock]:
    """The class map of a scene from the files of its rows of tiles, from top to bottom.

    Args:
        plan: Of the scene.
        paths: The file of each row of tiles.
        classes: K.
        confidence: Whether the files hold confidences.

    Raises:
        UserError: A file is missing, incomplete or belongs to something else.
    """
    layouts = [RowLayout(plan, row, classes, confidence) for row in range(len(plan.tops))]
    side = layouts[0].height
    widest = max(right - left for left, right in layouts[0].columns)
    tallest = max(1, min(_TALLEST, _JOINED // (classes * widest * 4)))
    edges = sorted({*plan.tops, *(top + side for top in plan.tops)})
    for start, stop in itertools.pairwise(edges):
        rows = [row for row, top in enumerate(plan.tops) if top <= start < top + side]
        with ExitStack() as stack:
            readers = [stack.enter_context(RowReader(paths[row], layouts[row])) for row in rows]
            for top in range(start, stop, tallest):
                yield _join(readers, top, min(top + tallest, stop))


def _join(readers: Sequence[RowReader], top: int, bottom: int) -> ClassBlock:
    """Pixel rows of the scene that the same rows of tiles reach."""
    layout = readers[0].layout
    result = np.empty((1 + layout.confidence, bottom - top, layout.plan.width), np.uint8)
    for block, (left, right) in enumerate(layout.columns):
        offsets = [layout.plan.tops[reader.layout.row] for reader in readers]
        if len(readers) == 1:
            for layer, values in enumerate(readers[0].alone(block, top - offsets[0], bottom - offsets[0])):
                result[layer, :, left:right] = values
            continue
        logits, valid = readers[0].shared(block, top - offsets[0], bottom - offsets[0])
        for reader, offset in zip(readers[1:], offsets[1:], strict=True):
            logits += reader.shared(block, top - offset, bottom - offset)[0]
        labels, confidences = classify(logits.swapaxes(0, 1), layout.confidence)
        result[0, :, left:right] = np.where(valid, labels, np.uint8(NO_DATA))
        if layout.confidence:
            result[1, :, left:right] = confidences * valid
    return ClassBlock(top, result[0], result[1] if layout.confidence else None)


def classify(logits: NDArray[np.float32], confidence: bool) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The class of each pixel and its confidence, see `ClassBlock`; the confidence is empty if not asked for.

    Of equal logits the first class counts.

    Args:
        logits: (K, h, w).
        confidence: Whether to compute it.
    """
    best = logits[0].copy()
    labels = np.zeros(best.shape, np.uint8)
    for label in range(1, len(logits)):  # many times faster than argmax over the first axis, or than masked writes
        better = (logits[label] > best).view(np.uint8)
        np.maximum(labels, better * np.uint8(label), out=labels)
        np.maximum(best, logits[label], out=best)
    if not confidence:
        return labels, np.empty((0, 0), np.uint8)
    total = np.zeros_like(best)
    for layer in logits:
        total += np.exp(layer - best)
    return labels, np.round(np.float32(255) / total).astype(np.uint8)


def check_classes(classes: int) -> None:
    """Raises:
    UserError: More classes than a class map can hold.
    """
    if classes > MOST_CLASSES:
        raise UserError(
            f"the model has {classes} classes; a class map holds {MOST_CLASSES} at most: train with fewer, or merge "
            "some in data.classes"
        )
