"""The stretch of a scene: exact where it is small, near where it is large, of few blocks of the file."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from distill.data.levels import percentiles, stretch
from distill.data.rasters import Raster, open_raster
from distill.scene import stretch as module
from distill.scene.stretch import scene_limits
from tests.scene.rasters import sensor, write

LAYOUTS = {
    "tiled": {"tiled": True, "blockxsize": 16, "blockysize": 16},
    "striped": {"blockysize": 1},
    "strips": {"blockysize": 32},
    "one strip": {"blockysize": 600},
    "planar": {"tiled": True, "blockxsize": 32, "blockysize": 16, "interleave": "band"},
}


@pytest.fixture
def small_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a scene of 20,000 pixels meets, at 600 x 500."""
    for name, value in {"EXACT": 10_000, "_DECODED": 60_000, "_KEPT": 30_000, "_ENOUGH": 1000, "PIECE": 8000}.items():
        monkeypatch.setattr(module, name, value)
    monkeypatch.setattr("distill.scene.chunks.PIECE", 8000)


def slopes(seed: int = 0) -> NDArray[np.uint16]:
    """A scene that is brighter at the bottom and at the right."""
    rows, columns = np.mgrid[:600, :500]
    return (sensor(3, 600, 500, seed) // 2 + rows + columns).astype(np.uint16)


def limits(path: Path, exact: bool = False) -> tuple[tuple[float, float], int]:
    """Those of a scene, and how many pixels were decoded for them."""
    decoded = 0

    class Counted(Raster):
        def read(self, top: int, left: int, height: int, width: int) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
            nonlocal decoded
            decoded += height * width
            return super().read(top, left, height, width)

    with open_raster(path) as raster:
        raster.__class__ = Counted
        return scene_limits(raster, exact), decoded


@pytest.mark.parametrize("layout", LAYOUTS)
def test_all_values_of_a_small_scene_count(tmp_path: Path, layout: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distill.scene.chunks.PIECE", 8000)
    values = slopes()
    values[:, :200] = 0
    path = write(tmp_path / "a.tif", values, nodata=0, **LAYOUTS[layout])
    low, high = np.percentile(values[values != 0], (1, 99))
    assert limits(path) == ((low, high), 600 * 500)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_blocks_of_a_large_scene_stand_for_it(tmp_path: Path, layout: str, small_budget: None) -> None:
    values = slopes()
    path = write(tmp_path / "a.tif", values, **LAYOUTS[layout])
    found, decoded = limits(path)
    assert 30_000 < decoded <= 60_000
    shares = [(values < limit).mean() for limit in found]
    assert shares == pytest.approx([0.01, 0.99], abs=0.005)
    exact, decoded = limits(path, exact=True)
    assert (exact, decoded) == (percentiles(values), 600 * 500)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_scene_that_is_nearly_empty_is_searched(tmp_path: Path, layout: str, small_budget: None) -> None:
    values = np.zeros((3, 600, 500), np.float32)
    values[:, 541:590, 3:40] = slopes()[:, 541:590, 3:40]
    path = write(tmp_path / "a.tif", values, nodata=0, **LAYOUTS[layout])
    assert limits(path)[0] == pytest.approx(percentiles(values[values != 0]), rel=0.04)
    nothing = write(tmp_path / "b.tif", np.zeros((3, 600, 500), np.float32), nodata=0, **LAYOUTS[layout])
    assert limits(nothing)[0] == (0, 1)


def test_many_values_are_thinned_out(tmp_path: Path, small_budget: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_DECODED", 10**9)
    held: list[int] = []
    monkeypatch.setattr(module, "percentiles", lambda data: held.append(len(data)) or percentiles(data))
    values = slopes()
    found, _ = limits(write(tmp_path / "a.tif", values, **LAYOUTS["tiled"]))
    assert 15_000 <= held[0] <= 30_000
    assert [(values < limit).mean() for limit in found] == pytest.approx([0.01, 0.99], abs=0.003)


@pytest.mark.parametrize("dtype", ["int8", "uint16", "int16", "int32", "float32"])
def test_a_table_of_levels_is_the_formula(dtype: str) -> None:
    """Values of up to 16 bits are looked up where there are many."""
    values = np.random.default_rng(0).normal(0, 60, (2, 300, 300)).clip(-100, 100).astype(dtype)
    low, high = np.percentile(values.astype(float), (1, 99))
    expected = np.round(((values.astype(np.float64) - low) / (high - low)).clip(0, 1) * 255)
    assert np.array_equal(stretch(values), expected)
