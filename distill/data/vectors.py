"""Polygons of GeoJSON files in the pixels of rasters.

Axes: N points of a ring, each x and y. A ring needs no closing point. Pixel coordinates are column and row, whole
numbers at the corners of pixels.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.errors import RasterioError
from rasterio.transform import Affine
from rasterio.warp import transform

from distill.data.masks import decode_patch, encode_patch
from distill.data.rasters import BrokenImage, opened
from distill.data.records import Problem
from distill.errors import UserError
from distill.patch import Patch

Ring = NDArray[np.float64]  # (N, 2)
_WGS84 = CRS.from_epsg(4326)


class Feature(NamedTuple):
    """A feature: its place in the file, its polygons, each a ring with the rings of its holes after it, and more."""

    number: int
    polygons: list[list[Ring]]
    properties: dict[str, Any]


@dataclass(frozen=True)
class Vectors:
    """The polygons of a file.

    Args:
        path: The file.
        features: Those that enclose something.
        crs: The file's own coordinate reference system; None where it names none.
        problems: What is wrong with the other features.
    """

    path: Path
    features: list[Feature]
    crs: CRS | None
    problems: list[Problem]

    def within(self, place: "Place") -> list[tuple[Feature, list[list[Ring]]]]:
        """The features that meet a raster, with their polygons in its pixels, unclipped.

        Raises:
            BrokenImage: The coordinates cannot be converted to those of the raster.
        """
        rings = [ring for feature in self.features for polygon in feature.polygons for ring in polygon]
        if not rings:
            return []
        pixels = place.pixels(np.concatenate(rings), self.crs, self.path)
        ends = np.cumsum([len(ring) for ring in rings])
        moved = iter(np.split(pixels, ends[:-1]))
        found = []
        for feature in self.features:
            polygons = [[next(moved) for _ in polygon] for polygon in feature.polygons]
            outer = np.concatenate([polygon[0] for polygon in polygons])
            if (outer.max(axis=0) > 0).all() and (outer.min(axis=0) < (place.width, place.height)).all():
                found.append((feature, polygons))
        return found


@dataclass(frozen=True)
class Place:
    """Where a raster lies.

    Args:
        path: The raster.
        height: In pixels.
        width: In pixels.
        crs: Its coordinate reference system, if it has one.
        transform: From column and row to its coordinates.
    """

    path: Path
    height: int
    width: int
    crs: CRS | None
    transform: Affine

    def pixels(self, points: Ring, crs: CRS | None, path: Path) -> Ring:
        """Points of a file in pixels of the raster.

        Without a CRS of the file, they are longitude and latitude, as RFC 7946 has it, if all can be that and the
        raster has a CRS; and the raster's own coordinates otherwise, which are pixels if the raster has no place.

        Raises:
            BrokenImage: They cannot be converted.
        """
        if crs is None and self.crs is not None and (np.abs(points) <= (180, 90)).all():
            crs = _WGS84
        if crs is not None and self.crs is None:
            raise BrokenImage(
                f"{str(path)!r} has coordinates in {crs.to_string()}, but {str(self.path)!r} has no CRS; assign one to "
                "the raster"
            )
        if crs is not None and crs != self.crs:
            try:
                points = np.stack(transform(crs, self.crs, *points.T), axis=1)
            except RasterioError as error:
                raise BrokenImage(
                    f"{str(path)!r} cannot be converted to the CRS of {str(self.path)!r} ({error})"
                ) from error
        if not np.isfinite(points).all():
            raise BrokenImage(f"{str(path)!r} has coordinates that the CRS of {str(self.path)!r} does not cover")
        a, b, c, d, e, f = (~self.transform)[:6]
        x, y = points.T
        return np.stack([a * x + b * y + c, d * x + e * y + f], axis=1)


def place_of(path: Path) -> Place:
    """Where a raster lies, from its header.

    Raises:
        BrokenImage: It cannot be opened, or knows its place by control points only.
    """
    with opened(path) as dataset:
        if dataset.crs is None and dataset.transform.is_identity and (dataset.gcps[0] or dataset.rpcs is not None):
            raise BrokenImage(
                f"image {str(path)!r} knows its place by control points or RPCs only; warp it first, with gdalwarp"
            )
        return Place(path, dataset.height, dataset.width, dataset.crs, dataset.transform)


def read_geojson(path: Path) -> Vectors:
    """The polygons of a GeoJSON file; a `crs` member, which RFC 7946 no longer has, is honoured.

    Raises:
        UserError: The file is no GeoJSON, or its CRS is unknown.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{str(path)!r} cannot be read as GeoJSON ({error}); save it again") from error
    kind = content.get("type") if isinstance(content, dict) else None
    records = content.get("features") if kind == "FeatureCollection" else [content]
    if not isinstance(records, list) or kind not in ("FeatureCollection", "Feature"):
        raise UserError(f"{str(path)!r} is no GeoJSON of features; its type is {kind!r}, not 'FeatureCollection'")
    features: list[Feature] = []
    problems: list[Problem] = []
    for number, record in enumerate(records):
        polygons = _polygons(record)
        if isinstance(polygons, str):
            problems.append(Problem("geometry", f"feature {number} of {str(path)!r}", polygons))
        else:
            properties = record.get("properties")
            features.append(Feature(number, polygons, properties if isinstance(properties, dict) else {}))
    return Vectors(path, features, _crs(path, content.get("crs")), problems)


