"""Several features of several teachers at once, from a recipe."""

import csv
import json
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from distill.cli import main
from distill.contracts import TeacherBase
from distill.errors import UserError
from distill.runs.metadata import all_teachers, teacher_costs
from distill.tasks.corruption import CorruptionSettings
from distill.tasks.distillation import DistillationModule
from distill.tasks.losses.features import LossSettings
from distill.tasks.losses.schedule import Schedule
from distill.tasks.matching.settings import TargetSettings
from distill.weights import load_student
from students import TimmStudent
from tests.launch.resuming import assert_same_weights, cut_and_resume


class Pyramid(TeacherBase):
    """Two features, and a count of how often it runs."""

    channels: ClassVar = {"deep": 6, "fine": 4}
    reduction: ClassVar = {"deep": 16, "fine": 8}

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.deep, self.fine = nn.Conv2d(3, 6, 16, 16), nn.Conv2d(3, 4, 8, 8)
        self.seen: list[tuple[int, ...]] = []

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        self.seen.append(tuple(images.shape[-2:]))
        with torch.no_grad():
            return {"deep": self.deep(images), "fine": self.fine(images)}


def task(*targets: TargetSettings, **changes: Any) -> DistillationModule:
    """A ResNet with maps of stride 4 to 32 under two teachers, calibrated."""
    torch.manual_seed(0)
    student = TimmStudent("resnet10t", out_indices=[1, 2, 3, 4])
    settings: dict[str, Any] = {
        "target": "deep",
        "corruption": CorruptionSettings(noise=0.2, mask=0.2, level="image"),
        "loss": LossSettings({"l1": 1.0}, standardize="none"),
    }
    made = DistillationModule(Pyramid(), student, targets=list(targets), **settings | changes)
    for match, maps in zip(made.matches, made.raw_targets({"image": torch.rand(5, 3, 64, 64)}), strict=True):
        match.calibrate([maps], 5)
    for teacher in made.teachers:
        teacher.seen.clear()  # type: ignore[operator, union-attr]
    return made


def step(made: DistillationModule, images: Tensor) -> dict[str, Tensor]:
    """What a training step logs, once the loss has gone back."""
    logged: dict[str, Tensor] = {}
    made.log_dict = lambda values, **_: logged.update(values)  # type: ignore[method-assign, assignment]
    made.log = lambda *_, **__: None  # type: ignore[method-assign, assignment]
    torch.manual_seed(1)
    made.training_step({"image": images}, 0).backward()
    return logged


def test_each_teacher_runs_once_for_a_view_and_every_tap_learns() -> None:
    other = Pyramid(1)
    made = task(
        TargetSettings("fine", tap=0),
        TargetSettings("deep", teacher=other, name="other", tap=2, adapter="mlp", loss=LossSettings({"mgd": 1.0})),
        TargetSettings("fine", teacher=other, name="large", image_size=128, adapter="conv3x3", weight=0.5),
    )
    logged = step(made, torch.rand(2, 3, 64, 64))
    assert made.teacher.seen == [(64, 64)]  # type: ignore[union-attr]
    assert other.seen == [(64, 64), (128, 128)]
    assert not other.training
    assert not any("teacher" in name or "seen" in name for name in made.state_dict())
    names = {"train/l1", "train/loss", "train/fine/l1", "train/fine/loss", "train/other/mgd", "train/large/loss"}
    assert logged.keys() >= names
    parts = [logged[f"train/{name}"] for name in ("l1", "fine/loss", "other/loss", "large/loss")]
    torch.testing.assert_close(logged["train/loss"], parts[0] + parts[1] + parts[2] + 0.5 * parts[3])
    assert all(parameter.grad is not None for parameter in made.parameters() if parameter.requires_grad)


def test_costs_count_every_pass_of_every_teacher() -> None:
    other = Pyramid(1)
    made = task(
        TargetSettings("fine", tap=0),
        TargetSettings("deep", name="small", image_size=32),
        TargetSettings("deep", teacher=other, name="other"),
    )
    one, small = 8 * 8 * 3 * 8**2 * (4 + 6), 4 * 4 * 3 * 8**2 * (4 + 6)  # multiply-adds at 64 and 32 px
    params = sum(parameter.numel() for parameter in other.parameters())
    costs = {"teacher_params": params, "teacher_macs": one}
    everything = {"teachers_params": 2 * params, "teachers_macs": one + small + one}
    assert teacher_costs(made, 64) == costs | everything
    assert all_teachers(made, 64) == "Pyramid (2 views) + Pyramid"
    assert teacher_costs(alone := task(TargetSettings("fine", tap=0)), 64) == costs
    assert all_teachers(alone, 64) is None


