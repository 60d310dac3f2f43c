"""`distill predict`: a small trained run, photos and rasters, on the command line and in Python."""

import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyogrio
import pytest
import rasterio
import torch
import yaml
from pytorch_lightning.plugins.precision import Precision

import distill
from distill.cli import main
from distill.data.masks import decode_mask
from distill.errors import UserError
from distill.launch.predictors import InstancePredictor, SemanticPredictor
from distill.scene.detections import Pixels, TileInstances
from distill.scene.job import SceneJob
from distill.scene.model_facts import LAND_COVER, ModelFacts
from distill.scene.options import PredictOptions
from distill.scene.tile_size import TileSize
from distill.tasks.segmentation import SegmentationModule
from heads import LALEDecoder
from students import LALE
from tests.scene.engine import Squares, files, write_scene
from tests.small_recipes import fine_tuning

pytestmark = pytest.mark.xdist_group("predict")  # one run serves all


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, scenes: Path) -> Path:
    """A Mask R-CNN after two steps, which finds anything everywhere."""
    folder = tmp_path_factory.mktemp("predict")
    recipe = fine_tuning(scenes, folder / "run")
    recipe["trainer"] |= {"max_steps": 2, "limit_val_batches": 0, "logger": False}
    (folder / "finetune.yaml").write_text(yaml.safe_dump(recipe))
    assert main(["fit", str(folder / "finetune.yaml")]) == 0
    return folder / "run"


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory, scenes: Path) -> Path:
    """Photos, a raster with coordinates that is larger than those of the training, and what is no image."""
    folder = tmp_path_factory.mktemp("mixed")
    for path in sorted((scenes / "test" / "images").iterdir())[:2]:
        shutil.copy(path, folder / path.name)
    write_scene(folder / "map.tif", 80, 100)
    (folder / "readme.md").write_text("not an image")
    return folder


def predict(*words: object, code: int = 0) -> None:
    assert main(["predict", *map(str, words), "--device", "cpu"]) == code


def test_a_run_that_finds_nothing_says_so(
    scenes: Path, mixed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = fine_tuning(scenes, tmp_path / "run")
    recipe["trainer"] |= {"max_steps": 1, "limit_val_batches": 0, "logger": False}
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(recipe))
    assert main(["fit", str(tmp_path / "a.yaml"), "--model.head", "heads.DenseMasks"]) == 0
    assert main(["test", str(tmp_path / "run")]) == 0
    said = capsys.readouterr().out
    assert re.search(r"The run found no object in \d+ images with a score of 0.5 or more; it may need more tr", said)
    predict(tmp_path / "run", mixed, "--out", tmp_path / "out", "--score", "0")
    said = capsys.readouterr().out
    assert "note: no object was found in 3 scenes: this head finds none with a score below 0.5, so a lower" in said
    predict(tmp_path / "run", mixed, "--out", tmp_path / "higher", "--score", "0.9")
    said = capsys.readouterr().out
    assert "note: no object was found in 3 scenes with a score of 0.9 or more; lower --score, or train the run" in said


