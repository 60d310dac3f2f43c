"""A scene: an image or raster of any size, as 8-bit RGB by windows, with its place on Earth.

Axes: h w pixels of a window, H W pixels of the grid that is predicted.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distill.data.fitting import PADDING
from distill.data.images import read_stored
from distill.data.levels import apply_palette, to_levels
from distill.data.rasters import BrokenImage, Raster, Stored, open_raster
from distill.data.records import LARGEST_IMAGE
from distill.errors import UserError
from distill.scene.chunks import piece_shape, pieces
from distill.scene.georeference import PIXELS_ONLY, Georeference, read_georeference
from distill.scene.resample import Side, resample
from distill.scene.stretch import Pixels, scene_limits

# Training reads these without GDAL, whose JPEG decoder gives other values.
_PHOTOS = ("BIGGIF", "BMP", "GIF", "JPEG", "PNG", "WEBP")
_FILL = np.rint(np.array(PADDING) * 255).astype(np.uint8)[:, None, None]
_FINEST = 1 / 16  # of a pixel of the file


@dataclass(frozen=True)
class SourceOptions:
    """How scenes are read.

    Args:
        bands: Numbers, from 1, of one to three bands; by default red, green and blue, or the first three.
        stretch: The values that become black and white; by default 8-bit values are used as stored, others stretched
            from the 1st to the 99th percentile of the scene.
        gsd: Side in metres that pixels are resampled to; by default none are.
        crs: The CRS of rasters that do not name theirs.

    Raises:
        UserError: A number out of range.
    """

    bands: Sequence[int] | None = None
    stretch: tuple[float, float] | None = None
    gsd: float | None = None
    crs: str | None = None

    def __post_init__(self) -> None:
        if self.bands is not None and not (1 <= len(self.bands) <= 3 and min(self.bands) >= 1):
            raise UserError(f"--bands is {list(self.bands)}; give one to three band numbers, which start at 1")
        if self.stretch is not None and not (
            all(map(math.isfinite, self.stretch)) and self.stretch[0] < self.stretch[1]
        ):
            raise UserError(f"--stretch is {list(self.stretch)}; give the value of black and a larger one of white")
        if self.gsd is not None and not (math.isfinite(self.gsd) and self.gsd > 0):
            raise UserError(f"--gsd is {self.gsd}; give metres a pixel, above 0")


class Scene:
    """An opened scene, see `open_scene`. For one thread.

    Attributes:
        path: The file.
        height: H, of the grid that is predicted: that of the file, or of `SourceOptions.gsd`.
        width: W.
        georeference: Of that grid; None if results are in pixels.
        stretch: The values that became black and white; None where 8-bit values are used as stored.
        notes: What the user should know, each a sentence that begins after the file's name.
        has_mask: Whether pixels may be no data.
    """

    def __init__(
        self,
        path: Path,
        pixels: Pixels,
        georeference: Georeference | None,
        stretch: tuple[float, float] | None,
        grid: tuple[int, int],
        notes: list[str],
    ) -> None:
        self.path, self.notes = path, notes
        self.height, self.width = grid
        self.georeference, self.stretch = georeference, stretch
        self.has_mask = pixels.may_lack_data
        self._pixels = pixels

    def read(self, top: int, left: int, height: int, width: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """Pixels of a window inside the scene.

        Pixels without data have the mean colour of training images; those of a scene without georeference are as
        training reads them. Windows as wide as the scene are read fastest.

        Returns:
            RGB (3, h, w), and which pixels (h, w) are data, in an array that may be read-only.

        Raises:
            BrokenImage: The file is damaged there.
        """
        return self._read(self._pixels, (self.height, self.width), top, left, height, width)

    def overview(self, longest: int) -> NDArray[np.uint8]:
        """The whole scene as a picture, RGB (3, h, w), whose longer side has at most `longest` pixels.

        It is made of an overview if the file has a suitable one.
        """
        factor = max(1.0, max(self.height, self.width) / longest)
        height, width = (max(1, round(side / factor)) for side in (self.height, self.width))
        with self._pixels.coarser(min(self._pixels.height / height, self._pixels.width / width)) as pixels:
            return self._read(pixels, (height, width), 0, 0, height, width)[0]

    def _read(
        self, pixels: Pixels, grid: tuple[int, int], top: int, left: int, height: int, width: int
    ) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """A window of any grid that covers the scene."""
        colours = np.empty((3, height, width), np.uint8)
        valid = np.empty((height, width), bool) if self.has_mask else np.broadcast_to(np.True_, (height, width))
        rows, columns = Side(pixels.height, grid[0]), Side(pixels.width, grid[1])
        block = piece_shape(pixels.block, pixels.height, pixels.width)
        steps = [max(1, int(step / side.factor)) for step, side in zip(block, (rows, columns), strict=True)]
        for start, stop in pieces(top, top + height, steps[0]):
            for first, last in pieces(left, left + width, steps[1]):
                levels, data = self._piece(pixels, rows, columns, (start, stop), (first, last))
                there = np.s_[..., start - top : stop - top, first - left : last - left]
                colours[there] = levels
                if data is not None:
                    valid[there] = data
        return colours, valid

    def _piece(
        self, pixels: Pixels, rows: Side, columns: Side, down: tuple[int, int], across: tuple[int, int]
    ) -> tuple[NDArray[np.uint8], NDArray[np.bool_] | None]:
        (top, bottom), (left, right) = rows.span(*down), columns.span(*across)
        values, valid = pixels.read(top, left, bottom - top, right - left)
        values = apply_palette(values, pixels.palette)
        data: NDArray[np.bool_] | None = None if valid is None else np.any(valid, axis=0)
        if self.stretch is not None:
            values = to_levels(values, None if valid is None else np.broadcast_to(valid, values.shape), self.stretch)
        levels, data = resample(values, data, rows.weights(*down), columns.weights(*across))
        if data is not None and self.georeference is not None:
            levels = np.where(data, levels, _FILL)
        return levels, data


@contextmanager
def open_scene(path: Path, options: SourceOptions = SourceOptions()) -> Iterator[Scene]:
    """Opens an image or a raster as a scene.

    A photo, which is what has no georeference and a format without bands, is decoded whole, exactly as for training;
    so is a file of up to the decoding limit that is stored turned. Every other file is read by windows.

    Raises:
        BrokenImage: It is missing, damaged, or not an image, or lacks a band.
        UserError: It has no georeference that `options` needs, or one that contradicts them.
    """
    with ExitStack() as stack:
        try:
            raster = stack.enter_context(open_raster(path, options.bands, "--bands"))
        except BrokenImage:
            raster = None  # Pillow may read it, or says why not
        if raster is None:
            georeference, notes, photo = None, [PIXELS_ONLY], True
        else:
            georeference, notes = read_georeference(raster, options.crs)
            if raster.left_out and options.bands is None:
                notes.insert(0, f"{raster.left_out}; --bands chooses others")
            photo = _in_memory(raster, georeference)
        pixels: Pixels = _Whole(read_stored(path, options.bands, "--bands")) if raster is None or photo else raster
        yield _scene(path, pixels, georeference, notes, options)


def _in_memory(raster: Raster, georeference: Georeference | None) -> bool:
    """Whether a file is decoded whole; see `open_scene`."""
    large = raster.height * raster.width > LARGEST_IMAGE
    if raster.orientation not in range(2, 9):
        return not large and (raster.driver == "JPEG" or (georeference is None and raster.driver in _PHOTOS))
    if georeference is None and not large:
        return True
    why, remedy = (
        ("is too large to turn in memory", "save it upright first, or cut it into tiles")
        if georeference is None
        else ("its georeference is that of the turned pixels", "drop the tag first: gdal_translate IN.tif OUT.tif")
    )
    raise UserError(
        f"image {str(raster.path)!r} is stored turned (orientation {raster.orientation}) and {why}; {remedy}"
    )


class _Whole:
    """An image in memory, read as a raster is."""

    def __init__(self, stored: Stored) -> None:
        self._values, self._valid, self.palette = stored.values, stored.valid, stored.palette
        self.height, self.width = stored.values.shape[-2:]
        self.block, self.dtype, self.may_lack_data = (1, self.width), stored.values.dtype, stored.valid is not None

    @contextmanager
    def coarser(self, factor: float) -> Iterator[Pixels]:
        yield self

    def read(self, top: int, left: int, height: int, width: int) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
        window = np.s_[:, top : top + height, left : left + width]
        return self._values[window], None if self._valid is None else self._valid[window]


def _scene(
    path: Path, pixels: Pixels, georeference: Georeference | None, notes: list[str], options: SourceOptions
) -> Scene:
    stretch = options.stretch
    if stretch is None and pixels.dtype != np.uint8 and pixels.palette is None:
        stretch = scene_limits(pixels, exact=isinstance(pixels, _Whole))
        notes.append(
            f"has values of {pixels.dtype}, of which {stretch[0]:g} to {stretch[1]:g} (1st to 99th percentile of the "
            "whole scene) become black to white; training takes those of each image; --stretch gives others"
        )
    grid = pixels.height, pixels.width
    if options.gsd is not None:
        grid = _grid(path, pixels, georeference, options.gsd)
    if georeference is not None:
        georeference = georeference.scaled(pixels.width / grid[1], pixels.height / grid[0])
    return Scene(path, pixels, georeference, stretch, grid, notes)


def _grid(path: Path, pixels: Pixels, georeference: Georeference | None, gsd: float) -> tuple[int, int]:
    """Height and width of the grid over a scene whose pixels are `gsd` metres at its centre."""
    if georeference is None or georeference.wkt is None:
        what = "georeference" if georeference is None else "CRS, which --crs assigns"
        raise UserError(f"--gsd {gsd:g} asks for metres a pixel, but {str(path)!r} has no {what}; leave --gsd out")
    width, height = georeference.pixel_sides(pixels.width / 2, pixels.height / 2)
    if gsd < _FINEST * min(width, height):
        raise UserError(
            f"--gsd {gsd:g} is much finer than the pixels of {str(path)!r}, {width:.3g} x {height:.3g} m; give "
            f"{_FINEST * min(width, height):.2g} metres a pixel or more"
        )
    return max(1, round(pixels.height * height / gsd)), max(1, round(pixels.width * width / gsd))