def test_without_further_targets_nothing_is_different() -> None:
    """A weight of 0 leaves the loss of the main target, and its gradients in the student."""
    images = torch.rand(2, 3, 64, 64)
    alone, beside = task(), task(TargetSettings("fine", tap=0, weight=0.0))
    assert torch.equal(step(alone, images)["train/loss"], step(beside, images)["train/loss"])
    for (name, one), (_, other) in zip(
        alone.student.named_parameters(), beside.student.named_parameters(), strict=True
    ):
        assert torch.equal(one.grad, other.grad), name  # type: ignore[arg-type]


def test_weights_that_change_are_logged() -> None:
    made = task(
        TargetSettings("fine", weight=Schedule(0.25, 1.0, 10), loss=LossSettings({"l2": Schedule(2.0, 0.0, 10)})),
        loss=LossSettings({"l1": 1.0, "cosine": Schedule(0.5, 0.0, 10)}),
    )
    logged = step(made, torch.rand(2, 3, 64, 64))
    assert {name: float(value) for name, value in logged.items() if name.startswith("weight/")} == {
        "weight/cosine": 0.5,
        "weight/fine/l2": 2.0,
        "weight/fine/loss": 0.25,
    }
    expected = logged["train/l1"] + 0.5 * logged["train/cosine"] + 0.25 * 2.0 * logged["train/fine/l2"]
    torch.testing.assert_close(logged["train/loss"], expected)


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (
            [TargetSettings("fine", tap=4)],
            r"targets\[0\]\.tap is 4, but the student has 4 maps, of \[64, 128, 256,",
        ),
        ([TargetSettings("deep"), TargetSettings("deep", tap=0)], "two targets called 'deep'"),
        ([TargetSettings("depe")], r"model\.targets\[0\]\.feature 'depe': did you mean deep"),
        (
            [TargetSettings("deep", image_size=0)],
            r"image_size of model\.targets\[0\]\.feature is 0; it must be",
        ),
        ([TargetSettings("deep", teacher=nn.Linear(1, 1))], "a teacher in model.targets is Linear, which is no Teach"),
    ],
)
def test_what_cannot_be_matched(targets: list[TargetSettings], message: str) -> None:
    with pytest.raises(UserError, match=message):
        task(*targets)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"weight": -1.0}, "weight of a target in model.targets is -1.0"),
        ({"adapter": "cnn"}, "adapter in model.targets 'cnn'"),
        ({"name": "a/b"}, "a target in model.targets is called 'a/b'"),
    ],
)
def test_bad_settings_name_the_key(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        TargetSettings("deep", **settings)


def targets_of(weights: Path) -> str:
    """`model.targets` on the command line: the recipe's teacher again, and another one."""
    other = {"class_path": "teachers.ViT", "init_args": {"name": "vit_tiny_patch16_224", "checkpoint": str(weights)}}
    mixed = {"terms": {"smooth_l1": 1.0, "gram": {"start": 0, "end": 1, "steps": 4}}, "standardize": "channel"}
    masked = {"terms": {"mgd": 0.5, "cwd": 1.0}, "standardize": "phi_s"}
    return "--model.targets=" + json.dumps(
        [
            {"feature": "block_0", "tap": 0, "loss": mixed, "weight": {"start": 1, "end": 0.5, "steps": 6}},
            {"feature": "embedding", "name": "other", "teacher": other, "image_size": 96, "tap": 1, "loss": masked},
        ]
    )


def test_a_resumed_run_has_the_bits_of_one_that_was_not_cut(
    distill_recipe: Path, vit_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [targets_of(vit_weights), "--model.teacher.blocks=[0]", "--model.loss.standardize=phi_s"]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert main(["fit", str(distill_recipe), *words, f"--run.dir={whole}"]) == 0
    resumed = cut_and_resume(distill_recipe, cut, *words, "--run.checkpoint_every=3", cut=7)
    for name, tensor in load_student(whole / "student.safetensors").state_dict().items():
        assert torch.equal(tensor, resumed[name]), name
    assert_same_weights(whole, cut)
    with (whole / "metrics.csv").open(newline="") as file:
        columns = next(csv.reader(file))
    for name in ("train/block_0/gram", "weight/block_0/gram", "train/other/mgd", "val/other/l1_ratio", "val/l1_ratio"):
        assert name in columns
    checkpoint = torch.load(whole / "checkpoints" / "last.ckpt", weights_only=True)
    assert list(checkpoint["further_statistics"]) == ["block_0", "other"]
    assert not [name for name in checkpoint["state_dict"] if "teacher" in name]
    scores = json.loads((whole / "summary.json").read_text())
    assert "val/other/l1_ratio" in json.dumps(scores)
    student = load_student(whole / "student.safetensors")
    assert not [name for name in student.state_dict() if "adapter" in name or "generat" in name]

    capsys.readouterr()
    assert main(["validate", str(whole)]) == 0  # its teachers are there again
    assert main(["validate", str(whole), "--model.targets=[]"]) == 2
    assert "was trained with model.targets ['block_0', 'other']" in capsys.readouterr().err