def test_on_the_command_line(run: Path, mixed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, photo = tmp_path / "out", next(mixed.glob("*.png"))
    model = distill.load(run, device="cpu", max_detections=1000)
    found = model.predict(photo)
    score = found.scores[4].item()  # an untrained model is sure of nothing
    predict(run, mixed, "--out", out, "--score", score)
    said = capsys.readouterr().out
    photos = sorted(path.stem for path in mixed.glob("*.png"))
    written = {path.name for path in out.iterdir()} - {".predict"}
    assert written == {
        *("predictions.json", "images.json", "summary.json", "map.gpkg"),
        *(f"{name}_overlay.jpg" for name in (*photos, "map")),
    }
    assert "3 scenes, 8 tiles" in said
    assert f"{photos[0]} and 1 more: each has no georeference, so its results are in pixels" in said
    assert "s a tile, peak memory" in said

    results = json.loads((out / "predictions.json").read_text())
    images = {image["file_name"]: image for image in json.loads((out / "images.json").read_text())["images"]}
    assert images["map.tif"]["crs"].startswith("PROJCRS")
    rows = pyogrio.read_info(out / "map.gpkg", force_feature_count=True)["features"]
    assert rows == sum(one["image_id"] == images["map.tif"]["id"] for one in results) > 0

    # A photo has exactly the instances that a loaded model finds in it.
    image = images[photo.name]
    own = [one for one in results if one["image_id"] == image["id"]]
    assert len(own) >= 5
    assert [one["score"] for one in own] == found.scores[: len(own)].tolist()
    for one, mask in zip(own, found.masks[: len(own)], strict=True):
        assert np.array_equal(decode_mask(one["segmentation"], image["height"], image["width"]), mask.numpy())

    # The same again is passed over, also from Python; another setting is refused, unless it may replace.
    before = files(out)
    predict(run, mixed, "--out", out, "--score", score)
    assert "map is there already, with the same settings" in capsys.readouterr().out
    assert files(out) == before
    predict(run, mixed, "--out", out, "--score", 0.9, code=2)
    error = capsys.readouterr().err
    assert f"{out / photos[0]} was predicted with another score: {score}, now 0.9" in error
    assert error.count("\n") == 1
    assert files(out) == before
    again = distill.predict(run, mixed, out=out, score=0.99, overwrite=True, device="cpu", overlay=False)
    assert sum(sum(scene.counts.values()) for scene in again.scenes) < len(results)
    assert again.files == ["predictions.json", "images.json", "summary.json"]
    assert json.loads((out / "summary.json").read_text())["score"] == 0.99
    other = distill.predict(run, mixed, out=out, formats=["gpkg"], overwrite=True, device="cpu", overlay=False)
    assert other.files == ["summary.json"]
    assert not (out / "predictions.json").exists()
    assert not (out / "images.json").exists()
    (out / "images.json").write_text("of another program")
    distill.predict(run, mixed, out=out, formats=["gpkg"], device="cpu", overlay=False)
    assert (out / "images.json").read_text() == "of another program"


def test_a_broken_image_is_passed_over_and_told(
    run: Path, scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "images").mkdir()
    photo = next((scenes / "test" / "images").iterdir())
    shutil.copy(photo, tmp_path / "images" / "whole.png")
    (tmp_path / "images" / "cut.png").write_bytes(photo.read_bytes()[:200])
    predict(run, tmp_path / "images", "--out", tmp_path / "out", code=2)
    error = capsys.readouterr().err
    assert "cut.png" in error
    assert "all others are predicted" in error
    assert error.count("\n") == 1
    assert (tmp_path / "out" / "whole_overlay.jpg").is_file()
    predict(run, tmp_path / "images" / "cut.png", "--out", tmp_path / "alone", code=2)
    error = capsys.readouterr().err
    assert "all others are predicted" not in error
    assert error.endswith("; repair it, and repeat, or name other files\n")
    shutil.copy(photo, tmp_path / "images" / "cut.png")
    predict(run, tmp_path / "images", "--out", tmp_path / "out")
    assert (tmp_path / "out" / "predictions.json").is_file()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--shard", "3"], "shard is '3'; give I/N"),
        (["--shard", "3/2"], "shard is 3/2; give I/N with I from 1 to N"),
        (["--classes", "shp"], "unknown class 'shp': did you mean ship?"),
        (["--format", "tif"], "format tif is not one of a run of instances"),
        (["--checkpoint", "none.ckpt"], "there is no checkpoint none.ckpt"),
        (["--bands", "1", "2", "9"], "--bands"),
        (["--overlap", "64"], "overlap"),
    ],
)
def test_a_bad_option_is_one_line(
    run: Path, mixed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    predict(run, mixed / "map.tif", "--out", tmp_path / "out", *words, code=2)
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_failed_prediction_leaves_folders_that_were_there(
    run: Path, mixed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "there").mkdir()
    predict(run, mixed / "map.tif", "--out", tmp_path / "there" / "a" / "b", "--bands", "9", code=2)
    assert list((tmp_path / "there").iterdir()) == []


def test_geojson_is_left_out_where_there_is_no_crs(
    run: Path, mixed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, photo = tmp_path / "out", next(mixed.glob("*.png"))
    predict(run, photo, mixed / "map.tif", "--out", out, "--format", "geojson", "coco", "--no-overlay")
    said = capsys.readouterr().out
    assert f"note: {photo.stem} has no CRS, so no GeoJSON of it is written; --crs names one" in said
    assert "map has no CRS" not in said
    assert {path.name for path in out.iterdir()} == {
        *("map.geojson", "predictions.json", "images.json", "summary.json", ".predict")
    }
    images = {one["id"]: one["file_name"] for one in json.loads((out / "images.json").read_text())["images"]}
    assert {photo.name, "map.tif"} == set(images.values())
    # Alone, it would have no file at all.
    predict(run, photo, "--out", tmp_path / "alone", "--format", "geojson", code=2)
    assert "has no CRS, and GeoJSON has longitudes and latitudes; name its CRS with --crs" in capsys.readouterr().err
    assert not (tmp_path / "alone").exists()


def test_an_unknown_option_in_python(run: Path, mixed: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="unknown option 'overlp': did you mean overlap"):
        distill.predict(run, mixed, out=tmp_path / "out", overlp=3)


def test_a_distillation_is_refused(run: Path, mixed: Path, tmp_path: Path) -> None:
    recipe = yaml.safe_load((run / "recipe.yaml").read_text())
    recipe["model"]["class_path"] = "distill.DistillationModule"
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    shutil.copy(run / "student.safetensors", tmp_path / "run")
    with pytest.raises(UserError, match="is a distillation: it has feature maps and no classes"):
        distill.predict(tmp_path / "run", mixed, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_ctrl_c_says_how_to_go_on(
    run: Path, mixed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def tile_instances(self: object, tiles: Sequence[Pixels]) -> list[TileInstances]:
        calls.append(len(tiles))
        if len(calls) == 4:
            raise KeyboardInterrupt
        return Squares().tile_instances(tiles)

    monkeypatch.setattr(InstancePredictor, "tile_instances", tile_instances)
    predict(run, mixed, "--out", tmp_path / "out", code=130)
    assert f"what is done is kept in {tmp_path / 'out'}, and the same command goes on there" in capsys.readouterr().err
    assert not (tmp_path / "out" / "summary.json").exists()
    predict(run, mixed, "--out", tmp_path / "out")
    assert "is there already" in capsys.readouterr().out
    predict(run, mixed, "--out", tmp_path / "whole")
    assert files(tmp_path / "out") == files(tmp_path / "whole")


def test_land_cover_of_a_photo_is_that_of_the_loaded_model(mixed: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    task = SegmentationModule(LALE(), LALEDecoder)
    task.build(["land", "water", "wood"])
    settings = {"precision": Precision(), "device": torch.device("cpu"), "class_names": task.class_names}
    model = SemanticPredictor(task, 2.0, **settings)
    facts = ModelFacts("run", LAND_COVER, tuple(task.class_names), "digest", "0.1", TileSize(64, 16, whole=100))
    photo = next(mixed.glob("*.png"))
    with SceneJob(photo, "photo", tmp_path, PredictOptions(confidence=True), facts) as job:
        job.begin()
        job.predict_row(model, 0)
        summary = job.finish()
    assert summary.outputs == ("photo.tif", "photo.tif.aux.xml", "photo_confidence.tif", "photo_overlay.jpg")
    with rasterio.open(tmp_path / "photo.tif") as found:
        assert np.array_equal(found.read(1), model.predict(photo).labels.numpy())
