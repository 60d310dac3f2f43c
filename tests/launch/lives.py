"""Fits that are killed with SIGKILL and go on, until one ends.

Each life of a run is a forked child with a process group of its own, data workers included. The parent has imported and
parsed everything, so a life costs little more than its steps. A child kills its group before a given moment: a hook of
the trainer, or something that happens to a file in the run folder. So a seed always kills at the same places, however
busy the machine is; some children are killed by the clock as well.
"""

import functools
import json
import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from distill.files import read_csv
from distill.launch.api import start_fit
from distill.launch.parse import ParsedRecipe
from distill.runs.folder import RunFolder, RunState

FORK = multiprocessing.get_context("fork")
FILES = ("open", "os.mkdir", "os.link", "os.remove", "os.rename", "os.rmdir", "shutil.rmtree", "tempfile.mkstemp")
HOOKS = (
    "on_train_start",
    "on_train_batch_start",
    "on_after_backward",
    "on_before_zero_grad",  # the optimizer has stepped
    "on_train_batch_end",
    "on_validation_start",
    "on_validation_batch_end",
    "on_validation_end",
    "on_train_epoch_end",
    "on_train_end",
    "on_fit_end",
)
TIMES = ("train_hours", "hours", "cpu_ms", "data_wait")


class Moments(pl.Callback):
    """Counts hooks of the trainer as moments."""

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if _life is None:
            return
        for hook in HOOKS:
            setattr(self, hook, functools.partial(_pass, hook, trainer))


def _pass(hook: str, trainer: pl.Trainer, *_: Any) -> None:
    assert _life is not None
    _life.count((hook, trainer.global_step))


@dataclass
class Life:
    """In a child: when to die.

    Args:
        last: The moment before which the group is killed; 0 for never.
        seen: Moments so far, shared with the parent.
        at: A hook and its step, likewise.
    """

    last: int
    seen: Any
    at: tuple[str, int] | None = None

    def count(self, what: tuple[str, int] | None = None) -> None:
        self.seen.value += 1
        if self.seen.value == self.last or (what is not None and what == self.at):
            os.killpg(0, signal.SIGKILL)


_life: Life | None = None


def _child(recipe: ParsedRecipe, life: Life) -> None:
    global _life
    os.setsid()
    _life = life
    own = os.getpid()
    folder = str(recipe.folder)

    def count(event: str, arguments: tuple[Any, ...]) -> None:
        if event in FILES and os.getpid() == own and folder in str(arguments[0]):
            life.count()

    sys.addaudithook(count)
    sys.stdout = sys.stderr = (recipe.folder.path.parent / "said.txt").open("a", buffering=1)
    try:
        start_fit(recipe)
    except BaseException:
        traceback.print_exc()
        raise


def live(
    recipe: ParsedRecipe, last: int = 0, seconds: float | None = None, at: tuple[str, int] | None = None
) -> tuple[bool, int]:
    """Whether a life ended by itself, and how many moments it saw.

    Args:
        recipe: The run.
        last: The moment before which it is killed, from 1.
        seconds: After how many seconds it is killed.
        at: The hook, and the step in it, before which it is killed.
    """
    recipe.folder.path.parent.mkdir(parents=True, exist_ok=True)
    seen = FORK.Value("i", 0, lock=False)
    process = FORK.Process(target=_child, args=(recipe, Life(last, seen, at)))
    process.start()
    if seconds is not None:
        process.join(seconds)
        if process.is_alive():
            assert process.pid is not None
            os.killpg(process.pid, signal.SIGKILL)
    process.join()
    said = (recipe.folder.path.parent / "said.txt").read_text()
    assert process.exitcode in (0, -signal.SIGKILL), said
    return process.exitcode == 0, seen.value


def parsed(path: Path, *words: str) -> ParsedRecipe:
    """A recipe for "fit" whose hooks are moments."""
    return ParsedRecipe.read("fit", [str(path), "--trainer.callbacks+=tests.launch.lives.Moments", *words])


def killed(fresh: ParsedRecipe, resumed: ParsedRecipe, plans: Sequence[dict[str, Any]]) -> int:
    """Lets a run live until it ends, each life killed as the next plan says, with arguments of `live`; the last is not.

    Returns:
        How often it was killed.
    """
    deaths = 0
    for plan in [*plans, {}]:
        state = fresh.folder.state
        if state is RunState.FINISHED and fresh.folder.card.is_file():  # killed when all was done
            break
        finished, _ = live(fresh if state is RunState.FRESH else resumed, **plan)
        if finished:
            break
        deaths += 1
    assert fresh.folder.state is RunState.FINISHED
    assert fresh.folder.card.is_file()
    return deaths


def assert_same_run(whole: RunFolder, other: RunFolder, deaths: int) -> None:
    """Two runs have left the same but for times: weights to the bit, metrics of every step, scores."""
    assert whole.student.read_bytes() == other.student.read_bytes()
    for name in ("last", "best"):
        one, two = (torch.load(getattr(run, name), weights_only=True) for run in (whole, other))
        for part in ("state_dict", "current_model_state", "optimizer_states", "lr_schedulers", "metrics"):
            assert same(one.get(part), two.get(part)), f"{name}: {part}"
    # A row is logged after the checkpoint of its step is written: a life that ends between the two loses it.
    expected, found = _table(whole), _table(other)
    assert all(row in expected for row in found)
    assert len(expected) - len(found) <= deaths
    facts = [json.loads(run.summary.read_text()) for run in (whole, other)]
    assert {key: value for key, value in facts[0].items() if key not in TIMES} == {
        key: value for key, value in facts[1].items() if key not in TIMES
    }


def same(one: Any, two: Any) -> bool:
    """Whether nested values are equal, tensors to the bit."""
    if isinstance(one, torch.Tensor):
        return isinstance(two, torch.Tensor) and torch.equal(one, two)
    if isinstance(one, dict):
        return isinstance(two, dict) and one.keys() == two.keys() and all(same(one[key], two[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(two) and all(map(same, one, two))
    return bool(one == two)


def _table(run: RunFolder) -> list[dict[str, str]]:
    names, *rows = read_csv(run.metrics)
    return [{n: value for n, value in zip(names, row, strict=True) if n not in TIMES and value} for row in rows]


def seconds_of(recipe: ParsedRecipe) -> tuple[float, int]:
    """How long a life takes that nobody ends, and how many moments it has."""
    started = time.perf_counter()
    finished, moments = live(recipe)
    assert finished
    return time.perf_counter() - started, moments
