"""Scenes whose pixels are resampled to another size, against OpenCV's resizing."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import rasterio
from PIL import Image

from distill.errors import UserError
from distill.scene import chunks
from distill.scene.source import SourceOptions, open_scene
from tests.scene.kinds import KINDS, check_windows, eight, whole
from tests.scene.rasters import write


@pytest.mark.parametrize("gsd", [0.2, 0.5, 0.73, 1.0, 1.3, 4.0])
def test_pixels_of_another_size(tmp_path: Path, gsd: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "PIECE", 300)
    path = KINDS["tiled"](tmp_path / "a.tif")
    with open_scene(path, SourceOptions(gsd=gsd)) as scene, open_scene(path) as stored:
        check_windows(scene)
        true = 0.5 / 0.9997  # of a pixel of the zone, there
        assert (scene.height, scene.width) == (round(90 * true / gsd), round(130 * true / gsd))
        assert scene.georeference is not None
        assert stored.georeference is not None
        ends = np.array([[0, 0], [scene.width, scene.height]])
        assert np.allclose(scene.georeference.to_map(ends), stored.georeference.to_map(np.array([[0, 0], [130, 90]])))
        assert scene.georeference.pixel_size(scene.width / 2, scene.height / 2) == pytest.approx(gsd, rel=0.03)
        how = cv2.INTER_AREA if gsd > 0.5 else cv2.INTER_LINEAR
        image = np.moveaxis(eight(3), 0, 2).astype(np.float32)
        expected = np.moveaxis(cv2.resize(image, (scene.width, scene.height), interpolation=how), 2, 0)
        assert np.abs(whole(scene)[0] - expected).max() <= 0.6


def test_data_is_not_mixed_with_nodata(tmp_path: Path) -> None:
    values = np.full((1, 60, 80), 100, np.uint8)
    values[:, :, 31:] = 0
    path = write(tmp_path / "a.tif", values, nodata=0)
    for gsd in (0.3, 1.0, 1.7):
        with open_scene(path, SourceOptions(gsd=gsd)) as scene:
            check_windows(scene)
            pixels, valid = whole(scene)
            assert (pixels[:, valid] == 100).all()
            assert valid.mean() == pytest.approx(31 / 80, abs=0.02)


def test_pixels_of_degrees_become_square(tmp_path: Path) -> None:
    place = rasterio.Affine(1e-5, 0, 13.4, 0, -1e-5, 60.0)
    path = write(tmp_path / "a.tif", eight(1, 100, 100), crs="EPSG:4326", transform=place)
    with open_scene(path, SourceOptions(gsd=1.114)) as scene:
        assert (scene.height, scene.width) == (100, 50)
        assert scene.georeference is not None
        assert scene.georeference.pixel_sides(25, 50) == pytest.approx((1.114, 1.114), rel=0.01)


def test_metres_need_a_georeference(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    with pytest.raises(
        UserError, match=r"^--gsd 0\.5 asks for metres a pixel, but '.*a\.png' has no georeference; leave --gsd"
    ):
        open_scene(tmp_path / "a.png", SourceOptions(gsd=0.5)).__enter__()
    bare = write(tmp_path / "a.tif", eight(1), crs=None)
    with pytest.raises(UserError, match=r"has no CRS, which --crs assigns; leave --gsd out$"):
        open_scene(bare, SourceOptions(gsd=0.5)).__enter__()
    with open_scene(bare, SourceOptions(gsd=1, crs="EPSG:32633")) as scene:
        assert (scene.height, scene.width) == (45, 65)
    with pytest.raises(
        UserError, match=r"--gsd 0\.001 is much finer than the pixels of .*, 0\.5 x 0\.5 m; give 0\.031 metres"
    ):
        open_scene(bare, SourceOptions(gsd=0.001, crs="EPSG:32633")).__enter__()
