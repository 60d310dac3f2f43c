"""One scene: rows in any order give one result, and what is odd about tiles is told."""

import json
import shutil
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import rasterio

from distill.errors import UserError
from distill.scene import space
from distill.scene.detections import Pixels, TileInstances
from distill.scene.job import SceneJob
from distill.scene.model_facts import INSTANCES, LAND_COVER, ModelFacts
from distill.scene.options import PredictOptions
from distill.scene.summary import SceneSummary
from tests.scene.engine import NAMES, Squares, facts, files, write_scene


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scene(tmp_path_factory.mktemp("scene") / "scene.tif")


def predict(
    scene: Path,
    out: Path,
    run: ModelFacts,
    options: PredictOptions = PredictOptions(),  # noqa: B008
    model: Squares | None = None,
    rows: Sequence[int] | None = None,
    batch_size: int = 2,
) -> SceneSummary:
    with SceneJob(scene, "scene", out, options, run) as job:
        job.begin()
        for row in job.missing_rows() if rows is None else rows:
            job.predict_row(model or Squares(), row, batch_size)
        return job.finish()


@pytest.mark.parametrize("task", [INSTANCES, LAND_COVER])
def test_rows_in_any_order_and_batches_of_any_size_give_the_same_bytes(scene: Path, tmp_path: Path, task: str) -> None:
    options = PredictOptions(formats=["coco", "gpkg", "geojson"] if task == INSTANCES else ["tif", "gpkg"])
    predict(scene, tmp_path / "one", facts(task), options, batch_size=1)
    summary = predict(scene, tmp_path / "other", facts(task), options, rows=(2, 0, 1), batch_size=7)
    one, other = files(tmp_path / "one"), files(tmp_path / "other")
    assert one == other
    assert set(summary.outputs) <= one.keys()
    assert sum(summary.counts.values()) > 20 if task == INSTANCES else sum(summary.shares.values()) == pytest.approx(1)


def test_squares_across_tiles_are_found_once(scene: Path, tmp_path: Path) -> None:
    """The scene as one tile is the oracle."""
    cut = predict(scene, tmp_path / "cut", facts())
    whole = predict(scene, tmp_path / "whole", facts(whole=1000))
    assert (cut.tiles, whole.tiles) == (12, 1)
    assert cut.counts == whole.counts


def test_land_cover_of_tiles_is_that_of_the_whole_scene(scene: Path, tmp_path: Path) -> None:
    """The model looks at single pixels, so that tiles change nothing."""
    predict(scene, tmp_path / "cut", facts(LAND_COVER))
    with rasterio.open(scene) as file, rasterio.open(tmp_path / "cut" / "scene.tif") as found:
        logits = Squares().tile_logits([file.read()])[0]
        assert np.array_equal(found.read(1), logits.argmax(0))


def test_tiles_without_data_are_not_predicted(tmp_path: Path) -> None:
    scene, model = write_scene(tmp_path / "scene.tif", empty=180), Squares()
    summary = predict(scene, tmp_path / "out", facts(), model=model)
    assert (summary.tiles, summary.empty_tiles) == (12, 6)
    assert sum(model.calls) == 6
    predict(scene, tmp_path / "classes", facts(LAND_COVER))
    with rasterio.open(tmp_path / "classes" / "scene.tif") as found:
        assert (found.read(1)[:, :180] == 255).all()
        assert (found.read(1)[:, 180:] != 255).all()


class Twice(Squares):
    """Finds one object over the border of the data, two thirds of it in there, and one that is outside by more."""

    def _find(self, grey: np.ndarray) -> TileInstances:
        found = super()._find(np.zeros_like(grey))
        first = int(np.argmax((grey != 124).any(axis=0)))  # of the data; what is none has the mean colour of red
        masks = [type(self).patch(first - 4), type(self).patch(first - 8)]
        return TileInstances(
            np.array([(m.left, 2, m.left + 12, 14) for m in masks], np.float32),
            np.array([0.9, 0.8], np.float32),
            np.zeros(2, np.int64),
            [*found.masks, *masks],
        )

    @staticmethod
    def patch(left: int) -> object:
        from distill.patch import Patch

        return Patch(2, left, np.ones((12, 12), np.uint8))


def test_instances_that_lie_mostly_outside_the_data_are_dropped(tmp_path: Path) -> None:
    scene = write_scene(tmp_path / "scene.tif", 60, 80, empty=30)
    summary = predict(scene, tmp_path / "out", facts(), model=Twice())
    assert summary.counts == {"ship": 1, "water": 0}


def test_tiles_at_the_limit_of_the_head_are_told(scene: Path, tmp_path: Path) -> None:
    summary = predict(scene, tmp_path / "out", facts(cap=4))
    assert 0 < summary.full_tiles <= 12
    assert f"has {summary.full_tiles} tiles with 4 instances, the most that the head finds" in summary.notes[-1]


