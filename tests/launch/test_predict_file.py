"""`distill predict` with an exported file: the same outputs, without PyTorch, and clear lines for what files cannot."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import distill
from distill.cli import main
from distill.errors import UserError
from distill.exported.session import is_exported
from tests.exported.small_files import write_logits, write_planes
from tests.scene.engine import files, write_scene

# Runs `distill` where these packages are not installed.
WITHOUT = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {blocked}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Blocked())
from distill.cli import main

for words in {commands}:
    code = main(words)
    if code:
        sys.exit(code)
"""
BLOCKED = ("torch", "torchvision", "mmdet", "mmcv", "mmengine", "pytorch_lightning", "timm", "torchmetrics")


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scene(tmp_path_factory.mktemp("scene") / "map.tif", 130, 150)


def test_without_pytorch(scene: Path, tmp_path: Path) -> None:
    planes, logits = write_planes(tmp_path / "planes.onnx"), write_logits(tmp_path / "logits.onnx", gsd=0.5)
    commands = [
        ["predict", str(planes), str(scene), "--out", str(tmp_path / "planes")],
        ["predict", str(logits), str(scene), "--out", str(tmp_path / "logits"), "--format", "tif", "gpkg"],
    ]
    code = WITHOUT.format(blocked=BLOCKED, commands=commands)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr
    assert "1 scene, 4 tiles" in done.stdout
    found = distill.predict(planes, scene, out=tmp_path / "again")
    assert sum(found.scenes[0].counts.values()) > 5
    distill.predict(logits, scene, out=tmp_path / "land", formats=["tif", "gpkg"])
    pictures = {"map_overlay.jpg", "map.gpkg"}  # the latter holds the time of writing
    for out, same in (("planes", "again"), ("logits", "land")):
        one, other = files(tmp_path / out), files(tmp_path / same)
        assert one.keys() == other.keys() >= pictures
        assert {name for name in one if one[name] != other[name]} <= pictures


def test_a_file_is_told_apart_from_a_run(tmp_path: Path) -> None:
    (tmp_path / "run.onnx").mkdir()
    assert not is_exported(tmp_path / "run.onnx")
    assert not is_exported("runs/mine")
    assert is_exported("model.ONNX")


def test_load_says_what_takes_files() -> None:
    with pytest.raises(UserError, match=r"a\.onnx is an exported file, and distill.load takes run folders; call"):
        distill.load("a.onnx")


def test_in_eight_orientations_and_in_shares(scene: Path, tmp_path: Path) -> None:
    planes = write_planes(tmp_path / "planes.onnx")
    first = distill.predict(planes, scene, out=tmp_path / "out", tta=True, tile=80, shard=(1, 2), overlay=False)
    assert first.pending == ["map"]
    second = distill.predict(planes, scene, out=tmp_path / "out", tta=True, tile=80, shard=(2, 2), overlay=False)
    assert not second.pending
    assert second.scenes[0].tiles == 6
    assert json.loads((tmp_path / "out" / "predictions.json").read_text())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--checkpoint", "best"], "holds the weights of one checkpoint; leave out checkpoint"),
        (["--device", "cuda"], "device is cuda, and exported files run on the CPU"),
        (["--score", "0.1"], "score is 0.1, and {path} was exported with 0.2 as its lowest"),
        (["--classes", "shp"], "unknown class 'shp': did you mean ship?"),
    ],
)
def test_what_a_file_cannot_is_one_line(
    scene: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    path = write_planes(tmp_path / "planes.onnx", score_threshold=0.2)
    assert main(["predict", str(path), str(scene), "--out", str(tmp_path / "out"), *words]) == 2
    error = capsys.readouterr().err
    assert said.format(path=path) in error
    assert error.count("\n") == 1
    assert not list((tmp_path / "out").glob("*"))


def test_a_batch_and_int8_are_told(scene: Path, tmp_path: Path) -> None:
    path = write_planes(tmp_path / "planes.onnx", precision="int8")
    found = distill.predict(path, scene, out=tmp_path / "out", batch_size=4, overlay=False, device="cpu")
    assert [note.split(",")[0] for note in found.notes] == [
        "the file computes in int8",
        "exported files see one tile at a time",
    ]


def test_images_that_are_scaled_are_told(scene: Path, tmp_path: Path) -> None:
    path = write_planes(tmp_path / "planes.onnx", image_size=48)
    found = distill.predict(path, scene, out=tmp_path / "out", overlay=False)
    assert found.notes[0] == "images of up to 96 px are scaled to 48 px, the data.image_size of the training"
    found = distill.predict(path, scene, out=tmp_path / "small", overlay=False, tile=48)
    assert not any("scaled" in note for note in found.notes)


def test_another_file_does_not_go_on_where_one_stopped(scene: Path, tmp_path: Path) -> None:
    distill.predict(write_planes(tmp_path / "a.onnx"), scene, out=tmp_path / "out", overlay=False)
    with pytest.raises(UserError, match="was predicted with another checkpoint"):
        distill.predict(write_planes(tmp_path / "a.onnx", min_area=9), scene, out=tmp_path / "out", overlay=False)
