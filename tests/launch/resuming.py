"""Runs that are cut off, stopped and resumed."""

import os
import time
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from distill.cli import main
from distill.seeding import run_seed
from distill.weights import read_state_dict


class PowerCut(pl.Callback):
    """Ends the process's work before step `step`, as a crash would."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step == self.step:
            raise ConnectionAbortedError


class Slow(pl.Callback):
    """Makes a step take more than a second."""

    def on_train_batch_start(self, *_: Any) -> None:
        time.sleep(1.1)


class CutSeed(pl.Callback):
    """Ends the process's work before the second step of the run whose seed the variable `CUT_SEED` names."""

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step == 1 and os.environ.get("CUT_SEED") == str(run_seed()):
            raise ConnectionAbortedError


class Interrupt(pl.Callback):
    """Sends the process of one rank a signal during step `step`, as Ctrl-C or a job queue would."""

    def __init__(self, step: int, number: int, rank: int = 0) -> None:
        self.step, self.number, self.rank = step, number, rank

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step == self.step and trainer.global_rank == self.rank:
            os.kill(os.getpid(), self.number)


def assert_same_weights(first: Path, second: Path) -> None:
    """Checkpoints of the two runs hold the same bits."""
    for name in ("last", "best"):
        states = [
            torch.load(folder / "checkpoints" / f"{name}.ckpt", weights_only=True)["state_dict"]
            for folder in (first, second)
            if (folder / "checkpoints" / f"{name}.ckpt").exists()
        ]
        assert len(states) in ((2,) if name == "last" else (0, 2)), "one run has a best checkpoint, the other has not"
        for key, tensor in states[0].items() if states else ():
            assert torch.equal(tensor, states[1][key]), f"{name}: {key}"


def cut_and_resume(recipe: Path, folder: Path, *extra: str, cut: int = 6) -> dict[str, torch.Tensor]:
    """Weights of a run cut off at step `cut` and resumed from its last checkpoint."""
    arguments = ["fit", str(recipe), f"--run.dir={folder}", *extra]
    with pytest.raises(ConnectionAbortedError):
        main([*arguments, "--trainer.callbacks+=tests.launch.resuming.PowerCut", f"--trainer.callbacks.step={cut}"])
    assert main([*arguments, "--ckpt_path=last"]) == 0
    return read_state_dict(folder / "student.safetensors")
