"""Features as GeoJSON by RFC 7946: longitudes and latitudes of WGS 84."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from distill.errors import UserError
from distill.scene.antimeridian import in_degrees, within_the_globe
from distill.scene.feature_writer import TextWriter
from distill.scene.features import Feature
from distill.scene.georeference import Georeference
from distill.scene.outlines import Polygons
from distill.scene.polygons import only_polygons

DECIMALS = 7  # of a degree: 1.1 cm, or less


class GeoJsonWriter(TextWriter):
    """Features as one FeatureCollection, a line for each.

    Coordinates have seven decimals, exteriors run counter-clockwise, and polygons are cut at the antimeridian. The
    properties are the fields of `GeoPackageWriter`; `tile` is a list, and `oriented_box` a list of four points. An
    object that is smaller than the last decimal has no geometry.

    Args:
        path: The file; what is there already is replaced.
        georeference: Of the scene that the features lie in.

    Raises:
        UserError: The scene has no CRS.

    Source: RFC 7946.
    """

    def __init__(self, path: Path, georeference: Georeference | None) -> None:
        if georeference is None or georeference.wkt is None:
            raise UserError(
                "GeoJSON has longitudes and latitudes, and the scene has no CRS; "
                "name its CRS with --crs, or write pixel coordinates with --format gpkg or coco"
            )
        self.georeference = georeference
        self._separator = ""
        super().__init__(path)

    def _open(self) -> None:
        super()._open()
        self.file.write('{"type": "FeatureCollection", "features": [')

    def _write(self, features: Sequence[Feature]) -> None:
        polygons = np.array([feature.polygon for feature in features], object)
        polygons = in_degrees(polygons, self.georeference)
        polygons = shapely.orient_polygons(_rounded(polygons))
        corners = np.array([feature.oriented for feature in features], np.float64).reshape(-1, 2)
        boxes = _round(within_the_globe(self.georeference.to_lonlat(corners))).reshape(-1, 4, 2)
        for feature, polygon, box in zip(features, polygons, boxes, strict=True):
            line = {
                "type": "Feature",
                "id": feature.id,
                "geometry": None if shapely.is_empty(polygon) else shapely.geometry.mapping(polygon),
                "properties": _properties(feature, box),
            }
            self.file.write(f"{self._separator}\n{json.dumps(line, ensure_ascii=False, allow_nan=False)}")
            self._separator = ","

    def _finish(self) -> None:
        self.file.write("\n]}\n")
        super()._finish()


def _properties(feature: Feature, box: NDArray[np.float64]) -> dict[str, Any]:
    return {
        "id": feature.id,
        "class": feature.class_name,
        "score": feature.score,
        "area_m2": feature.area_m2,
        "parts": feature.parts,
        "tile": list(feature.tile),
        "oriented_box": box.tolist(),
    }


def _rounded(polygons: Polygons) -> Polygons:
    """Polygons on the grid of the decimals. Where rounding makes rings touch or cross, they are noded anew."""
    rounded = shapely.transform(polygons, _round)
    broken = ~shapely.is_valid(rounded)
    snapped = shapely.set_precision(polygons[broken], 10.0**-DECIMALS)
    rounded[broken] = [only_polygons(geometry) for geometry in snapped]
    return shapely.transform(rounded, _round)


def _round(points: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.round(points, DECIMALS) + 0.0  # no -0.0