def segmentation(polygons: Sequence[Sequence[Ring]], place: Place) -> Any:
    """Polygons in pixels as a COCO segmentation, clipped to the raster: polygons, or RLE where there are holes.

    Returns:
        None if nothing of them lies in the raster.
    """
    clipped = [[_clipped(ring, place.height, place.width) for ring in polygon] for polygon in polygons]
    clipped = [[ring for ring in polygon if len(ring)] for polygon in clipped if len(polygon[0])]
    if not clipped:
        return None
    if all(len(polygon) == 1 for polygon in clipped):
        return [polygon[0].ravel().tolist() for polygon in clipped]
    patches = [[decode_patch([ring.ravel().tolist()], place.height, place.width) for ring in p] for p in clipped]
    every = [patch for polygon in patches for patch in polygon]
    top, left = min(patch.top for patch in every), min(patch.left for patch in every)
    bottom = max(patch.top + patch.pixels.shape[0] for patch in every)
    right = max(patch.left + patch.pixels.shape[1] for patch in every)
    mask = np.zeros((bottom - top, right - left), np.bool_)
    for outer, *holes in patches:
        own = np.zeros_like(mask)
        own[_frame(outer, top, left)] = outer.pixels
        for hole in holes:
            own[_frame(hole, top, left)] &= hole.pixels == 0
        mask |= own
    return encode_patch(Patch(top, left, mask.astype(np.uint8)), place.height, place.width) if mask.any() else None


def _frame(patch: Patch, top: int, left: int) -> tuple[slice, slice]:
    """The rectangle of a patch in a mask that starts at `top` and `left`."""
    rows, columns = patch.pixels.shape
    return slice(patch.top - top, patch.top - top + rows), slice(patch.left - left, patch.left - left + columns)


def _polygons(record: Any) -> list[list[Ring]] | str:
    """The polygons of a feature; or, as a text, what is wrong with it."""
    geometry = record.get("geometry") if isinstance(record, dict) else None
    if not isinstance(geometry, dict):
        return "has no geometry"
    kind = geometry.get("type")
    coordinates: Any = geometry.get("coordinates")
    if kind not in ("Polygon", "MultiPolygon"):
        return f"is a {kind}, which encloses nothing; give polygons"
    try:
        parts = [coordinates] if kind == "Polygon" else list(coordinates)
        polygons = [[np.array([point[:2] for point in ring], np.float64).reshape(-1, 2) for ring in p] for p in parts]
    except (TypeError, ValueError):
        return "has coordinates that are not two numbers or three each"
    if not polygons or not all(polygons) or not all(np.isfinite(ring).all() for p in polygons for ring in p):
        return "has no coordinates, or some that are not finite"
    if any(len(np.unique(ring, axis=0)) < 3 for p in polygons for ring in p):
        return "has a ring of fewer than three points"
    return polygons


def _crs(path: Path, member: Any) -> CRS | None:
    if member is None:
        return None
    try:
        with rasterio.Env():  # else GDAL writes its error beside ours
            return CRS.from_user_input(member["properties"]["name"])
    except (RasterioError, ValueError, TypeError, KeyError) as error:
        raise UserError(f"{str(path)!r} has the CRS {member}, which is unknown; save it in WGS84") from error


def _clipped(ring: Ring, height: int, width: int) -> Ring:
    """The part of a ring within the image; empty where there is none.

    Source: Sutherland and Hodgman, "Reentrant Polygon Clipping", CACM 17 (1974).
    """
    if (ring >= 0).all() and (ring <= (width, height)).all():
        return ring
    for axis, bound, sign in ((0, 0.0, 1), (0, float(width), -1), (1, 0.0, 1), (1, float(height), -1)):
        if not len(ring):
            break
        depth = sign * (ring[:, axis] - bound)  # 0 or more is inside
        following, next_depth = np.roll(ring, -1, axis=0), np.roll(depth, -1)
        points: list[Ring] = []
        for here, there, d0, d1 in zip(ring, following, depth, next_depth, strict=True):
            if d0 >= 0:
                points.append(here)
            if (d0 >= 0) != (d1 >= 0):
                points.append(here + (there - here) * (d0 / (d0 - d1)))
        ring = np.array(points, np.float64).reshape(-1, 2)
    return ring if len(ring) >= 3 else np.zeros((0, 2))
