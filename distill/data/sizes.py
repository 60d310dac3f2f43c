"""How large training images and their objects are, and their pixels on the ground: read from headers, not pixels.

Whoever predicts scenes chooses tiles by it.
"""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import rasterio
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.warp import transform

SAMPLE = 64  # images whose headers are read, at equal distances
_BLOCK = 8  # pixels over which a pixel's size is measured
_SEMI_MAJOR, _ECCENTRICITY_SQUARED = 6378137.0, 0.00669437999014  # of WGS 84

T = TypeVar("T")


class Header(NamedTuple):
    """What an image file says of itself.

    Args:
        height: Pixels, as stored.
        width: Pixels, as stored.
        gsd: Side of a square as large as a pixel at the image's centre, in metres on the ground; None where the file
            does not say where it lies.
    """

    height: int
    width: int
    gsd: float | None


def image_sides(sides: Sequence[int]) -> dict[str, float]:
    """The facts `image_side`, the median of the longer sides of images in pixels, and `largest_side`."""
    return {"image_side": round(float(np.median(sides))), "largest_side": int(max(sides))} if len(sides) else {}


def object_side(boxes: Sequence[Sequence[float]]) -> dict[str, float]:
    """The fact `object_side`: the 98th percentile of the longer sides of boxes [x, y, width, height] in pixels."""
    if not boxes:
        return {}
    return {"object_side": round(float(np.percentile(np.array(boxes, np.float64)[:, 2:].max(axis=1), 98)), 1)}


def ground_size(headers: Sequence[Header]) -> dict[str, float]:
    """The fact `gsd`, the median of the images that know theirs, in metres; nothing where none does."""
    known = [header.gsd for header in headers if header.gsd is not None]
    return {"gsd": float(f"{np.median(known):.4g}")} if known else {}


def sample_of(items: Sequence[T]) -> list[T]:
    """At most `SAMPLE` items, at equal distances."""
    return [items[index] for index in np.linspace(0, len(items) - 1, min(len(items), SAMPLE)).round().astype(int)]


def read_headers(paths: Sequence[Path]) -> list[Header]:
    """The headers of those files that can be opened."""
    found = [_header(path) for path in paths]
    return [header for header in found if header is not None]


def _header(path: Path) -> Header | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="TRUE"), rasterio.open(path.absolute()) as dataset:
                height, width, crs = dataset.height, dataset.width, dataset.crs
                placed = crs is not None and not dataset.transform.is_identity
                gsd = _ground_pixel(dataset.transform, crs, width / 2, height / 2) if placed else None
                return Header(height, width, gsd)
    except RasterioError:
        return None


def _ground_pixel(to_map: rasterio.Affine, crs: rasterio.crs.CRS, column: float, row: float) -> float | None:
    """Side in metres of a square as large as a pixel; None for coordinates that are not on Earth."""
    a, b, c, d, e, f = to_map[:6]
    columns, rows = column + np.array([0, _BLOCK, 0]), row + np.array([0, 0, _BLOCK])
    try:
        degrees = transform(crs, "EPSG:4326", a * columns + b * rows + c, d * columns + e * rows + f)
    except Exception:  # of GDAL, whose own classes are private: a local grid, for example
        return None
    longitude, latitude = np.radians(np.array(degrees))
    bend = 1 - _ECCENTRICITY_SQUARED * np.sin(latitude[0]) ** 2
    east = (longitude - longitude[0] + np.pi) % (2 * np.pi) - np.pi
    x = east * np.cos(latitude[0]) * _SEMI_MAJOR / np.sqrt(bend)
    y = (latitude - latitude[0]) * _SEMI_MAJOR * (1 - _ECCENTRICITY_SQUARED) / bend**1.5
    area = abs(x[1] * y[2] - x[2] * y[1])
    return float(np.sqrt(area)) / _BLOCK if np.isfinite(area) and area > 0 else None
