"""`distill bench`: a run and its files in one table."""

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from distill.cli import main
from distill.data.coco import CocoInstances
from distill.data.masks import decode_patch
from distill.errors import UserError
from distill.exported.session import open_session
from distill.exporters.openvino_file import write_openvino
from distill.launch import bench as benching
from distill.launch.bench import bench
from distill.launch.recipe_data import data_module
from distill.launch.stored_run import StoredRun
from distill.launch.val_scores import Change, changes, require_equal_scores, require_little_loss, validation_scores
from distill.report.bench import Bench, Count, Timing
from distill.scene.detections import Pixels, TileInstances
from tests.exported.small_files import write_planes

pytestmark = [pytest.mark.xdist_group("export"), pytest.mark.usefixtures("shallow")]  # one run serves all

PARTS = {"backbone", "neck", "proposals", "regions", "masks"}


@pytest.fixture(autouse=True)
def _timed_briefly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distill.evaluation.turns._SECONDS", 0.0)
    monkeypatch.setattr("distill.evaluation.turns._MOST", 0.0)


def test_a_run_and_two_files(exported_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [write_planes(tmp_path / "model.onnx", max_detections=20), tmp_path / "model.xml"]
    write_openvino(paths[0], open_session(paths[0]).facts, paths[1])
    models = [str(path) for path in (exported_run, *paths)]
    files = {"--json": tmp_path / "a.json", "--markdown": tmp_path / "a.md"}
    words = ["bench", *models, "--threads", "1", "--repeats", "2", "--no-memory"]
    assert main([*words, *(str(word) for pair in files.items() for word in pair)]) == 0
    found = json.loads(files["--json"].read_text())
    assert found["image_size"] == 72
    assert [one["model"] for one in found["timings"]] == models
    assert [one["runtime"] for one in found["timings"]] == ["PyTorch", "onnxruntime", "OpenVINO"]
    own, *others = found["timings"]
    assert set(own["parts"]) == PARTS
    assert sum(own["parts"].values()) == pytest.approx(own["ms"])
    assert [one["parts"] for one in others] == [{}, {}]
    counts = {one["model"]: one for one in found["counts"]}
    assert set(counts[models[0]]["macs"]) == PARTS
    assert min(counts[models[0]]["macs"].values()) > 0
    assert {one["instances"] for one in found["counts"]} == {20}
    shown, page = capsys.readouterr().out, files["--markdown"].read_text()
    assert "10⁹ multiply-adds of" in shown
    assert page.count(models[1]) == 1
    assert "20 instances in every pass" in page


def test_memory_is_that_of_a_process_of_its_own(tmp_path: Path) -> None:
    path = write_planes(tmp_path / "a.onnx")
    found = bench(path, threads=1, repeats=1).timings[0]
    assert found.memory_mb is None or 0 < found.memory_mb < 200


class Oracle:
    """Gives the objects of one validation image after the other, but for the last of each."""

    def __init__(self, data: CocoInstances) -> None:
        views = data.dataset("val")
        self.class_names = data.class_names
        self.left = [(one, views.annotations.objects(one["id"])[:-1]) for one in views.images]

    def tile_instances(self, tiles: Sequence[Pixels]) -> list[TileInstances]:
        image, objects = self.left.pop(0)
        assert [tile.shape for tile in tiles] == [(3, image["height"], image["width"])]
        corners = np.array([one["bbox"] for one in objects], np.float32).reshape(-1, 4)
        corners[:, 2:] += corners[:, :2]
        labels = np.array([one["label"] for one in objects], np.int64)
        masks = [decode_patch(one["segmentation"], image["height"], image["width"]) for one in objects]
        return [TileInstances(corners, np.ones(len(objects), np.float32), labels, masks)]


def test_validation_scores_count_what_is_found(exported_run: Path) -> None:
    oracle = Oracle(data_module(str(exported_run)))
    found = validation_scores(oracle, StoredRun(exported_run), "the oracle")
    assert not oracle.left
    assert list(found) == ["box/AP", "mask/AP"]
    assert 0.5 < found["mask/AP"] < 1
    assert found["box/AP"] == pytest.approx(found["mask/AP"], abs=0.02)


def test_a_file_that_scores_otherwise_is_refused() -> None:
    nothing = {"box/AP": 0.5, "mask/AP": math.nan}
    require_little_loss(changes(nothing, {"box/AP": 0.491, "mask/AP": 0.1}), "a.onnx")
    with pytest.raises(
        UserError, match=r"loses more than 1 point .* mask/AP 8\.90 instead of 10\.00 \(-1\.10 points\)"
    ):
        require_little_loss([Change("mask/AP", 0.1, 0.089)], "a.onnx")
    require_equal_scores(changes(nothing, {"box/AP": 0.5004, "mask/AP": 0.1}), "a.onnx")
    with pytest.raises(UserError, match="does not score as the run does"):
        require_equal_scores([Change("mIoU", 0.1, 0.101)], "a.onnx")


def test_bad_input_is_one_line(tmp_path: Path) -> None:
    path = write_planes(tmp_path / "a.onnx")
    for given, message in (
        ({"models": []}, "there is nothing to time"),
        ({"models": tmp_path / "none"}, "does not exist"),
        ({"models": path, "threads": 0}, "threads is 0; it must be 1 or more"),
        ({"models": path, "repeats": 0}, "repeats is 0"),
        ({"models": path, "image_size": -1}, "image_size is -1"),
        ({"models": path, "precision": "float16"}, "unknown precision 'float16'"),
        ({"models": path, "precision": "bfloat16"}, "none of the models computes in bfloat16"),
    ):
        with pytest.raises(UserError, match=message):
            bench(**given)


def test_the_speed_is_against_the_first_model_with_as_many_threads() -> None:
    timing = Timing("a", "PyTorch", "float32", 1, 100.0, {"backbone": 100.0}, None)
    timings = [timing, replace(timing, model="b", ms=50.0, parts={}), replace(timing, threads=2, ms=60.0)]
    found = Bench("cpu", 64, timings, [Count("a", 1.0, None, {}), Count("b", 1.0, None, {})], 5, 0.01, 1.0, {})
    ((head, rows, _),) = found.tables()
    assert [row[head.index("speed")] for row in rows] == ["1.00", "2.00", "1.00"]
    assert [row[head.index("backbone")] for row in rows] == ["100", "-", "100"]
    assert benching._side([], 60) == 60
