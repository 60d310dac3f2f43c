"""How values of any type become grey levels and colours of 8 bits.

Axes: B bands, H W pixels.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

# Radar and multispectral products use 10 to 13 of their 16 bits and hold a few extreme scatterers, so neither dividing
# by 65535 (nearly black) nor by the maximum (one corner reflector darkens the scene) shows the content.
STRETCH_PERCENTILES = (1.0, 99.0)


def stretch(values: NDArray[Any], valid: NDArray[np.bool_] | None = None) -> NDArray[np.uint8]:
    """Values of any type and range as grey levels: linear from their 1st to their 99th percentile, all bands alike.

    Args:
        values: (B, H, W).
        valid: Which of them are data; the others, and what is not finite, are ignored and become 0.
    """
    if values.dtype.kind == "f":
        finite = np.isfinite(values)
        valid = finite if valid is None else valid & finite
    return to_levels(values, valid, percentiles(values if valid is None else values[valid]))


def percentiles(data: NDArray[Any]) -> tuple[float, float]:
    """The 1st and the 99th percentile of values that are all data; 0 and 1 where there are none."""
    if data.size == 0:
        return 0.0, 1.0
    low, high = np.percentile(data.astype(np.float64), STRETCH_PERCENTILES, overwrite_input=True)
    return float(low), float(high)


def to_levels(values: NDArray[Any], valid: NDArray[np.bool_] | None, limits: tuple[float, float]) -> NDArray[np.uint8]:
    """Grey levels, linear from 0 at the lower limit to 255 at the upper.

    Args:
        values: (B, H, W).
        valid: Which of them are data, and finite; the others become 0. None where all are.
        limits: The lower and the upper.
    """
    few = values.dtype.kind in "iu" and values.dtype.itemsize <= 2 and values.size > 1 << 16
    if few:  # a level for every value there can be
        kind = np.iinfo(values.dtype)
        table = np.roll(_levels(np.arange(kind.min, kind.max + 1), limits), kind.min)
        levels = table.take(values.view(f"u{values.dtype.itemsize}"))
    else:
        levels = _levels(values, limits)
    if valid is not None:
        levels[~valid] = 0
    return levels


def _levels(values: NDArray[Any], limits: tuple[float, float]) -> NDArray[np.uint8]:
    low, high = limits
    levels = np.empty(values.shape, np.uint8)
    flat, result = values.reshape(-1), levels.reshape(-1)
    with np.errstate(invalid="ignore"):
        for start in range(0, flat.size, 1 << 16):  # float64 takes eight times the room
            scaled = flat[start : start + (1 << 16)].astype(np.float64)
            scaled -= low
            scaled /= max(high - low, 1e-12)
            np.clip(scaled, 0, 1, out=scaled)
            scaled *= 255
            result[start : start + (1 << 16)] = np.rint(scaled, out=scaled)
    return levels


def apply_palette(values: NDArray[Any], palette: NDArray[np.uint8] | None) -> NDArray[Any]:
    """Values (B, H, W), of which a single band may point into a palette; its colours (3, H, W) then."""
    return values if palette is None else np.stack([channel.take(values[0]) for channel in palette.T])
