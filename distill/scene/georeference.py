"""Where pixels lie on Earth: map coordinates, longitudes and latitudes, lengths and areas.

Axes: N points. Pixels are (column, row), with the corners of pixels at whole numbers: (0, 0) is the outer corner of the
first pixel, (0.5, 0.5) its centre. Coordinates are always (x, y) or (longitude, latitude), whatever a CRS says.
"""

import math
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import shapely
from numpy.typing import NDArray
from pyproj import CRS, Geod, Transformer
from pyproj.crs import GeographicCRS
from pyproj.exceptions import CRSError, ProjError

from distill.data.rasters import BrokenImage, Raster, open_raster
from distill.errors import UserError, first_line

# An edge that is straight on the map bows away from the geodesic between its ends, by some metres on 10 km.
_LONGEST_EDGE = 0.01  # degrees
_METRES_A_DEGREE = 111_000.0

# Areas are exact to about 1e-8 square metres, which is little for a block of pixels and much for one of a drone. The
# large block can reach beyond a pole, or the limb of the Earth.
_BLOCKS = (8.0, 0.5)  # pixels

PIXELS_ONLY = "has no georeference, so its results are in pixels"

Points = NDArray[np.float64]


@dataclass(frozen=True)
class Georeference:
    """An affine transform from pixels to a map, and what the map's coordinates mean.

    Attributes:
        transform: (a, b, c, d, e, f) of (x, y) = (a column + b row + c, d column + e row + f); any that can be undone.
        wkt: The coordinate system, in two dimensions; None where only the transform is known.
    """

    transform: tuple[float, float, float, float, float, float]
    wkt: str | None

    def to_map(self, points: Points) -> Points:
        """Pixels (N, 2) in the coordinates of the CRS, in its own units."""
        a, b, c, d, e, f = self.transform
        column, row = np.asarray(points, np.float64).T
        return np.stack([a * column + b * row + c, d * column + e * row + f], axis=1)

    def to_lonlat(self, points: Points) -> Points:
        """Pixels (N, 2) as longitudes and latitudes of WGS 84, in degrees.

        Raises:
            UserError: There is no CRS, or one that is not on Earth; a point lies outside what its projection can show.
        """
        degrees = _apply(_to_wgs84(self._known_wkt), self.to_map(points))
        if not np.isfinite(degrees).all():
            raise UserError("a point of the scene has no longitude and latitude in its CRS; reproject it with gdalwarp")
        return degrees

    def pixel_size(self, x: float, y: float) -> float:
        """Side of a square as large as the pixels around a point given in pixels, in metres on the ground.

        Raises:
            UserError: There is no CRS.
        """
        for block in _BLOCKS:
            half = block / 2
            size = math.sqrt(self.area(shapely.box(x - half, y - half, x + half, y + half))) / block
            if math.isfinite(size):
                break
        return size

    def pixel_sides(self, x: float, y: float) -> tuple[float, float]:
        """Width and height of the pixels around a point given in pixels, in metres on the ground.

        Raises:
            UserError: There is no CRS.
        """
        for block in _BLOCKS:
            half = block / 2
            ends = np.array([[x - half, y], [x + half, y], [x, y - half], [x, y + half]])
            west, east, north, south = self._to_own_degrees(ends)
            sides = self._geod.inv(*west, *east)[2] / block, self._geod.inv(*north, *south)[2] / block
            if all(map(math.isfinite, sides)):
                break
        return sides

    def area(self, polygon: shapely.Polygon | shapely.MultiPolygon) -> float:
        """Geodesic area of a polygon in pixels, less its holes, in square metres.

        It is measured on the ellipsoid of the CRS, where a shift to another datum cannot bend it.

        Raises:
            UserError: There is no CRS.

        Source: Karney, "Algorithms for geodesics", J. Geodesy 87 (2013), as in PROJ.
        """
        total = 0.0
        for part in shapely.get_parts(polygon):
            hull, *holes = (self._ring_area(ring) for ring in shapely.get_rings(part))
            total += hull - sum(holes)
        return total

    def _ring_area(self, ring: shapely.LinearRing) -> float:
        degrees = self._to_own_degrees(shapely.get_coordinates(ring))
        if np.ptp(degrees, axis=0).max() > _LONGEST_EDGE:
            x, y = shapely.get_coordinates(shapely.envelope(ring).centroid)[0]
            longest = _LONGEST_EDGE * _METRES_A_DEGREE / max(self.pixel_sides(x, y))
            degrees = self._to_own_degrees(shapely.get_coordinates(shapely.segmentize(ring, max(1.0, longest))))
        return abs(float(self._geod.polygon_area_perimeter(*degrees.T)[0]))

    def scaled(self, factor_x: float, factor_y: float) -> "Georeference":
        """The georeference of a grid from the same corner, with pixels `factor_x` as wide and `factor_y` as high."""
        a, b, c, d, e, f = self.transform
        return Georeference((a * factor_x, b * factor_y, c, d * factor_x, e * factor_y, f), self.wkt)

    @cached_property
    def _known_wkt(self) -> str:
        if self.wkt is None:
            raise UserError("the scene has no CRS; --crs assigns one, for example --crs EPSG:32633")
        return self.wkt

    @cached_property
    def _geod(self) -> Geod:
        return _own_degrees(self._known_wkt)[1]

    def _to_own_degrees(self, points: Points) -> Points:
        """Pixels (N, 2) as longitudes and latitudes of the CRS's own datum, in degrees."""
        return _apply(_own_degrees(self._known_wkt)[0], self.to_map(points))


