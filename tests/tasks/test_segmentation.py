"""Segmentation as a run: what fit and test write, that it learns, and what it refuses."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from torch import Tensor, nn

from distill.cli import main
from distill.contracts import DecoderBase
from distill.data.class_table import IGNORE
from distill.errors import UserError
from distill.tasks.losses.segmentation import SegmentationLossSettings
from distill.tasks.segmentation import SegmentationModule
from distill.weights import read_state_dict
from tests.launch.resuming import cut_and_resume

NAMES = ["bright", "dark"]


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """A few steps on images whose classes are easy to tell; 40 x 56 pixels, in views of 32."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 6), ("val", 3)):
        for kind in ("images", "masks"):
            (tmp_path / "data" / split / kind).mkdir(parents=True)
        for number in range(count):
            labels = rng.integers(0, 2, (5, 7)).astype(np.uint8).repeat(8, 0).repeat(8, 1)
            pixels = np.where(labels == 0, 200, 60)[..., None] + rng.integers(-30, 30, (40, 56, 3))
            labels[:3] = IGNORE
            Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / f"data/{split}/images/{number}.png")
            Image.fromarray(labels).save(tmp_path / f"data/{split}/masks/{number}.png")
    content = {
        "model": {
            "class_path": "distill.SegmentationModule",
            "init_args": {
                "student": {"class_path": "students.LALE", "init_args": {"variant": "S1"}},
                "head": {"class_path": "heads.LALEDecoder", "init_args": {"channels": 16}},
                "loss": {"terms": {"dice": 1.0, "cross_entropy": 1.0}},
                "optim": {"lr": 3e-3, "warmup_steps": 2},
                "window": 32,
            },
        },
        "data": {
            "class_path": "distill.data.SemanticFolder",
            "init_args": {
                "root": str(tmp_path / "data"),
                "classes": {"bright": 0, "dark": 1},
                "ignore": [IGNORE],
                "image_size": 32,
                "batch_size": 4,
                "num_workers": 0,
            },
        },
        "trainer": {"max_steps": 30, "val_check_interval": 15, "accelerator": "cpu", "log_every_n_steps": 1},
        "run": {"dir": str(tmp_path / "run")},
    }
    path = tmp_path / "segment.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def test_fit_then_test(recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", str(recipe)]) == 0
    assert "val/mIoU" in capsys.readouterr().out
    run = tmp_path / "run"
    assert main(["test", str(run)]) == 0
    printed = capsys.readouterr().out
    scores = json.loads((run / "test.json").read_text())
    shown = (f"mIoU {100 * scores['test/mIoU']:9.1f}", "test_classes.csv, test_confusion.png, test_predictions.png")
    assert all(name in printed for name in ("macro_F1", "bright ", *shown))
    assert scores["test/mIoU"] > 0.8  # learned
    with (run / "test_classes.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["class"] for row in rows] == NAMES
    assert sum(int(row["pixels"]) for row in rows) == 3 * 37 * 56  # three lines of each image have no label
    assert scores["test/mIoU"] == pytest.approx(np.mean([float(row["IoU"]) for row in rows]), abs=1e-6)
    assert [int(row["images"]) for row in rows] == [3, 3]
    assert json.loads((run / "test_facts.json").read_text())["images"] == 3
    for name in ("test_confusion.png", "test_predictions.png"):
        assert (run / name).stat().st_size > 0
    with (run / "metrics.csv").open() as file:
        logged = list(csv.DictReader(file))
    assert {"train/dice", "train/cross_entropy", "val/mIoU", "val/macro_F1", "val/IoU/dark"} <= logged[0].keys()
    checkpoint = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert checkpoint["class_names"] == NAMES

    # best.ckpt was chosen on the test images here.
    assert main(["test", str(run), "--ckpt_path=best"]) == 2
    assert "--data.val_fraction" in capsys.readouterr().err
    assert main(["validate", str(run), "--ckpt_path=best"]) == 0
    renamed = '--data.classes={"bright": 0, "shadow": 1}'
    assert main(["test", str(run), renamed]) == 2
    assert "trained for classes ['bright', 'dark']" in capsys.readouterr().err


def test_an_interrupted_run_ends_with_the_same_weights(recipe: Path, tmp_path: Path) -> None:
    few = ["--trainer.max_steps=8", "--trainer.limit_val_batches=0", "--data.batch_size=2", "--run.checkpoint_every=4"]
    assert main(["fit", str(recipe), *few]) == 0
    straight = read_state_dict(tmp_path / "run" / "student.safetensors")
    resumed = cut_and_resume(recipe, tmp_path / "cut", *few)
    for name, tensor in straight.items():
        assert torch.equal(resumed[name], tensor), name


class Student(nn.Module):
    """The image itself."""

    class feature_info:
        @staticmethod
        def channels() -> list[int]:
            return [3]

        @staticmethod
        def reduction() -> list[int]:
            return [1]

    mean, std = (0.0,) * 3, (1.0,) * 3

    def forward(self, images: Tensor) -> list[Tensor]:
        return [images]


class Decoder(DecoderBase):
    """Classes by colour, pixel by pixel."""

    def __init__(self, feature_info: Any, class_names: list[str]) -> None:
        super().__init__()
        self.score = nn.Conv2d(feature_info.channels()[0], len(class_names), 1)

    def forward(self, features: list[Tensor]) -> Tensor:
        return self.score(features[0])


def module(**settings: Any) -> SegmentationModule:
    torch.manual_seed(0)
    built = SegmentationModule(Student(), Decoder, **settings)
    built.build(["a", "b", "c"])
    return built


def test_windows_change_nothing_for_a_pixelwise_decoder() -> None:
    images = torch.rand(2, 3, 21, 34)
    whole = module().predict_labels(images, (42, 68))
    assert whole.shape == (2, 42, 68)
    for settings in ({"window": 8}, {"window": 8, "stride": 8}, {"window": 9, "stride": 2}, {"window": 50}):
        assert (module(**settings).predict_labels(images, (42, 68)) != whole).float().mean() < 1e-3


def test_scores_are_at_the_resolution_of_the_labels() -> None:
    segmenter = module()
    segmenter.on_validation_epoch_start()
    labels = torch.zeros(1, 40, 60, dtype=torch.uint8)
    segmenter.validation_step([{"image": torch.rand(1, 3, 20, 30), "label": labels}], 0)
    assert int(segmenter._confusion.counts.sum()) == 40 * 60


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"stride": 4}, "model.window is null"),
        ({"window": 0}, "model.window is 0"),
        ({"window": 8, "stride": 9}, "between 1 and model.window, 8"),
        ({"loss": SegmentationLossSettings(class_weights=[1.0, 2.0])}, "has 2 numbers, but the data has 3 classes"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        module(**settings)
