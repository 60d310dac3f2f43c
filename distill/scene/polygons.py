"""Polygons with fewer vertices, and valid ones.

Axes: N polygons, P vertices of the exact ones, R rings. Coordinates of exact polygons are whole pixels.
"""

import math

import numpy as np
import shapely
from numpy.typing import NDArray

from distill.scene.outlines import Polygons

LEAST_IOU = 0.95  # of a mask and its polygon with fewer vertices
_FINEST = math.sqrt(2) / 4  # pixels; edges of pixels depart at least that far from any line that replaces some of them


def simplify(exact: Polygons, tolerance: NDArray[np.float64] | float) -> Polygons:
    """Polygons with fewer vertices, valid and with all their parts and holes.

    The tolerance of a polygon is halved until the IoU with its mask is at least `LEAST_IOU`.

    Args:
        exact: As `outlines` gives them.
        tolerance: How far in pixels the outline may move, one number or one for each polygon.
    """
    simple = exact.copy()
    tolerance = np.broadcast_to(tolerance, exact.shape).astype(np.float64)
    left = np.flatnonzero(tolerance >= _FINEST)
    while left.size:
        candidates = _with_fewer_vertices(exact[left], tolerance[left])
        areas = np.maximum(shapely.area(exact[left]), shapely.area(candidates))
        good = moved_area(exact[left], candidates) <= (1 - LEAST_IOU) * areas
        simple[left[good]] = candidates[good]
        tolerance[left] /= 2
        left = left[~good & (tolerance[left] >= _FINEST)]
    return shapely.orient_polygons(simple)


def _with_fewer_vertices(exact: Polygons, tolerance: NDArray[np.float64]) -> Polygons:
    """By the fast algorithm where its result is sound, and by the one that keeps the topology elsewhere."""
    candidates = shapely.simplify(exact, tolerance, preserve_topology=False)
    unsound = np.flatnonzero(~(shapely.is_valid(candidates) & _same_rings(exact, candidates)))
    candidates[unsound] = shapely.simplify(exact[unsound], tolerance[unsound], preserve_topology=True)
    return candidates


def moved_area(exact: Polygons, simple: Polygons) -> NDArray[np.float64]:
    """The area (N,) that polygons with fewer vertices gain and lose in all, or a little more.

    A new edge and the edges that it replaces enclose what lies between each old edge and the line of the new one. The
    sum of these trapezoids is exact where the old edges do not turn back; an overlay takes several times as long.

    Args:
        exact: Polygons.
        simple: The same with a part of their vertices; infinity is returned for all that are something else.
    """
    area = np.where(shapely.is_valid(simple) & _same_rings(exact, simple), 0.0, np.inf)
    comparable = np.flatnonzero(np.isfinite(area))
    points, ring, owner = _vertices(exact[comparable])
    kept_points, kept_ring, _ = _vertices(simple[comparable])
    kept = np.isin(_keys(points, ring), _keys(kept_points, kept_ring))
    counts = np.bincount(ring[kept], minlength=len(owner))
    strange = (counts != np.bincount(kept_ring, minlength=len(owner))) | (counts == 0)
    area[comparable[owner[strange]]] = np.inf
    usable = ~strange[ring]
    points, ring, kept = points[usable], ring[usable], kept[usable]
    if not len(points):
        return area
    after = _next_in_ring(ring)
    corners = np.flatnonzero(kept)
    last = np.cumsum(np.bincount(ring[corners], minlength=len(owner)))[ring] - 1
    edge = np.cumsum(kept) - 1  # the kept vertex that each vertex follows; of the ring's first ones, its last
    edge = np.where((edge < 0) | (ring[corners[edge]] != ring), last, edge)
    start, end = points[corners[edge]], points[corners[_next_in_ring(ring[corners])[edge]]]
    along = (end - start) / np.linalg.norm(end - start, axis=1, keepdims=True)
    across = along[:, ::-1] * [-1, 1]
    reach = np.abs(((points[after] - points) * along).sum(axis=1))
    here, there = ((points - start) * across).sum(axis=1), ((points[after] - start) * across).sum(axis=1)
    away = np.abs(here) + np.abs(there)
    crossing = (here**2 + there**2) / np.maximum(away, 1e-12)
    trapezoids = reach * np.where(here * there < 0, crossing, away) / 2
    area[comparable] += np.bincount(owner[ring], trapezoids, minlength=len(comparable))
    return area


def valid_polygons(polygons: Polygons) -> Polygons:
    """The same areas as valid polygons; what is left of an outline that collapsed to a line or a point is dropped."""
    polygons = polygons.copy()
    broken = np.flatnonzero(~shapely.is_valid(polygons))
    repaired = shapely.make_valid(polygons[broken], method="structure", keep_collapsed=False)
    polygons[broken] = [only_polygons(geometry) for geometry in repaired]
    return polygons


def only_polygons(geometry: shapely.Geometry) -> shapely.Polygon | shapely.MultiPolygon:
    """The polygons in a geometry, without its lines and points."""
    parts = shapely.get_parts(shapely.get_parts(geometry))  # a collection may hold a MultiPolygon
    parts = parts[(shapely.get_type_id(parts) == shapely.GeometryType.POLYGON) & ~shapely.is_empty(parts)]
    return parts[0] if len(parts) == 1 else shapely.MultiPolygon(parts.tolist())


def _same_rings(exact: Polygons, simple: Polygons) -> NDArray[np.bool_]:
    """Whether polygons have as many parts and rings (N,)."""
    counts = []
    for polygons in (exact, simple):
        parts, owner = shapely.get_parts(polygons, return_index=True)
        rings = np.bincount(owner, shapely.get_num_interior_rings(parts) + 1, minlength=len(polygons))
        counts.append((np.bincount(owner, minlength=len(polygons)), rings))
    (parts, rings), (other_parts, other_rings) = counts
    return (parts == other_parts) & (rings == other_rings)


def _vertices(polygons: Polygons) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Vertices (P, 2) without the repeated first ones, the ring of each (P,), and the polygon of each ring (R,)."""
    parts, polygon_of_part = shapely.get_parts(polygons, return_index=True)
    rings, part_of_ring = shapely.get_rings(parts, return_index=True)
    points, ring = shapely.get_coordinates(rings, return_index=True)
    repeated = np.append(ring[1:] != ring[:-1], True)[: len(ring)]
    return points[~repeated], ring[~repeated], polygon_of_part[part_of_ring]


def _keys(points: NDArray[np.float64], ring: NDArray[np.int64]) -> NDArray[np.int64]:
    """A number (P,) for each vertex: ring, column and row, of which scenes have fewer than 2^21."""
    column, row = points.astype(np.int64).T
    return (ring << 42) | (column << 21) | row


def _next_in_ring(ring: NDArray[np.int64]) -> NDArray[np.int64]:
    """The index of the vertex that follows each (P,), around its ring."""
    last = np.append(ring[1:] != ring[:-1], True)
    first = np.flatnonzero(np.append(True, last[:-1]))
    after = np.arange(1, len(ring) + 1)
    after[last] = first
    return after