def read_georeference(raster: Raster, assigned: str | None = None) -> tuple[Georeference | None, list[str]]:
    """The georeference of a raster, and notes, each as a sentence that begins after the file's name.

    Args:
        raster: Opened.
        assigned: What the user says its CRS is: a code, WKT or PROJ string.

    Returns:
        None where the raster has no transform.

    Raises:
        UserError: It is placed by something else than a transform, or `assigned` is unknown, contradicts the file, or
            has nothing to be assigned to.
    """
    name = repr(str(raster.path))
    transform, wkt, notes = raster.transform, raster.crs, []
    if transform is None and raster.control:
        raise UserError(
            f"raster {name} is placed by {raster.control}, not by a transform; warp it first: gdalwarp IN.tif OUT.tif"
        )
    if transform is not None and not _can_be_undone(transform):
        notes.append("has a transform that squeezes all pixels onto a line, which is ignored")
        transform = None
    if assigned is not None:
        wkt = _assign(name, transform is not None, wkt, assigned)
    if transform is None:
        return None, [*notes, PIXELS_ONLY]
    if wkt is not None:
        flat, fault = _flat(wkt, Georeference(transform, None).to_map(np.array([[raster.width, raster.height]]) / 2))
        notes += [f"has a CRS that gives no place on the ground ({fault}), which is ignored"] if fault else []
        wkt = flat
    if wkt is None and not notes:
        notes.append("has a transform without a CRS; --crs assigns one")
    return Georeference(transform, wkt), notes


def ground_size(path: Path) -> float | None:
    """Metres a pixel of an image file, at its centre; None where the file does not say."""
    try:
        with open_raster(path) as raster:
            georeference, _ = read_georeference(raster)
            if georeference is None or georeference.wkt is None:
                return None
            return georeference.pixel_size(raster.width / 2, raster.height / 2)
    except (BrokenImage, UserError):
        return None


def _can_be_undone(transform: tuple[float, ...]) -> bool:
    a, b, _, d, e, _ = transform
    return bool(np.isfinite(transform).all() and a * e != b * d)


def _assign(name: str, placed: bool, wkt: str | None, assigned: str) -> str:
    """The WKT of a CRS that the user names for a raster."""
    try:
        crs = CRS.from_user_input(assigned)
    except CRSError as error:
        raise UserError(f"--crs {assigned!r} is no CRS that PROJ knows; name one as EPSG:32633, or by WKT") from error
    if not placed:
        raise UserError(f"--crs assigns a CRS to the transform of a raster, but {name} has none; leave --crs out")
    if wkt is not None:
        stored = CRS.from_wkt(wkt)
        if not stored.to_2d().equals(crs.to_2d(), ignore_axis_order=True):
            raise UserError(
                f"--crs {assigned!r} only assigns a CRS, but {name} has {stored.name!r}; leave --crs out, or reproject "
                "the file with gdalwarp"
            )
        return wkt
    return crs.to_wkt()


def _flat(wkt: str, centre: Points) -> tuple[str | None, str]:
    """The horizontal part of a CRS, or None and why it is of no use at a point of the map (1, 2)."""
    try:
        flat: str = CRS.from_wkt(wkt).to_2d().to_wkt()
        if np.isfinite(_apply(_own_degrees(flat)[0], centre)).all():
            return flat, ""
        return None, f"{CRS.from_wkt(wkt).name} does not reach the scene"
    except (CRSError, ProjError) as error:
        return None, first_line(error)


@lru_cache(maxsize=16)
def _own_degrees(wkt: str) -> tuple[Transformer, Geod]:
    """From a CRS to longitude and latitude of its own datum in degrees, and the ellipsoid of that."""
    crs: CRS | None = CRS.from_wkt(wkt)
    if crs is not None and crs.is_bound:
        crs = crs.source_crs
    if crs is None or crs.geodetic_crs is None:
        raise CRSError("it has no datum")
    degrees = GeographicCRS(datum=crs.geodetic_crs.datum)  # always (longitude, latitude), in degrees
    geod = degrees.get_geod()
    if geod is None:
        raise CRSError("it has no ellipsoid")
    return Transformer.from_crs(crs, degrees, always_xy=True), geod


@lru_cache(maxsize=16)
def _to_wgs84(wkt: str) -> Transformer:
    try:
        return Transformer.from_crs(wkt, "OGC:CRS84", always_xy=True)
    except ProjError as error:
        raise UserError(
            f"the CRS of the scene has no longitude and latitude of WGS 84 ({first_line(error)})"
        ) from error


def _apply(transformer: Transformer, points: Points) -> Points:
    x, y = transformer.transform(points[:, 0], points[:, 1])
    return np.stack([x, y], axis=1)
