"""Runs that are served, with a known model in place of a trained one: the engine of `distill predict` does the rest."""

import io
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from PIL import Image

from distill.data.rasters import open_raster
from distill.data.strangers import inspect
from distill.errors import UserError
from distill.launch.predictors import InstancePredictor, SemanticPredictor
from distill.patch import Patch
from distill.scene.detections import TileInstances
from distill.scene.model_facts import ModelFacts, SceneModel
from distill.scene.options import PredictOptions
from distill.scene.tile_size import TileSize
from distill.serve import loaded
from distill.serve.loaded import load_runs, picture_of

NAMES = ["bright", "dark"]


class BrightSquares(InstancePredictor):
    """Finds the rectangle of bright pixels in a tile."""

    def __init__(self) -> None:
        self.class_names, self.bands, self.batch_size = NAMES, None, 2

    def tile_instances(self, tiles: Sequence[np.ndarray]) -> list[TileInstances]:
        return [self._one(tile[0] > 128) for tile in tiles]

    def _one(self, bright: np.ndarray) -> TileInstances:
        rows, columns = np.flatnonzero(bright.any(1)), np.flatnonzero(bright.any(0))
        found = [] if not len(rows) else [(rows[0], columns[0], rows[-1] + 1, columns[-1] + 1)]
        masks = [Patch(int(y1), int(x1), bright[y1:y2, x1:x2].astype(np.uint8)) for y1, x1, y2, x2 in found]
        boxes = np.array([[x1, y1, x2, y2] for y1, x1, y2, x2 in found], np.float32).reshape(-1, 4)
        return TileInstances(boxes, np.full(len(found), 0.8, np.float32), np.zeros(len(found), np.int64), masks)


class BrightPixels(SemanticPredictor):
    """Tells bright pixels from dark ones."""

    def __init__(self) -> None:
        self.class_names, self.bands, self.batch_size = NAMES, None, 2

    def tile_logits(self, tiles: Sequence[np.ndarray]) -> list[np.ndarray]:
        return [np.stack([tile[0] / 255.0, 1 - tile[0] / 255.0]).astype(np.float32) for tile in tiles]


@pytest.fixture
def serve_model(monkeypatch: pytest.MonkeyPatch):
    """Puts a model in place of every run."""

    def put(model: Any) -> None:
        task = "instances" if isinstance(model, InstancePredictor) else "segmentation"
        facts = ModelFacts("runs/a", task, tuple(NAMES), "0" * 64, "0.1", TileSize(64, 16, 0), notes=("it is small",))

        def of_run(run: Path, options: PredictOptions, checkpoint: str | None, device: str | None) -> SceneModel:
            return SceneModel(model, facts, replace(options, bands=model.bands), model.batch_size)

        monkeypatch.setattr(loaded, "scene_model", of_run)

    return put


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    """A bright rectangle across four tiles of a GeoTIFF with pixels of 2 m."""
    pixels = np.full((3, 100, 130), 40, np.uint8)
    pixels[:, 40:60, 50:90] = 220
    path = tmp_path / "scene.tif"
    place = rasterio.transform.from_origin(500_000, 5_300_000, 2, 2)
    profile = {"driver": "GTiff", "height": 100, "width": 130, "count": 3, "dtype": "uint8"}
    with rasterio.open(path, "w", crs="EPSG:32632", transform=place, **profile) as file:
        file.write(pixels)
    return path


def test_an_object_across_tiles_is_one_in_all_files(serve_model, scene: Path, tmp_path: Path) -> None:
    serve_model(BrightSquares())
    (run,) = load_runs(["runs/a"], score=0.2)
    told: list[tuple[int, int]] = []
    (tmp_path / "out").mkdir()
    found = run.predict(scene, tmp_path / "out", lambda done, total: told.append((done, total)))
    assert (run.name, run.task, run.class_names, run.score) == ("a", "instances", NAMES, 0.2)
    assert found.counts == {"bright": 1, "dark": 0}
    assert told[-1][0] == told[-1][1] > 4
    assert sorted(found.files) == ["predictions.json", "scene.geojson"]
    (result,) = json.loads(found.files["predictions.json"].read_text())
    assert result["bbox"] == [50, 40, 40, 20]
    (feature,) = json.loads(found.files["scene.geojson"].read_text())["features"]
    assert feature["properties"]["area_m2"] == pytest.approx(800 * 4, rel=2e-3)
    ((label, score, outline),) = json.loads(found.shown.read_text())
    assert (label, score) == (0, 0.8)
    points = np.array([point.split() for point in outline.strip("MZ").split("L")], float)
    np.testing.assert_array_equal([points.min(0), points.max(0)], [[50, 40], [90, 60]])
    assert found.notes[0] == "a: it is small"
    assert all("/" not in note for note in found.notes)


