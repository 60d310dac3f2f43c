"""Checks an image file from an unknown sender by its first bytes and its size, before its pixels are decoded.

GDAL reads many formats, and some are no images but lists of other files and addresses, which it would read for whoever
sent the list. Here only formats that hold their own pixels pass, and `read_as_sent` lets GDAL see nothing else in them.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from PIL import Image
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from distill.data.rasters import only_driver
from distill.errors import UserError, first_line

FORMATS = "JPEG, PNG, TIFF, WebP, BMP, GIF or JPEG 2000"
_HEADER = 16  # bytes
_STARTS = {
    b"\xff\xd8\xff": ("JPEG", ".jpg"),
    b"\x89PNG\r\n\x1a\n": ("PNG", ".png"),
    b"GIF87a": ("GIF", ".gif"),
    b"GIF89a": ("GIF", ".gif"),
    b"BM": ("BMP", ".bmp"),
    b"II*\0": ("TIFF", ".tif"),
    b"MM\0*": ("TIFF", ".tif"),
    b"II+\0": ("TIFF", ".tif"),  # of more than 4 GiB
    b"MM\0+": ("TIFF", ".tif"),
    b"\0\0\0\x0cjP  \r\n\x87\n": ("JPEG 2000", ".jp2"),
}
_DRIVERS = {"TIFF": "GTiff", "JPEG 2000": "JP2OpenJPEG"}
_OF_SUFFIX = {
    ".jpg": "JPEG",
    ".png": "PNG",
    ".gif": "GIF",
    ".bmp": "BMP",
    ".webp": "WEBP",
    ".tif": "GTiff",
    ".jp2": "JP2OpenJPEG",
}
_MOST_BANDS = 256
_LARGEST_BLOCK = 1 << 30  # bytes that are decoded at once


@dataclass(frozen=True)
class Stranger:
    """Format and size of an image file by its header.

    Attributes:
        suffix: Of its format, such as ".tif".
        height: In pixels, as stored.
        width: In pixels, as stored.
    """

    suffix: str
    height: int
    width: int


def inspect(path: Path, most_pixels: int) -> Stranger:
    """Reads the header of an image file.

    Args:
        path: The file, under any name.
        most_pixels: How many pixels it may have.

    Raises:
        UserError: It is no image, is damaged, or would take too much memory; the message does not name the file.
    """
    with path.open("rb") as file:
        head = file.read(_HEADER)
    kind, suffix = next((found for start, found in _STARTS.items() if head.startswith(start)), ("", ""))
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        kind, suffix = "WebP", ".webp"
    if not kind:
        raise UserError(f"the file is no image that is read here; send {FORMATS}")
    try:
        height, width = _raster_size(path, kind) if kind in _DRIVERS else _picture_size(path, kind)
    # Pillow's decoders report damage with whatever their parser met first.
    except (OSError, SyntaxError, ValueError, EOFError, TypeError, KeyError, IndexError, RasterioError) as error:
        raise UserError(f"the {kind} file is damaged ({_without(path, first_line(error))})") from error
    except Image.DecompressionBombError:
        raise UserError(f"the {kind} file has too many pixels; cut it into smaller images") from None
    if height * width > most_pixels:
        raise UserError(
            f"the image has {width} x {height} pixels, more than the {most_pixels:,} allowed here; cut it, or use "
            "`distill predict`, which reads scenes of any size"
        )
    return Stranger(suffix, height, width)


@contextmanager
def read_as_sent(path: Path) -> Iterator[None]:
    """Within the block, GDAL reads a file as the format that `inspect` found, whose suffix it has, or not at all."""
    with only_driver(_OF_SUFFIX[path.suffix]):
        yield


def _picture_size(path: Path, kind: str) -> tuple[int, int]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a large picture, which is refused by its pixels if at all
        with Image.open(path, formats=[kind.upper()]) as image:
            return image.height, image.width


def _raster_size(path: Path, kind: str) -> tuple[int, int]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path, driver=_DRIVERS[kind], sharing=False) as raster:
            if raster.count > _MOST_BANDS:
                raise ValueError(f"{raster.count} bands, more than {_MOST_BANDS}")
            if _block_bytes(raster) > _LARGEST_BLOCK:
                raise ValueError(f"its pixels are stored in blocks of more than {_LARGEST_BLOCK >> 30} GiB")
            return raster.height, raster.width


def _block_bytes(raster: Any) -> int:
    """Bytes that a reader decodes at once, of all bands where they are stored together."""
    if not raster.count:
        return 0
    height, width = raster.block_shapes[0]
    together = raster.count if raster.profile.get("interleave") == "pixel" else 1
    return int(height * width * together * _bytes_of(raster.dtypes[0]))


def _bytes_of(kind: str) -> int:
    return 4 if kind == "complex_int16" else np.dtype(kind).itemsize  # the one type that NumPy lacks


def _without(path: Path, message: str) -> str:
    """A message that names only the file, not where it lies."""
    return message.replace(str(path), "the file")
