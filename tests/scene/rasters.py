"""Small GeoTIFFs for tests of scenes."""

from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray

UTM = rasterio.Affine(0.5, 0, 600_000, 0, -0.5, 5_300_000)


def write(
    path: Path, bands: NDArray[Any], mask: NDArray[Any] | None = None, colours: Any = None, **options: Any
) -> Path:
    """Bands (B, H, W) as a GeoTIFF in UTM, unless `options` say otherwise; None drops what stands there."""
    count, height, width = bands.shape
    shape = {"driver": "GTiff", "count": count, "height": height, "width": width, "dtype": bands.dtype}
    place = {"crs": "EPSG:32633", "transform": UTM}
    given = {key: value for key, value in (shape | place | options).items() if value is not None}
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "w", **given) as dataset:
        if colours is not None:
            dataset.write_colormap(1, colours)
        dataset.write(bands)
        if mask is not None:
            dataset.write_mask(mask)
    return path


def sensor(bands: int, height: int = 90, width: int = 130, seed: int = 0) -> NDArray[np.uint16]:
    """Values of 12 bits as a sensor gives them, above 0, with a bright scatterer."""
    values = np.random.default_rng(seed).gamma(2, 300, (bands, height, width)).clip(1, 4000).astype(np.uint16)
    values[:, height // 2, width // 2] = 4095
    return values
