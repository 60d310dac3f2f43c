"""Pictures as runs write them."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
from PIL import Image
from pytorch_lightning.loggers import Logger

from distill.cli import main
from distill.report.pictures.callbacks import FitPictures, drop_pictures
from distill.report.pictures.stored import FEATURES, PREDICTIONS, Picture, PictureSet, read_pictures
from distill.runs.folder import RunFolder
from distill.runs.loggers import GuardedLogger, PictureLogger, RunLogger
from distill.runs.metrics_file import MetricsFile
from tests.launch.resuming import assert_same_weights, cut_and_resume

OFTEN = "--trainer.val_check_interval=1"
EMA = "--trainer.callbacks+=distill.EMA"


class Occupy(pl.Callback):
    """Puts a file where the folder of pictures belongs."""

    def on_validation_start(self, trainer: pl.Trainer, *_: Any) -> None:
        Path(trainer.default_root_dir, "fit_pictures").touch()


def steps(folder: Path) -> list[int]:
    return [found.step for found in read_pictures(RunFolder(folder)) if found.stage == "fit"]


def content(pictures: PictureSet) -> list[tuple[str, dict[str, str], dict[str, bytes]]]:
    return [
        (one.name, one.captions, {part: path.read_bytes() for part, path in one.parts.items()})
        for one in pictures.pictures
    ]


def test_a_distillation_with_ema_shows_the_weights_that_are_validated(distill_recipe: Path, tmp_path: Path) -> None:
    """At the third and the last of four validations; and neither weights nor validations change."""
    run, bare = tmp_path / "run", tmp_path / "bare"
    arguments = ["fit", str(distill_recipe), OFTEN, EMA, "--trainer.max_steps=4"]
    assert main([*arguments, "--run.pictures_every=3"]) == 0
    assert main([*arguments, "--run.pictures_every=0", f"--run.dir={bare}"]) == 0
    assert_same_weights(run, bare)
    assert (run / "metrics.csv").read_text().count("\n") == (bare / "metrics.csv").read_text().count("\n")
    assert not RunFolder(bare).pictures("fit").exists()
    assert steps(run) == [3, 4]
    assert main(["validate", str(run)]) == 0
    *_, last, validated = read_pictures(RunFolder(run))
    assert (last.stage, last.step, validated.stage, validated.step) == ("fit", 4, "validate", 4)
    assert content(last) == content(validated)
    assert all(tuple(one.parts) == FEATURES for one in last.pictures)
    assert len({one.name for one in last.pictures}) == 4


def test_a_resumed_run_keeps_its_pictures_and_goes_on_counting(distill_recipe: Path, tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    arguments = [OFTEN, "--run.pictures_every=2", "--trainer.max_steps=5"]
    assert main(["fit", str(distill_recipe), f"--run.dir={whole}", *arguments]) == 0
    cut_and_resume(distill_recipe, cut, *arguments, cut=3)
    assert steps(whole) == steps(cut) == [2, 4, 5]
    for one, other in zip(read_pictures(RunFolder(whole)), read_pictures(RunFolder(cut)), strict=True):
        assert content(one) == content(other)
    fitted = RunFolder(cut).pictures("fit")
    shutil.copytree(fitted / "2", fitted / "2 (copy)")  # a user's
    drop_pictures(RunFolder(cut), 4)
    assert steps(cut) == [2, 4]
    drop_pictures(RunFolder(cut), -1)
    assert steps(cut) == []


def test_a_failure_is_one_warning_and_stops_nothing(
    distill_recipe: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    occupy = "--trainer.callbacks+=tests.report.pictures.test_callbacks.Occupy"
    assert main(["fit", str(distill_recipe), OFTEN, occupy, "--run.pictures_every=1", "--trainer.max_steps=2"]) == 0
    (message,) = [message for message in caplog.messages if "pictures" in message]
    assert message.startswith("pictures of step 1 are incomplete")
    assert (tmp_path / "run/summary.json").exists()


def test_instances_in_fit_and_test(finetune_recipe: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = tmp_path / "run"
    assert main(["fit", str(finetune_recipe)]) == 0
    assert main(["test", str(run), "--data.image_size=96"]) == 0
    fitted, tested = read_pictures(RunFolder(run))
    assert (fitted.stage, fitted.step, tested.stage, tested.step) == ("fit", 8, "test", 8)
    for one, other in zip(content(fitted), content(tested), strict=True):
        assert one[0] == other[0]
        assert all(one[2][part] == other[2][part] for part in ("input", "truth"))
        assert tuple(one[2]) == PREDICTIONS
    assert (run / "test_predictions.png").exists()
    assert not [message for message in caplog.messages if "pictures" in message]


def test_pictures_of_a_long_fit_become_rarer(tmp_path: Path) -> None:
    callback = FitPictures(RunFolder(tmp_path), 5, None)
    trainer: Any = SimpleNamespace(global_step=1, should_stop=False)
    made = []
    for validation in range(1, 321):
        callback.load_state_dict({"validations": validation - 1})
        if callback.due(trainer):
            made.append(validation)
    assert made == [*range(5, 81, 5), *range(90, 161, 10), *range(180, 321, 20)]


def test_few_pictures_are_refused_below_zero(distill_recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", str(distill_recipe), "--run.pictures_every=-1"]) == 2
    assert "run.pictures_every is -1" in capsys.readouterr().err


def test_pictures_go_to_the_loggers_that_take_them(tmp_path: Path) -> None:
    class Shows(Logger, PictureLogger):
        name, version = "shows", "0"

        def __init__(self) -> None:
            super().__init__()
            self.shown: list[Any] = []

        def log_pictures(self, pictures: Any) -> None:
            self.shown.append(pictures)

        def log_metrics(self, *_: Any, **__: Any) -> None: ...

        def log_hyperparams(self, *_: Any, **__: Any) -> None: ...

    shows, loggers = Shows(), RunLogger(RunFolder(tmp_path), lambda: 0.0)
    dashboards = [
        GuardedLogger("wandb", lambda: shows),
        GuardedLogger("csv", lambda: MetricsFile(RunFolder(tmp_path))),
    ]
    loggers.write_to(MetricsFile(RunFolder(tmp_path)), dashboards)
    pictures = PictureSet("fit", 3, [Picture("a.png", {})])
    loggers.log_pictures(pictures)
    assert shows.shown == [pictures]


def test_indices_of_earlier_versions_have_no_legend(tmp_path: Path) -> None:
    place = RunFolder(tmp_path).pictures("test")
    place.mkdir()
    Image.fromarray(np.zeros((2, 2, 3), np.uint8)).save(place / "a.png")
    images = [{"name": "a", "parts": {"input": "a.png"}, "captions": {}}]
    (place / "index.json").write_text(json.dumps({"step": 1, "images": images}))
    (found,) = read_pictures(RunFolder(tmp_path))
    assert found.legend == {}
