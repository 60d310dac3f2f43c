"""The first losses of three shipped recipes, in small sizes, are those that were noted down.

A change to views, initial weights, losses or schedules shows here, whether it was meant or not. If it was, note the new
numbers, and say in CHANGELOG.md that results differ. Deterministic on a CPU; the tolerance covers other processors.
Other releases of PyTorch draw other initial weights, so the numbers hold for that of constraints.txt alone.
"""

import csv
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from distill.cli import main
from tests.data.published import scene

PINNED = re.search(r"^torch==(.+)$", (Path(__file__).parents[2] / "constraints.txt").read_text(), re.MULTILINE)
pytestmark = pytest.mark.skipif(
    PINNED is None or torch.__version__.split("+")[0] != PINNED[1],
    reason=f"golden losses hold for the PyTorch of constraints.txt, not for {torch.__version__}",
)
SHORT = [
    "--data.image_size=64",
    "--data.batch_size=2",
    "--data.num_workers=0",
    "--trainer.max_steps=3",
    "--trainer.log_every_n_steps=1",
    "--trainer.limit_val_batches=0",
    "--trainer.accelerator=cpu",
]
GOLDEN = {
    "demo/distill": [1.0777168273925781, 1.245119333267212, 0.9685587286949158],
    "demo/scratch": [2.570840358734131, 2.6182358264923096, 2.7253403663635254],
    "landcover/aras400k_lale": [0.8595640063285828, 0.8749013543128967, 0.8521029353141785],
}


@pytest.fixture
def land(tmp_path: Path) -> Path:
    """Tiles and masks of seven classes; the names and colours are those of ARAS400k."""
    colours = [[0, 100, 0], [255, 182, 193], [154, 205, 50], [255, 215, 0], [139, 69, 19], [211, 211, 211], [0, 0, 255]]
    for split in ("train", "val", "test"):
        for kind in ("images", "masks"):
            (tmp_path / split / kind).mkdir(parents=True)
        for tile in range(2):
            image = scene(tile, 64, 64)
            image.save(tmp_path / split / f"images/{tile}.png")
            mask = np.array(colours, np.uint8)[np.asarray(image)[..., 0] // 40]
            Image.fromarray(mask).save(tmp_path / split / f"masks/{tile}.png")
    return tmp_path


def losses(recipe: str, run: Path, *words: str) -> list[float]:
    """The losses of the first steps of a recipe."""
    assert main(["fit", recipe, f"--run.dir={run}", *SHORT, *words]) == 0
    with (run / "metrics.csv").open(encoding="utf-8", newline="") as file:
        return [float(row["train/loss"]) for row in csv.DictReader(file) if row["train/loss"]]


def test_distillation(scenes: Path, vit_weights: Path, tmp_path: Path) -> None:
    found = losses(
        "demo/distill",
        tmp_path / "run",
        f"--data.root={scenes / 'train/images'}",
        "--model.teacher.name=vit_tiny_patch16_224",
        f"--model.teacher.checkpoint={vit_weights}",
        "--model.student.image_size=64",
        "--model.calibration_images=4",
    )
    assert found == pytest.approx(GOLDEN["demo/distill"], rel=1e-4)


def test_instances(scenes: Path, tmp_path: Path) -> None:
    files = [
        f"--data.{split}_{kind}={scenes / folder / name}"
        for split, folder in (("train", "train"), ("val", "test"), ("test", "test"))
        for kind, name in (("images", "images"), ("annotations", "annotations.json"))
    ]
    found = losses("demo/scratch", tmp_path / "run", "--model.student.image_size=64", *files)
    assert found == pytest.approx(GOLDEN["demo/scratch"], rel=1e-4)


def test_land_cover(land: Path, tmp_path: Path) -> None:
    found = losses("landcover/aras400k_lale", tmp_path / "run", f"--data.root={land}")
    assert found == pytest.approx(GOLDEN["landcover/aras400k_lale"], rel=1e-4)
