"""The pixels of rasters: whatever GDAL reads, of any number of bands and any type of number.

Axes: B bands, H W pixels as shown: upright, see `turn_upright`.
"""

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from PIL.ExifTags import Base
from PIL.TiffImagePlugin import ImageFileDirectory_v2
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from distill.data.records import LARGEST_IMAGE
from distill.errors import UserError

# Radar and multispectral products use 10 to 13 of their 16 bits and hold a few extreme scatterers, so neither dividing
# by 65535 (nearly black) nor by the maximum (one corner reflector darkens the scene) shows the content.
STRETCH_PERCENTILES = (1.0, 99.0)

# Warnings of libtiff about unknown tags; a file that cannot be read raises an exception.
logging.getLogger("rasterio").setLevel(logging.CRITICAL)

_COLOURS = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
# Without a listing, files beside the image (.aux.xml, .msk) are asked for by name: a folder may hold 100,000 images.
_GDAL = {"GDAL_DISABLE_READDIR_ON_OPEN": "TRUE", "GDAL_CACHEMAX": 64}


class BrokenImage(UserError):
    """A file that should be an image and cannot be decoded; the message names the file and the reason."""


@dataclass(frozen=True)
class Stored:
    """What an image file stores.

    Args:
        values: Of the bands wanted (B, H, W), in the file's type; a transparency is no band.
        palette: Colours (N, 3) uint8 that a single band points into; None where values are colours themselves.
        valid: Which values (B, H, W) are data; None where all are.
        turned: Whether the file's orientation is another than upright.
        left_out: What of its bands is shown and what is not, as part of a sentence; empty if there is nothing to say.
    """

    values: NDArray[Any]
    palette: NDArray[np.uint8] | None = None
    valid: NDArray[np.bool_] | None = None
    turned: bool = False
    left_out: str = ""


def read_raster(path: Path, bands: Sequence[int] | None = None, orientation: int = 1) -> Stored:
    """Reads a raster through GDAL; of a file of several pages the first.

    Scale and offset are applied. Values are data where neither nodata, a mask nor transparency says otherwise, and
    where they are finite.

    Args:
        path: The file.
        bands: Band numbers from 1; by default see `choose_bands`.
        orientation: Of EXIF, which GDAL does not read; that of TIFF files is looked up here.

    Raises:
        BrokenImage: It cannot be read, has complex values, or lacks one of `bands`.
    """
    with _opened(path) as dataset:
        if not dataset.count:
            raise BrokenImage(f"image {str(path)!r} holds no image of its own, only parts; extract one of them first")
        if dataset.width * dataset.height > LARGEST_IMAGE:
            raise BrokenImage(f"image {str(path)!r} is too large to decode at once; cut it into tiles first")
        shown, left_out = choose_bands(path, dataset.colorinterp, bands)
        if any("complex" in dataset.dtypes[band - 1] for band in shown):
            raise BrokenImage(
                f"image {str(path)!r} has complex values ({dataset.dtypes[shown[0] - 1]}); save amplitude or intensity"
            )
        if ColorInterp.cyan in dataset.colorinterp and bands is None:  # GDAL converts those of 8 bits
            raise BrokenImage(f"image {str(path)!r} has CMYK colours of {dataset.dtypes[0]}; save it as RGB")
        distinct = list(dict.fromkeys(shown))
        values, valid = _ordinary(dataset, distinct, dataset.read(distinct))
        palette = None
        if shown == [1] and dataset.colorinterp[0] == ColorInterp.palette:
            table = dataset.colormap(1)
            palette = np.zeros((np.iinfo(values.dtype).max + 1, 3), np.uint8)
            palette[list(table)] = [colour[:3] for colour in table.values()]
    order = [distinct.index(band) for band in shown]
    orientation = _tiff_orientation(path) or orientation
    return Stored(
        turn_upright(values[order] if order != sorted(set(order)) else values, orientation),
        palette,
        None if valid is None else turn_upright(valid[order], orientation),
        orientation in range(2, 9),
        left_out,
    )


def choose_bands(path: Path, meanings: Sequence[ColorInterp], bands: Sequence[int] | None) -> tuple[list[int], str]:
    """Which bands of an image are shown.

    By default red, green and blue where the file says which they are, else the first three without transparency; of
    two bands the first is shown as blue too, and one is grey.

    Args:
        path: For messages.
        meanings: What each band of the file is.
        bands: Numbers from 1 that the user wants instead.

    Returns:
        The numbers, one or three, and what there is to say about it; nothing if the user chose, or no band is left out.

    Raises:
        BrokenImage: The file lacks one of `bands`.
    """
    count = len(meanings)
    if bands is not None:
        if max(bands) > count:
            raise BrokenImage(
                f"image {str(path)!r} has {count} band{'s' * (count > 1)}, but data.bands is {list(bands)}; name bands "
                "that every image has"
            )
        return _three(list(bands)), ""
    opaque = [number for number, meaning in enumerate(meanings, start=1) if meaning != ColorInterp.alpha]
    if all(colour in meanings for colour in _COLOURS):
        shown = [meanings.index(colour) + 1 for colour in _COLOURS]
    else:
        shown = _three(opaque[:3] or [1])
    if set(shown) >= set(opaque) and len(opaque) != 2:
        return shown, ""
    return shown, f"has {len(opaque)} bands, of which {', '.join(map(str, shown))} are shown as red, green, blue"


