"""How large training images, their objects and their pixels on the ground are: read from headers, not pixels.

Whoever predicts scenes chooses tiles by it.
"""

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import rasterio
from rasterio.errors import NotGeoreferencedWarning, RasterioError

SAMPLE = 64  # images whose headers are read, at equal distances

# Metres a pixel of an image file; None where it does not say. See `distill.scene.georeference.ground_size`.
Measure = Callable[[Path], float | None]
T = TypeVar("T")


class Header(NamedTuple):
    """Facts from the header of an image file.

    Args:
        height: Pixels, as stored.
        width: Pixels, as stored.
    """

    height: int
    width: int


def image_sides(sides: Sequence[int]) -> dict[str, float]:
    """The facts `image_side`, the median of the longer sides of images in pixels, and `largest_side`."""
    return {"image_side": round(float(np.median(sides))), "largest_side": int(max(sides))} if len(sides) else {}


def shrunk_images(sides: Sequence[int], image_size: int, known: str = "") -> str | None:
    """A sentence that views shrink most images; None where they do not.

    Args:
        sides: Of the images, in pixels: those that are fitted into a view.
        image_size: Side of the views.
        known: What stands behind the size, such as how it is known.
    """
    median = round(float(np.median(sides))) if len(sides) else 0
    if median <= image_size:
        return None
    return f"images of {median} px{known} are scaled to {image_size} px (data.image_size)"


def object_side(boxes: Sequence[Sequence[float]]) -> dict[str, float]:
    """The fact `object_side`: the 98th percentile of the longer sides of boxes [x, y, width, height] in pixels."""
    if not boxes:
        return {}
    return {"object_side": round(float(np.percentile(np.array(boxes, np.float64)[:, 2:].max(axis=1), 98)), 1)}


def ground_sizes(paths: Sequence[Path], measure: Measure) -> dict[str, float]:
    """The fact `gsd`, the median of the images that know theirs, in metres; nothing where none does."""
    known = [size for size in map(measure, paths) if size is not None]
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
                return Header(dataset.height, dataset.width)
    except RasterioError:
        return None
