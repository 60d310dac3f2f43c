"""Polygons in longitudes and latitudes; those that cross the antimeridian are cut there, as RFC 7946 asks.

Axes: N polygons, P points of a ring. Coordinates are (longitude, latitude) in degrees, if nothing else is said.
"""

import math

import numpy as np
import shapely
from numpy.typing import NDArray

from distill.scene.georeference import Georeference
from distill.scene.outlines import Polygons
from distill.scene.polygons import only_polygons, valid_polygons


def in_degrees(polygons: Polygons, georeference: Georeference) -> Polygons:
    """Polygons (N,) in pixels as polygons in longitudes and latitudes, cut at the antimeridian.

    An edge over more than half of the globe would pass for one that crosses the antimeridian. Polygons with such edges
    get further vertices.

    Raises:
        UserError: A point has no longitude and latitude.
    """
    degrees = shapely.transform(polygons, georeference.to_lonlat)
    wide = _with_jumps(degrees)
    left, top, right, bottom = shapely.bounds(polygons[wide]).T
    finer = shapely.segmentize(polygons[wide], np.maximum(right - left, bottom - top) / 4)
    degrees[wide] = shapely.transform(finer, georeference.to_lonlat)
    return split_at_antimeridian(degrees)


def within_the_globe(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Points (P, 2) with longitudes in [-180, 180]; those that are in it are not changed."""
    longitudes = points[:, 0]
    turned = np.where(np.abs(longitudes) > 180, (longitudes + 180) % 360 - 180, longitudes)
    return np.column_stack([turned, points[:, 1]])


def split_at_antimeridian(polygons: Polygons) -> Polygons:
    """The same areas with longitudes in [-180, 180]; a polygon that crosses the antimeridian becomes several parts.

    It crosses where two neighbouring vertices lie more than 180 degrees apart. A polygon around a pole reaches to the
    pole's latitude.

    Source: RFC 7946, section 3.1.9.
    """
    points, owners = shapely.get_coordinates(polygons, return_index=True)
    crossing = np.union1d(_with_jumps(polygons), owners[np.abs(points[:, 0]) > 180])
    polygons = polygons.copy()
    for number in crossing:
        parts = [piece for part in shapely.get_parts(polygons[number]) for piece in _cut(part)]
        polygons[number] = only_polygons(shapely.union_all(parts))  # around a pole they meet
    return polygons


def _with_jumps(polygons: Polygons) -> NDArray[np.int64]:
    """Numbers of the polygons of which two neighbouring vertices lie more than 180 degrees apart."""
    points, owners = shapely.get_coordinates(polygons, return_index=True)
    return np.unique(owners[:-1][(np.abs(np.diff(points[:, 0])) > 180) & (np.diff(owners) == 0)])


def _cut(polygon: shapely.Polygon) -> list[shapely.Polygon]:
    shell = _unwrap(shapely.get_coordinates(polygon.exterior))
    holes = [_beside(shell, _unwrap(shapely.get_coordinates(hole))) for hole in polygon.interiors]
    whole = valid_polygons(np.array([shapely.Polygon(shell, holes)], object))[0]
    west, _, east, _ = whole.bounds
    pieces = []
    for turn in range(math.floor((west + 180) / 360), math.floor((east + 180) / 360) + 1):
        zone = shapely.box(360 * turn - 180, -90, 360 * turn + 180, 90)
        piece = only_polygons(shapely.intersection(whole, zone))
        pieces += shapely.get_parts(
            shapely.transform(piece, lambda points, turn=turn: points - np.array([360 * turn, 0]))
        ).tolist()
    return pieces


def _unwrap(ring: NDArray[np.float64]) -> NDArray[np.float64]:
    """A ring (P, 2) without jumps; its longitudes may leave [-180, 180]."""
    ring = np.column_stack([np.unwrap(ring[:, 0], period=360), ring[:, 1]])
    first, last = ring[0], ring[-1]
    if abs(last[0] - first[0]) < 180:
        return ring
    pole = math.copysign(90, ring[:, 1].mean())
    return np.vstack([ring, [last[0], pole], [first[0], pole], first])


def _beside(shell: NDArray[np.float64], hole: NDArray[np.float64]) -> NDArray[np.float64]:
    """A hole, turned around the globe until it lies in its shell."""
    turns = math.ceil((shell[:, 0].min() - hole[:, 0].min()) / 360 - 1e-9)
    return hole + np.array([360 * turns, 0])
