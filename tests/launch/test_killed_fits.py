"""A fit that is killed at any moment, however often, ends with the bits of one that was not."""

import os
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from distill.cli import main
from distill.launch.parse import ParsedRecipe
from tests.launch.lives import assert_same_run, killed, parsed, seconds_of

EMA = ["--trainer.callbacks+=distill.EMA", "--trainer.callbacks.decay=0.9"]
LIMITS = {"steps": ["--trainer.max_steps=8"], "epochs": ["--trainer.max_steps=-1", "--trainer.max_epochs=2"]}
TARGETS = ("live", "cached")  # how targets reach the student


@pytest.fixture(autouse=True)
def _facts_are_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the student costs is measured before anything is written, so a kill there says nothing."""
    monkeypatch.setattr("distill.launch.fit.run_facts", lambda *_: {"teacher": "a teacher"})


@pytest.fixture
def recipe(distill_recipe: Path) -> Path:
    """Eight steps in two epochs, validated in the middle of each, into a student with batch norms."""
    content = yaml.safe_load(distill_recipe.read_text())
    student = {"name": "test_resnet.r160_in1k", "out_indices": [3]}
    content["model"]["init_args"]["student"] = {"class_path": "students.TimmStudent", "init_args": student}
    content["model"]["init_args"]["corruption"] = {"level": "image", "noise": 0.2, "mask": 0.2}
    content["data"]["init_args"]["batch_size"] = 3
    content["trainer"] |= {"val_check_interval": 3, "limit_val_batches": 1}
    content["run"] |= {"checkpoint_every": 2, "loggers": [], "pictures_every": 0}
    distill_recipe.write_text(yaml.safe_dump(content))
    return distill_recipe


class Runs:
    """The recipe's runs in folders of their own, each parsed to begin and to go on."""

    def __init__(self, recipe: Path, root: Path, *words: str) -> None:
        self.recipe, self.root, self.words = recipe, root, words

    def __call__(self, name: str, *words: str) -> tuple[ParsedRecipe, ParsedRecipe]:
        every = [*self.words, f"--run.dir={self.root / name / 'run'}", *words]
        return parsed(self.recipe, *every), parsed(self.recipe, *every, "--ckpt_path=last")


def kill_often(runs: Runs, kills: int, seed: Any, at: Sequence[tuple[str, int]] = ()) -> None:
    """Kills runs `kills` times in all, a fifth of them by the clock, and compares each with one that was not.

    Args:
        runs: In which way.
        kills: How often, beside `at`.
        seed: Of the moments.
        at: Hooks and steps before which a first run is killed, in the order in which they come.
    """
    whole, _ = runs("whole")
    seconds, moments = seconds_of(whole)
    assert moments > 60, "the trainer's hooks and the folder's files are no longer seen"
    if at:
        fresh, resumed = runs("killed")
        assert killed(fresh, resumed, [{"at": one} for one in at]) == len(at)
        assert_same_run(whole.folder, fresh.folder, len(at))
    draw, deaths, attempt = random.Random(str(seed)), 0, 0
    while deaths < kills:
        left = min(kills - deaths, 5)
        plans: list[dict[str, Any]] = [{"last": draw.randint(1, moments)} for _ in range(left)]
        if left > 3:
            plans[draw.randrange(left)] = {"seconds": draw.uniform(0.3, 1.0) * seconds}
        fresh, resumed = runs(f"killed{attempt}")
        died = killed(fresh, resumed, plans)
        assert_same_run(whole.folder, fresh.folder, died)
        deaths += died
        attempt += 1


@pytest.mark.parametrize(("limit", "averaged", "workers"), [("epochs", True, 2)])
def test_killed_at_any_moment(recipe: Path, tmp_path: Path, limit: str, averaged: bool, workers: int) -> None:
    """The hardest of the combinations; `test_killed_twenty_times_in_every_way` has all.

    Beside what is drawn: twice after an epoch's end, and after the last step before its validation, after that, and
    before its export.
    """
    runs = Runs(recipe, tmp_path, *LIMITS[limit], *(EMA if averaged else []), f"--data.num_workers={workers}")
    steps = [("on_train_batch_start", 4), ("on_train_batch_start", 6)]
    kill_often(runs, 1, 0, [*steps, ("on_validation_start", 8), ("on_train_epoch_end", 8), ("on_fit_end", 8)])


@pytest.mark.slow
@pytest.mark.parametrize("targets", TARGETS)
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("averaged", [False, True])
@pytest.mark.parametrize("limit", LIMITS)
def test_killed_twenty_times_in_every_way(
    recipe: Path, tmp_path: Path, limit: str, averaged: bool, workers: int, targets: str
) -> None:
    words = [*LIMITS[limit], *(EMA if averaged else []), f"--data.num_workers={workers}"]
    if targets == "cached":
        stored = tmp_path / "cache"
        assert main(["cache", str(recipe), "--out", str(stored), "--data.views=2"]) == 0
        words += ["--data.views=2", f"--model.cache.root={stored}"]
    kill_often(Runs(recipe, tmp_path, *words), int(os.environ.get("KILLS", "20")), (limit, averaged, workers, targets))
