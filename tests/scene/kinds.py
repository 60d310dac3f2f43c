"""A small raster of every kind, and what holds for the windows of each."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray

from distill.scene.source import Scene
from tests.scene.rasters import sensor, write

TILED = {"tiled": True, "blockxsize": 32, "blockysize": 16}


def eight(bands: int, height: int = 90, width: int = 130) -> NDArray[np.uint8]:
    return (sensor(bands, height, width) % 256).astype(np.uint8)


def holes(values: NDArray[Any], empty: Any) -> NDArray[Any]:
    """Values with an empty corner and an empty row in one band."""
    values = values.copy()
    values[:, :40, :50] = empty
    values[0, 60] = empty
    return values


def decibels() -> NDArray[np.float32]:
    return holes(10 * np.log10(sensor(1).astype(np.float32)), np.nan)


def scaled(path: Path) -> Path:
    write(path, sensor(3).astype(np.int16), nodata=-5)
    with rasterio.open(path, "r+") as dataset:
        dataset.scales, dataset.offsets = (1.0, 2.0, -0.5), (0.0, 100.0, 1000.0)
    return path


INSIDE = np.ones((90, 130), bool)
INSIDE[20:, 77:] = False
KINDS: dict[str, Callable[[Path], Path]] = {
    "striped": lambda path: write(path, eight(3), blockysize=7),
    "tiled": lambda path: write(path, eight(3), compress="deflate", **TILED),
    "one strip": lambda path: write(path, eight(3), compress="deflate", blockysize=90),
    "planar of 16 bits": lambda path: write(path, sensor(3), interleave="band", **TILED),
    "one band": lambda path: write(path, eight(1)),
    "two bands of 16 bits": lambda path: write(path, sensor(2), photometric="MINISBLACK"),
    "four bands": lambda path: write(path, eight(4), photometric="MINISBLACK", alpha="NO"),
    "alpha": lambda path: write(path, eight(4) & np.uint8(0xC0), photometric="RGB", alpha="YES"),
    "nodata of 8 bits": lambda path: write(path, holes(eight(3), 0), nodata=0),
    "nodata of 16 bits": lambda path: write(path, holes(sensor(3), 0), nodata=0, **TILED),
    "mask of 16 bits": lambda path: write(path, sensor(3), mask=INSIDE, **TILED),
    "radar": lambda path: write(path, decibels()),
    "scaled": scaled,
    "white is zero": lambda path: write(path, sensor(1), photometric="MINISWHITE"),
    "one bit": lambda path: write(path, (sensor(1) % 2).astype(np.uint8), nbits=1),
    "palette": lambda path: write(
        path, eight(1) % np.uint8(4), colours={i: (10 * i, 20 * i, 30 * i, 255) for i in range(4)}, nodata=3
    ),
    "all nodata": lambda path: write(path, np.full((1, 90, 130), -9999, np.float32), nodata=-9999),
    "tall": lambda path: write(path, eight(3, 211, 3)),
    "tiny": lambda path: write(path, sensor(3, 2, 3)),
}


def whole(scene: Scene) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    return scene.read(0, 0, scene.height, scene.width)


def windows(scene: Scene) -> list[tuple[int, int, int, int]]:
    """The corners, a middle, a row, a column and single pixels."""
    height, width, rng = scene.height, scene.width, np.random.default_rng(0)
    chosen = [(0, 0, 1, 1), (height - 1, width - 1, 1, 1), (height // 2, 0, 1, width), (0, width // 2, height, 1)]
    for _ in range(12):
        top, left = int(rng.integers(height)), int(rng.integers(width))
        chosen.append((top, left, int(rng.integers(height - top)) + 1, int(rng.integers(width - left)) + 1))
    return chosen


def check_windows(scene: Scene) -> None:
    pixels, valid = whole(scene)
    assert pixels.dtype == np.uint8
    assert pixels.shape == (3, *valid.shape) == (3, scene.height, scene.width)
    for top, left, height, width in windows(scene):
        part = np.s_[..., top : top + height, left : left + width]
        found = scene.read(top, left, height, width)
        assert np.array_equal(found[0], pixels[part])
        assert np.array_equal(found[1], valid[part])
