"""Small rasters with a place on the ground, and GeoJSON files."""

from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.transform import Affine
from rasterio.warp import transform

from tests.data.published import scene, write_json

CRS = "EPSG:32632"
NORTH_UP = Affine(0.5, 0, 500_000, 0, -0.5, 5_000_000)
SQUARE = [[4.5, 6], [20, 6], [20, 18], [4.5, 18], [4.5, 6]]


def raster(
    path: Path, place: Affine | None = NORTH_UP, crs: str | None = CRS, size: tuple[int, int] = (48, 64), seed: int = 0
) -> Path:
    """A GeoTIFF of three bands."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.moveaxis(np.asarray(scene(seed, *size)), 2, 0)
    shape: dict[str, Any] = {"count": 3, "height": size[0], "width": size[1], "dtype": "uint8"}
    if place is not None:
        shape |= {"transform": place}
    with rasterio.open(path, "w", driver="GTiff", crs=crs, photometric="RGB", **shape) as dataset:
        dataset.write(values)
    return path


def on_ground(pixels: list[list[float]], place: Affine = NORTH_UP, crs: str | None = None) -> list[list[float]]:
    """Pixels of a raster as coordinates: its own, or converted to another CRS."""
    points = [place @ (x, y) for x, y in pixels]
    if crs is not None:
        points = list(zip(*transform(CRS, crs, *zip(*points, strict=True)), strict=True))
    return [list(point) for point in points]


def feature(*rings: list[list[float]], name: Any = "field", key: str = "class") -> dict[str, Any]:
    return {"type": "Feature", "properties": {key: name}, "geometry": {"type": "Polygon", "coordinates": list(rings)}}


def collection(features: list[dict[str, Any]], path: Path, crs: str | None = None) -> Path:
    content: dict[str, Any] = {"type": "FeatureCollection", "features": features}
    if crs is not None:
        content["crs"] = {"type": "name", "properties": {"name": crs}}
    write_json(content, path)
    return path


def geojson(root: Path) -> Path:
    """Three rasters with a file beside each, in WGS84."""
    for seed, name in enumerate("abc"):
        raster(root / f"fields/{name}.tif", seed=seed)
        collection([feature(on_ground(SQUARE, crs="EPSG:4326"))], root / f"fields/{name}.geojson")
    return root
