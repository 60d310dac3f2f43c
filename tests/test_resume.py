"""A run that was cut off and resumed ends with the weights of one that never stopped."""

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from distill.checkpoint import read_state_dict
from distill.cli import main

EMA = "--trainer.callbacks+=distill.EMA"


class PowerCut(pl.Callback):
    """Ends the process's work before step `step`, as a crash would."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step == self.step:
            raise ConnectionAbortedError


def cut_and_resume(recipe: Path, folder: Path, *extra: str) -> dict[str, torch.Tensor]:
    """Weights of a run cut off at step 6 and resumed from its checkpoint of step 4."""
    cut = ["--trainer.callbacks+=tests.test_resume.PowerCut", "--trainer.callbacks.step=6"]
    arguments = ["fit", str(recipe), f"--run.dir={folder}", *extra]
    with pytest.raises(ConnectionAbortedError):
        main([*arguments, *cut])
    assert main([*arguments, "--ckpt_path=last"]) == 0
    return read_state_dict(folder / "student.safetensors")


EPOCHS_OF_FOUR_BATCHES = ["--data.batch_size=3", "--trainer.limit_val_batches=0"]


@pytest.mark.parametrize(
    "extra",
    [[], [EMA, "--trainer.callbacks.decay=0.9"], EPOCHS_OF_FOUR_BATCHES],
    ids=["plain", "ema", "at the end of an epoch"],
)
def test_resumed_distillation_equals_uninterrupted(distill_recipe: Path, tmp_path: Path, extra: list[str]) -> None:
    assert main(["fit", str(distill_recipe), *extra]) == 0
    straight = read_state_dict(tmp_path / "run" / "student.safetensors")
    resumed = cut_and_resume(distill_recipe, tmp_path / "cut", *extra)
    assert straight.keys() == resumed.keys()
    for name, tensor in straight.items():
        assert torch.equal(tensor, resumed[name]), name


VARIED = [
    "--data.oversample_threshold=1.0",
    "--data.augmentation.rotate=true",
    "--data.augmentation.speckle=0.5",
    "--model.optim.layer_decay=0.9",
]


@pytest.mark.parametrize("extra", [[], VARIED], ids=["plain", "varied"])
def test_resumed_fine_tuning_equals_uninterrupted(finetune_recipe: Path, tmp_path: Path, extra: list[str]) -> None:
    assert main(["fit", str(finetune_recipe), *extra]) == 0
    straight = read_state_dict(tmp_path / "run" / "student.safetensors")
    resumed = cut_and_resume(finetune_recipe, tmp_path / "cut", *extra)
    for name, tensor in straight.items():
        assert torch.equal(tensor, resumed[name]), name


def test_a_resumed_run_keeps_its_metrics(distill_recipe: Path, tmp_path: Path) -> None:
    cut_and_resume(distill_recipe, tmp_path / "cut")
    lines = (tmp_path / "cut" / "metrics.csv").read_text().splitlines()
    column = lines[0].split(",").index("step")
    steps = [int(line.split(",")[column]) for line in lines[1:]]
    assert sorted(set(steps)) == list(range(8))
    loss = lines[0].split(",").index("train/loss")
    assert len([line for line in lines[1:] if line.split(",")[loss]]) == 8, "a step was logged twice"