class Failing(Squares):
    def tile_instances(self, tiles: Sequence[Pixels]) -> list[TileInstances]:
        if len(self.calls) == 4:
            raise RuntimeError("out of memory\nand a trace")
        return super().tile_instances(tiles)


def test_a_failing_tile_stops_with_its_window_and_keeps_the_rest(scene: Path, tmp_path: Path) -> None:
    run, out = facts(), tmp_path / "out"
    with pytest.raises(UserError, match=r"scene\.tif: rows 52 to 148, columns 0 to 96 failed: out of memory; what"):
        predict(scene, out, run, model=Failing(), batch_size=1)
    with SceneJob(scene, "scene", out, PredictOptions(), run) as job:
        assert job.missing_rows() == [1, 2]
    assert [path.name for path in out.iterdir()] == [".predict"]


def test_classes_and_scores_are_left_out(scene: Path, tmp_path: Path) -> None:
    whole = predict(scene, tmp_path / "whole", facts(whole=1000))
    high = predict(scene, tmp_path / "high", facts(whole=1000), PredictOptions(score=0.6))
    assert 0 < sum(high.counts.values()) < sum(whole.counts.values())
    kind = max(NAMES, key=lambda name: whole.counts[name])
    one = predict(scene, tmp_path / "one", facts(whole=1000), PredictOptions(classes=[kind]))
    assert one.counts == {name: whole.counts[name] * (name == kind) for name in NAMES}


def test_a_full_disk_is_told_before_anything_is_predicted(
    scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1_000_000)
    monkeypatch.setattr(space.shutil, "disk_usage", lambda path: usage)
    model = Squares()
    with pytest.raises(UserError, match=r"has 0\.0 GB free, and up to 0\.0 GB are needed for a scene of 260x200"):
        predict(scene, tmp_path / "out", facts(), model=model)
    assert not model.calls


def test_rows_that_are_on_the_disk_need_no_room(scene: Path, tmp_path: Path) -> None:
    """Else what a process left would fill the disk for the one that goes on."""
    with SceneJob(scene, "scene", tmp_path, PredictOptions(), facts(LAND_COVER)) as job:
        job.begin()
        needed = [space.needed_bytes(job.plan, job.missing_rows(), job.facts, confidence=False)]
        for row in job.rows:
            job.predict_row(Squares(), row)
            needed.append(space.needed_bytes(job.plan, job.missing_rows(), job.facts, confidence=False))
        written = [job.journal.data(row).stat().st_size for row in job.rows]
    assert [before - after for before, after in pairwise(needed)] == written


def test_the_resolution_of_the_training_is_compared(scene: Path, tmp_path: Path) -> None:
    for gsd, told in ((0.6, False), (0.25, True), (2.0, True)):
        run = ModelFacts(**{**facts().__dict__, "gsd": gsd})
        notes = predict(scene, tmp_path / f"{gsd}", run).notes
        assert any(f"training had {gsd:.3g} m" in note for note in notes) is told


@pytest.mark.parametrize(("wanted", "formats"), [(("geojson", "coco"), ("coco",)), (("geojson",), ())])
def test_a_scene_without_a_crs_has_no_geojson(
    wanted: tuple[str, ...], formats: tuple[str, ...], tmp_path: Path
) -> None:
    photo = write_scene(tmp_path / "photo.tif", crs=None)
    with SceneJob(photo, "photo", tmp_path / "out", PredictOptions(formats=wanted), facts()) as job:
        assert (job.formats, job.without_geojson) == (formats, True)
    with SceneJob(photo, "photo", tmp_path / "out", PredictOptions(formats="gpkg"), facts()) as job:
        assert (job.formats, job.without_geojson) == (("gpkg",), False)
    assert not (tmp_path / "out").exists()


def test_results_of_an_earlier_prediction_are_not_joined_with_those_of_another(scene: Path, tmp_path: Path) -> None:
    predict(scene, tmp_path, facts(), PredictOptions(formats="coco"))
    other = PredictOptions(formats="gpkg", score=0.6)
    with SceneJob(scene, "scene", tmp_path, other, facts(), overwrite=True) as job:
        assert job.part.is_file()
        job.begin()
        for row in job.rows:
            job.predict_row(Squares(), row)
        job.finish()
        assert not job.part.exists()


def test_the_summary_comes_back_from_json(scene: Path, tmp_path: Path) -> None:
    summary = predict(scene, tmp_path / "out", facts())
    stored = json.loads((tmp_path / "out" / ".predict" / "scene.json").read_text())
    assert SceneSummary.from_json(stored["summary"]) == summary
