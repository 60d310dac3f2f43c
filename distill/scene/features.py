"""Objects of a scene as map features: polygon, area, oriented box.

Axes: N objects. Coordinates are (column, row) in pixels of the scene; the corners of pixels are whole numbers.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray

from distill.errors import UserError
from distill.patch import Patch
from distill.scene.detections import Detection
from distill.scene.georeference import Georeference
from distill.scene.oriented_box import oriented_boxes
from distill.scene.outlines import Polygons, outlines
from distill.scene.polygons import simplify

DEFAULT_TOLERANCE = 0.75  # pixels
_SMALL = 1000.0  # metres


@dataclass(frozen=True)
class PolygonSettings:
    """How masks become polygons. Lengths and areas are in metres where the scene has a CRS, and in pixels elsewhere.

    Args:
        simplify: How far an outline may move to have fewer vertices; 0 keeps the edges of pixels, None is 0.75 pixels.
        min_area: Objects with a smaller area are left out.

    Raises:
        UserError: A number out of range.
    """

    simplify: float | None = None
    min_area: float = 0.0

    def __post_init__(self) -> None:
        if self.simplify is not None and not 0 <= self.simplify < float("inf"):
            raise UserError(f"simplify is {self.simplify}; it must be 0 (keep the edges of pixels) or more")
        if not 0 <= self.min_area < float("inf"):
            raise UserError(f"min_area is {self.min_area}; it must be 0 (keep all objects) or more")


@dataclass(frozen=True, eq=False)
class Feature:
    """An object as it is written to files.

    Attributes:
        id: Unique in its scene.
        label: Index into the class names.
        class_name: Its name.
        score: In [0, 1].
        polygon: Valid, with holes, exteriors counter-clockwise by coordinates (clockwise on a screen).
        mask: The smallest rectangle that holds its pixels.
        box: (x1, y1, x2, y2) in pixels, exclusive at the far edge.
        area_px: Pixels of the mask.
        area_m2: Geodesic area of the mask in square metres; None without a CRS.
        parts: How many detections of neighbouring tiles it was joined from.
        tile: Row and column of the tile that found it.
        oriented: Corners x1, y1, ..., x4, y4 of the smallest rectangle of any direction, see `oriented_boxes`.
    """

    id: int
    label: int
    class_name: str
    score: float
    polygon: shapely.Polygon | shapely.MultiPolygon
    mask: Patch
    box: tuple[float, float, float, float]
    area_px: int
    area_m2: float | None
    parts: int
    tile: tuple[int, int]
    oriented: tuple[float, float, float, float, float, float, float, float]


def make_features(
    detections: Sequence[Detection],
    first_id: int,
    class_names: Sequence[str],
    georeference: Georeference | None,
    settings: PolygonSettings,
) -> list[Feature]:
    """Objects as features with consecutive ids, in their order.

    Objects below the least area, and those without pixels, are left out; the caller sees how many from the length.
    """
    mapped = georeference if georeference is not None and georeference.wkt is not None else None
    pixels = np.array([int(detection.mask.pixels.sum()) for detection in detections], np.int64)
    detections = [detection for detection, count in zip(detections, pixels, strict=True) if count]
    pixels = pixels[pixels > 0]
    exact = outlines([detection.mask for detection in detections])
    sizes = _pixel_sizes(exact, mapped) if mapped else np.ones(len(exact))
    areas = _square_metres(exact, pixels, sizes, mapped) if mapped else pixels
    kept = np.flatnonzero(areas >= settings.min_area)
    exact, detections = exact[kept], [detections[number] for number in kept]
    simple = simplify(exact, DEFAULT_TOLERANCE if settings.simplify is None else settings.simplify / sizes[kept])
    oriented = oriented_boxes(exact)
    return [
        Feature(
            id=first_id + place,
            label=detection.label,
            class_name=class_names[detection.label],
            score=detection.score,
            polygon=simple[place],
            mask=detection.mask,
            box=detection.box,
            area_px=int(pixels[number]),
            area_m2=float(areas[number]) if mapped else None,
            parts=detection.parts,
            tile=detection.tile,
            oriented=tuple(oriented[place].tolist()),
        )
        for place, (number, detection) in enumerate(zip(kept, detections, strict=True))
    ]


def _pixel_sizes(exact: Polygons, georeference: Georeference) -> NDArray[np.float64]:
    """Sides of the pixels at the centres of polygons (N,), in metres."""
    centres = shapely.get_coordinates(shapely.centroid(exact))
    return np.array([georeference.pixel_size(x, y) for x, y in centres], np.float64)


def _square_metres(
    exact: Polygons, pixels: NDArray[np.int64], sizes: NDArray[np.float64], georeference: Georeference
) -> NDArray[np.float64]:
    """Geodesic areas (N,).

    Pixels are counted where the object is small: over it their size varies evenly, and at its centre has the mean.
    """
    areas = pixels * sizes**2
    left, top, right, bottom = shapely.bounds(exact).T
    for number in np.flatnonzero(np.maximum(right - left, bottom - top) * sizes > _SMALL):
        areas[number] = georeference.area(exact[number])
    return areas
