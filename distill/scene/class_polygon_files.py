"""Polygons of land cover as a GeoPackage or as GeoJSON."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyogrio
import shapely
from numpy.typing import NDArray

from distill.errors import UserError
from distill.scene.antimeridian import in_degrees
from distill.scene.geojson import DECIMALS
from distill.scene.geopackage import PIXELS, same_date
from distill.scene.georeference import Georeference
from distill.scene.polygons import Polygons, valid_polygons
from distill.scene.writing import Writing

LAYER = "landcover"
BATCH = 4096  # polygons of a transaction; fixed, since the bytes of the file depend on it


class ClassPolygonWriter(Writing):
    """Writes polygons of classes, a file that ends in `.gpkg` in the CRS of the raster, `.geojson` by RFC 7946.

    Fields: `id` from 0, `class`, `label` (the value in the class map), and `area_m2`, the geodesic area of the polygon
    in square metres; without a CRS `area_px` in pixels. A GeoPackage without georeference has pixel coordinates: x is
    the column, y the row, which grows downwards.

    As a context manager it closes at the end, and removes the file after an error.

    Args:
        path: The file; what is there already is replaced.
        georeference: Of the scene.
        class_names: In the order of the labels.

    Raises:
        UserError: GeoJSON of a scene without a CRS, or another format.
    """

    def __init__(self, path: Path, georeference: Georeference | None, class_names: Sequence[str]) -> None:
        if path.suffix not in (".gpkg", ".geojson"):
            raise UserError(f"polygons cannot be written to {path.name}; name a file that ends in .gpkg or .geojson")
        self._mapped = georeference is not None and georeference.wkt is not None
        if path.suffix == ".geojson" and not self._mapped:
            raise UserError(
                "GeoJSON has longitudes and latitudes, and the scene has no CRS; name its CRS with --crs, or write "
                "pixel coordinates with --format gpkg"
            )
        self.georeference, self._path, self._names = georeference, path, list(class_names)
        self._labels: list[int] = []
        self._polygons: list[shapely.Geometry] = []
        self._written = 0
        self.discard()

    def add(self, labels: NDArray[np.uint8], polygons: Polygons) -> None:
        """Takes polygons in pixels and their classes.

        Raises:
            UserError: The file cannot be written.
        """
        self._labels += labels.tolist()
        self._polygons += polygons.tolist()
        while len(self._labels) >= BATCH:
            self._write(BATCH)

    def close(self) -> None:
        """Completes the file.

        Raises:
            UserError: It cannot be written.
        """
        if self._labels or not self._written:
            self._write(len(self._labels))
        if self._path.suffix == ".geojson":
            self._append("\n]}\n")

    def discard(self) -> None:
        """Removes the file, with SQLite's journal."""
        for suffix in ("", "-journal", "-wal", "-shm"):
            self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)

    def _write(self, count: int) -> None:
        labels, polygons = np.array(self._labels[:count], np.int32), np.array(self._polygons[:count], object)
        del self._labels[:count], self._polygons[:count]
        fields: dict[str, NDArray[np.generic]] = {
            "id": np.arange(self._written, self._written + count),
            "class": np.array([self._names[label] for label in labels], object),
            "label": labels,
        }
        if self.georeference is not None and self._mapped:
            fields["area_m2"] = np.array([self.georeference.area(polygon) for polygon in polygons], np.float64)
        else:
            fields["area_px"] = shapely.area(polygons).astype(np.float64)
        if self._path.suffix == ".gpkg":
            self._write_geopackage(polygons, fields)
        else:
            self._write_geojson(polygons, fields)
        self._written += count

    def _write_geopackage(self, polygons: Polygons, fields: dict[str, NDArray[np.generic]]) -> None:
        georeference, crs = self.georeference, PIXELS
        if georeference is not None:
            polygons = shapely.orient_polygons(shapely.transform(polygons, georeference.to_map))
            crs = georeference.wkt or crs
        try:
            with same_date():
                pyogrio.raw.write(
                    self._path,
                    shapely.to_wkb(polygons),
                    list(fields.values()),
                    list(fields),
                    layer=LAYER,
                    driver="GPKG",
                    geometry_type="MultiPolygon",
                    promote_to_multi=True,
                    crs=crs,
                    append=self._written > 0,
                )
        except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError) as error:
            raise self._failure(str(error)) from error

    def _write_geojson(self, polygons: Polygons, fields: dict[str, NDArray[np.generic]]) -> None:
        assert self.georeference is not None
        polygons = in_degrees(polygons, self.georeference)
        polygons = valid_polygons(shapely.transform(polygons, lambda points: np.round(points, DECIMALS) + 0.0))
        rows = zip(*(values.tolist() for values in fields.values()), strict=True)
        lines = []
        for polygon, row in zip(shapely.orient_polygons(polygons), rows, strict=True):
            properties = dict(zip(fields, row, strict=True))
            geometry = None if shapely.is_empty(polygon) else shapely.geometry.mapping(polygon)
            feature = {"type": "Feature", "id": properties["id"], "geometry": geometry, "properties": properties}
            lines.append(f"\n{json.dumps(feature, ensure_ascii=False, allow_nan=False)}")
        self._append(("," if self._written else '{"type": "FeatureCollection", "features": [') + ",".join(lines))

    def _append(self, text: str) -> None:
        try:
            with self._path.open("a", encoding="utf-8", newline="\n") as file:
                file.write(text)
        except OSError as error:
            raise self._failure(error.strerror or str(error)) from error

    def _failure(self, reason: str) -> UserError:
        return UserError(
            f"{self._path} cannot be written ({reason}); free space or permit writing there, or name another place"
        )