def _three(bands: list[int]) -> list[int]:
    """Bands as red, green and blue; a single one stays single, as grey."""
    return [*bands, bands[0]] if len(bands) == 2 else bands


def stretch(values: NDArray[Any], valid: NDArray[np.bool_] | None = None) -> NDArray[np.uint8]:
    """Values of any type and range as grey levels: linear from their 1st to their 99th percentile, all bands alike.

    Args:
        values: (B, H, W).
        valid: Which of them are data; the others, and what is not finite, are ignored and become 0.
    """
    if values.dtype.kind == "f":
        finite = np.isfinite(values)
        valid = finite if valid is None else valid & finite
    data = (values if valid is None else values[valid]).astype(np.float64)
    levels = np.zeros(values.shape, np.uint8)
    if data.size == 0:
        return levels
    low, high = np.percentile(data, STRETCH_PERCENTILES, overwrite_input=True)
    for band, level in zip(values, levels, strict=True):  # one at a time, as float64 takes eight times the room
        with np.errstate(invalid="ignore"):
            scaled = (band.astype(np.float64) - low) / max(high - low, 1e-12)
        level[...] = np.round(np.nan_to_num(scaled, nan=0).clip(0, 1) * 255)
    if valid is not None:
        levels[~valid] = 0
    return levels


def turn_upright(values: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Applies an EXIF orientation, 1 to 8, to the last two axes.

    Source: CIPA DC-008 (Exif 2.32), tag 0x0112, which is TIFF 6.0's tag 274.
    """
    if orientation >= 5:
        values = values.swapaxes(-1, -2)
    axes = tuple(axis for axis, mirrored in ((-1, (2, 3, 6, 7)), (-2, (3, 4, 7, 8))) if orientation in mirrored)
    return np.flip(values, axes) if axes else values


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The dataset of a file, quietly.

    Raises:
        BrokenImage: It cannot be opened, or read inside.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            # An absolute path is never taken for an address ("s3:a.tif").
            with rasterio.Env(**_GDAL), rasterio.open(path.absolute()) as dataset:
                yield dataset
    except RasterioError as error:
        if "not recognized as being in a supported file format" in str(error):
            raise BrokenImage(f"image {str(path)!r} is not an image in a known format") from error
        reason = str(error.__cause__ or error).splitlines()[0]
        raise BrokenImage(f"image {str(path)!r} is damaged ({reason.rpartition(': ')[2].rstrip('.')})") from error


def _ordinary(dataset: Any, bands: list[int], values: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
    """Values without the file's own ways to write them, and which of them are data."""
    flags = [dataset.mask_flag_enums[band - 1] for band in bands]
    masked = any(MaskFlags.all_valid not in flag for flag in flags)
    valid = dataset.read_masks(bands) != 0 if masked else None
    structure = dataset.tags(ns="IMAGE_STRUCTURE"), dataset.tags(bands[0], ns="IMAGE_STRUCTURE")
    inverted = structure[0].get("MINISWHITE") == "YES"
    bits = int(structure[1].get("NBITS", 8 * values.dtype.itemsize))
    if dataset.colorinterp[bands[0] - 1] != ColorInterp.palette and values.dtype.kind == "u":
        if inverted:
            values = np.array(2**bits - 1, values.dtype) - values
        if values.dtype == np.uint8 and bits < 8:
            values = values * np.uint8(255 // (2**bits - 1))
    scales = np.array([(dataset.scales[band - 1], dataset.offsets[band - 1]) for band in bands])
    if values.dtype != np.uint8 and (scales != (1, 0)).any():
        values = values * scales[:, 0, None, None] + scales[:, 1, None, None]
    return values, valid


def _tiff_orientation(path: Path) -> int | None:
    """Of the first page of a TIFF file; None where there is none."""
    with path.open("rb") as file:
        header = file.read(8)
        if header[:2] not in (b"II", b"MM"):
            return None
        if 43 in header[2:4]:  # BigTIFF
            header += file.read(8)
        try:
            directory = ImageFileDirectory_v2(header)
            file.seek(directory.next)
            directory.load(file)
            orientation: int | None = directory.get(Base.Orientation)
            return orientation
        except (SyntaxError, OSError, ValueError, KeyError, TypeError):
            return None  # GDAL has read the pixels all the same
