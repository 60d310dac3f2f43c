"""Every student and every distillation recipe takes a step: corruption, loss, optimizer, precision and callbacks.

The teacher is a stand-in that emits the map a recipe asks for; real ones are tested in tests/teachers, and whole runs
of the recipes in tests/recipes.
"""

from importlib import import_module
from itertools import cycle
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader

from distill.contracts import TeacherBase
from distill.recipe.combinations import COMBINATIONS
from distill.recipe.compose import compose
from distill.recipe.find import shipped
from distill.tasks.corruption import CorruptionSettings
from distill.tasks.distillation import DistillationModule
from distill.tasks.losses.features import LossSettings
from distill.training.optim import OptimSettings
from tests.contract.cases import STUDENTS, build_student

SIDE, STRIDE = 64, 16
CHANNELS = {"teachers.SAM": 256, "teachers.ViT": 192, "teachers.CNN": 768}


def distillations() -> dict[str, dict[str, Any]]:
    """The recipes of `distill.DistillationModule`, by name."""
    recipes = {name: compose([name]).content for name in (*shipped(), *COMBINATIONS)}
    return {n: r for n, r in recipes.items() if r.get("model", {}).get("class_path") == "distill.DistillationModule"}


RECIPES = distillations()
# Every student meets both precisions, a corruption and none, and every kind of loss (L1, standardised L1 with cosine,
# L2), with EMA and without. The other recipes are taken once each, by the students in turn.
FOR_ALL = ("rs4d_tiny_cpu", "ablation/adaptive", "sam_to_efficientvit_sam")
PAIRS = [(name, student) for name in FOR_ALL for student in STUDENTS]
PAIRS += [*zip((name for name in RECIPES if name not in FOR_ALL), cycle(STUDENTS), strict=False)]


class Stripes(TeacherBase):
    """A teacher of one map, functions of each patch's mean."""

    def __init__(self, target: str, channels: int) -> None:
        super().__init__()
        self.channels = {target: channels}
        self.reduction = {target: STRIDE}

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        ((target, channels),) = self.channels.items()
        means = F.avg_pool2d(images, STRIDE).mean(1, keepdim=True)
        return {target: torch.sin(torch.arange(1, channels + 1).view(-1, 1, 1) * means)}


class Pixels(pl.LightningDataModule):
    """Two batches of two images."""

    def train_dataloader(self) -> DataLoader[Any]:
        generator = torch.Generator().manual_seed(0)
        images: list[Any] = [{"image": torch.rand(3, SIDE, SIDE, generator=generator)} for _ in range(4)]
        return DataLoader(images, batch_size=2)

    val_dataloader = full_size_dataloader = train_dataloader


@pytest.mark.parametrize(("name", "student_name"), PAIRS)
def test_takes_a_step(name: str, student_name: str) -> None:
    recipe = RECIPES[name]
    given, trainer = recipe["model"]["init_args"], recipe["trainer"]
    student = build_student(STUDENTS[student_name]).train()
    corruption = CorruptionSettings(**given.get("corruption", {}))
    if student.token_channels is None:
        corruption.level = "image"
    module = DistillationModule(
        Stripes(given["target"], CHANNELS[given["teacher"]["class_path"]]),
        student,
        target=given["target"],
        corruption=corruption,
        loss=LossSettings(**given["loss"]),
        optim=OptimSettings(**given["optim"] | {"warmup_steps": 0}),
        calibration_images=2,
    )
    before = {key: parameter.detach().clone() for key, parameter in student.named_parameters()}
    pl.Trainer(
        max_steps=1,
        accelerator="cpu",
        precision=trainer.get("precision") or "32-true",
        callbacks=[_build(callback) for callback in trainer.get("callbacks") or []],
        val_check_interval=1,
        limit_val_batches=1,
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    ).fit(module, datamodule=Pixels())
    moved = {key for key, parameter in student.named_parameters() if not torch.equal(parameter, before[key])}
    assert next(iter(before)) in moved, "the first layer learns"
    assert all(tensor.isfinite().all() for tensor in student.state_dict().values())


def _build(given: dict[str, Any]) -> pl.Callback:
    module, _, class_name = given["class_path"].rpartition(".")
    callback: pl.Callback = getattr(import_module(module), class_name)(**given["init_args"])
    return callback