def test_a_photo_gives_pixels_and_says_so(serve_model, tmp_path: Path) -> None:
    serve_model(BrightSquares())
    Image.new("RGB", (50, 40), (200, 200, 200)).save(tmp_path / "photo.png")
    (tmp_path / "out").mkdir()
    found = load_runs(["runs/a"])[0].predict(tmp_path / "photo.png", tmp_path / "out", lambda *_: None)
    assert list(found.files) == ["predictions.json"]
    assert any(note.startswith("photo ") and "georeference" in note for note in found.notes)


def test_land_cover_is_a_raster(serve_model, scene: Path, tmp_path: Path) -> None:
    serve_model(BrightPixels())
    (tmp_path / "out").mkdir()
    found = load_runs(["runs/a"])[0].predict(scene, tmp_path / "out", lambda *_: None)
    assert found.counts == pytest.approx({"bright": 800 / 13_000, "dark": 12_200 / 13_000})
    assert "scene.tif" in found.files
    content = found.shown.read_bytes()
    labels = np.frombuffer(content[8:], np.uint8).reshape(np.frombuffer(content[:8], "<u4"))
    expected = np.ones((100, 130), np.uint8)
    expected[40:60, 50:90] = 0
    np.testing.assert_array_equal(labels, expected)


def test_runs_of_one_name_go_by_their_paths(serve_model) -> None:
    serve_model(BrightSquares())
    assert [run.name for run in load_runs(["runs/a", "other/a", "runs/b"])] == ["runs/a", "other/a", "b"]


def test_runs_that_see_other_bands_are_refused(serve_model, monkeypatch: pytest.MonkeyPatch) -> None:
    serve_model(BrightSquares())
    of_run = loaded.scene_model

    def with_bands(run: Path, options: PredictOptions, *rest: Any) -> SceneModel:
        model = of_run(run, options, *rest)
        return replace(model, options=replace(model.options, bands=(4, 3, 2) if run.name == "b" else None))

    monkeypatch.setattr(loaded, "scene_model", with_bands)
    with pytest.raises(UserError, match=r"a sees bands None and b \(4, 3, 2\) .*; serve them one by one"):
        load_runs(["runs/a", "runs/b"])
    assert len(load_runs(["runs/a", "runs/c"])) == 2


def test_the_picture_is_what_the_model_sees(scene: Path, tmp_path: Path) -> None:
    picture = picture_of(scene, tmp_path, None)
    assert (picture.height, picture.width) == (100, 130)
    with Image.open(picture.file) as image:
        assert image.size == (130 * 6, 100 * 6)  # a browser would enlarge it pixel by pixel
        assert image.getpixel((70 * 6, 50 * 6)) == pytest.approx((220, 220, 220), abs=3)


def test_a_photo_that_is_a_list_of_files_too_is_a_photo(serve_model, tmp_path: Path) -> None:
    Image.new("L", (120, 80), 200).save(tmp_path / "secret.png")
    vrt = (
        '<VRTDataset rasterXSize="120" rasterYSize="80"><VRTRasterBand dataType="Byte" band="1"><SimpleSource>'
        f"<SourceFilename>{tmp_path / 'secret.png'}</SourceFilename></SimpleSource></VRTRasterBand></VRTDataset>"
    )
    file = io.BytesIO()
    Image.new("L", (120, 80), 9).save(file, "JPEG")
    start, rest = file.getvalue()[:2], file.getvalue()[2:]
    image = tmp_path / "upload.jpg"
    image.write_bytes(start + b"\xff\xfe\x05\x05" + vrt.encode().ljust(0x0505 - 2) + rest)  # as a comment
    with open_raster(image) as raster:
        assert (raster.driver, raster.read(0, 0, 1, 1)[0].item()) == ("VRT", 200)  # what GDAL takes it for
    assert inspect(image, 10**6).suffix == ".jpg"
    with Image.open(picture_of(image, tmp_path, None).file) as picture:
        assert np.asarray(picture).max() < 30
    serve_model(BrightSquares())
    (tmp_path / "out").mkdir()
    found = load_runs(["runs/a"])[0].predict(image, tmp_path / "out", lambda *_: None)
    assert found.counts == {"bright": 0, "dark": 0}
