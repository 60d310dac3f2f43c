"""Features as a GeoPackage, in the CRS of the raster."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import shapely

from distill.scene.feature_writer import FeatureWriter
from distill.scene.features import Feature
from distill.scene.georeference import Georeference
from distill.scene.polygons import valid_polygons

LAYER = "predictions"
BATCH = 1024  # features of a transaction; fixed, since the bytes of the file depend on it

# What GDAL turns into the GeoPackage's own "undefined Cartesian" system, -1. Without any, it takes an undefined one.
PIXELS = (
    'ENGCRS["Undefined Cartesian SRS",EDATUM["Unknown engineering datum"],CS[Cartesian,2],'
    'AXIS["x",east],AXIS["y",north],LENGTHUNIT["metre",1]]'
)
# GDAL writes the time of the last change. The same features are to give the same bytes.
_DATE = "1970-01-01T00:00:00.000Z"


class GeoPackageWriter(FeatureWriter):
    """Features as rows of the layer `predictions`, with a spatial index.

    Polygons have the coordinates of the raster's CRS, and without georeference those of its pixels: x is the column,
    y the row, which grows downwards. Fields: `id`, `class`, `score`, `area_m2` (geodesic; without a CRS `area_px`,
    pixels), `parts`, `tile` ("row,column") and `oriented_box`, the smallest rectangle of any direction as WKT in the
    coordinates of the layer.

    Rows wait in memory until there are 1,024, so that the file is the same however they are handed over.

    Args:
        path: The file; it must end in `.gpkg`. What is there already is replaced.
        georeference: Of the scene that the features lie in.
    """

    def __init__(self, path: Path, georeference: Georeference | None) -> None:
        self.georeference = georeference
        self._mapped = georeference is not None and georeference.wkt is not None
        self._waiting: list[tuple[Any, ...]] = []
        self._exists = False
        super().__init__(path)

    def discard(self) -> None:
        """Removes what was written, with SQLite's journal."""
        for suffix in ("", "-journal", "-wal", "-shm"):
            self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)

    def _open(self) -> None:
        self.discard()

    def _write(self, features: Sequence[Feature]) -> None:
        self._waiting += self._rows(features)
        while len(self._waiting) >= BATCH:
            self._append(self._waiting[:BATCH])
            del self._waiting[:BATCH]

    def _finish(self) -> None:
        if self._waiting or not self._exists:
            self._append(self._waiting)
            self._waiting = []

    def _rows(self, features: Sequence[Feature]) -> Iterator[tuple[Any, ...]]:
        """Polygon as WKB and the values of the fields of each feature."""
        polygons = np.array([feature.polygon for feature in features], object)
        corners = np.array([feature.oriented for feature in features], np.float64).reshape(-1, 2)
        if self.georeference is not None:
            polygons = valid_polygons(shapely.transform(polygons, self.georeference.to_map))
            corners = self.georeference.to_map(corners)
        boxes = shapely.to_wkt(shapely.polygons(corners.reshape(-1, 4, 2)), rounding_precision=9)
        for feature, polygon, box in zip(
            features, shapely.to_wkb(shapely.orient_polygons(polygons)), boxes, strict=True
        ):
            area = feature.area_m2 if self._mapped else feature.area_px
            tile = "{},{}".format(*feature.tile)
            yield polygon, feature.id, feature.class_name, feature.score, area, feature.parts, tile, box

    def _append(self, rows: Sequence[tuple[Any, ...]]) -> None:
        types = {"id": np.int64, "class": object, "score": np.float64}
        types |= {"area_m2": np.float64} if self._mapped else {"area_px": np.int64}
        types |= {"parts": np.int32, "tile": object, "oriented_box": object}
        polygons, *columns = list(zip(*rows, strict=True)) or [()] * (len(types) + 1)
        with same_date():
            pyogrio.raw.write(
                self.path,
                np.array(polygons, object),
                [np.array(column, kind) for column, kind in zip(columns, types.values(), strict=True)],
                list(types),
                layer=LAYER,
                driver="GPKG",
                geometry_type="MultiPolygon",
                promote_to_multi=True,
                crs=self.georeference.wkt if self.georeference is not None and self._mapped else PIXELS,
                append=self._exists,
            )
        self._exists = True


@contextmanager
def same_date() -> Iterator[None]:
    """Makes GDAL write a fixed time of the last change, for all GeoPackages that this process writes meanwhile."""
    before = pyogrio.get_gdal_config_option("OGR_CURRENT_DATE")
    pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": _DATE})
    try:
        yield
    finally:
        pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": before})
