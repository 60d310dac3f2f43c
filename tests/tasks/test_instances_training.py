"""Accumulated gradients, autocast and the learning rates of layers in a fine-tuning run."""

import csv
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import Trainer
from torch import Tensor, nn

from distill.cli import main
from distill.contracts import HeadBase
from distill.data import CocoInstances
from distill.launch.replay import replay
from distill.tasks.instances import FineTuningModule
from distill.training.optim import OptimSettings
from distill.weights import read_state_dict


class Student(nn.Module):
    """Two strides of 8 without batch statistics."""

    class feature_info:
        @staticmethod
        def channels() -> Sequence[int]:
            return [8]

        @staticmethod
        def reduction() -> Sequence[int]:
            return [8]

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 8, 8, 8)
        self.norm = nn.GroupNorm(2, 8)

    def forward(self, images: Tensor) -> list[Tensor]:
        return [self.norm(self.patch(images))]


class Head(HeadBase):
    """Learns which pixels belong to an object; its loss is a mean over images."""

    def __init__(self, feature_info: Any, class_names: list[str]) -> None:
        super().__init__()
        self.score = nn.Conv2d(feature_info.channels()[0], 1, 1)

    def loss(self, features: list[Tensor], targets: list[Any]) -> dict[str, Tensor]:
        scores = self.score(features[0])
        wanted = torch.stack([t.masks[:].any(dim=0).float() for t in targets])
        coarse = nn.functional.avg_pool2d(wanted[:, None].float(), 8)
        return {"loss_mask": nn.functional.binary_cross_entropy_with_logits(scores, coarse)}


def fit(scenes: Path, batch_size: int, accumulate: int) -> tuple[dict[str, Tensor], int, float]:
    """Weights, optimizer steps and last learning rate after twelve images."""
    folder = scenes / "train"
    files = {"images": str(folder / "images"), "annotations": str(folder / "annotations.json")}
    paths = {f"{split}_{kind}": path for split in ("train", "val") for kind, path in files.items()}
    data = CocoInstances(**paths, image_size=64, batch_size=batch_size, num_workers=0, seed=0)
    torch.manual_seed(0)
    module = FineTuningModule(Student(), Head, OptimSettings(lr=1e-2, warmup_steps=1))
    trainer = Trainer(
        accelerator="cpu",
        max_steps=3,
        accumulate_grad_batches=accumulate,
        gradient_clip_val=0.05,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
    )
    trainer.fit(module, datamodule=data)
    rate = trainer.optimizers[0].param_groups[0]["lr"]
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}, trainer.global_step, rate


def test_accumulated_halves_equal_the_full_batch(scenes: Path) -> None:
    full, steps, rate = fit(scenes, batch_size=4, accumulate=1)
    halves, halves_steps, halves_rate = fit(scenes, batch_size=2, accumulate=2)
    small, *_ = fit(scenes, batch_size=2, accumulate=1)
    assert steps == halves_steps == 3
    assert rate == halves_rate
    for name, tensor in full.items():
        assert torch.allclose(halves[name], tensor, atol=2e-4), name
    assert max(float((small[name] - tensor).abs().max()) for name, tensor in full.items()) > 1e-3


@pytest.mark.parametrize(
    "arguments",
    [
        ["--trainer.precision=bf16-mixed"],
        ["--trainer.accumulate_grad_batches=2", "--trainer.val_check_interval=2"],
        ["--model.optim.layer_decay=0.8", "--data.turns=true", "--data.augmentation.speckle=0.5"],
        ["--data.oversample_threshold=1.0", "--data.val_fraction=0.25"],
        ["--trainer.callbacks+=distill.EMA", "--trainer.callbacks.decay=0.9"],
    ],
    ids=["bfloat16", "accumulation", "layers", "sampling", "average"],
)
def test_a_real_head_trains_with(finetune_recipe: Path, tmp_path: Path, arguments: list[str]) -> None:
    assert main(["fit", str(finetune_recipe), "--trainer.max_steps=2", *arguments]) == 0
    checkpoint = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    assert checkpoint["global_step"] == 2
    assert {tensor.dtype for tensor in checkpoint["state_dict"].values() if tensor.is_floating_point()} == {
        torch.float32
    }
    with (tmp_path / "run" / "metrics.csv").open() as file:
        losses = [float(row["train/loss"]) for row in csv.DictReader(file) if row["train/loss"]]
    assert losses
    assert all(map(math.isfinite, losses))


def test_what_is_averaged_is_validated_exported_and_kept(finetune_recipe: Path, tmp_path: Path) -> None:
    ema = ["--trainer.callbacks+=distill.EMA", "--trainer.callbacks.decay=0.9"]
    assert main(["fit", str(finetune_recipe), "--run.dir", str(tmp_path / "plain")]) == 0
    assert main(["fit", str(finetune_recipe), *ema]) == 0
    stored = torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)
    plain = torch.load(tmp_path / "plain/checkpoints/last.ckpt", weights_only=True)["state_dict"]
    exported = read_state_dict(tmp_path / "run/student.safetensors")
    for name, tensor in exported.items():
        assert torch.equal(tensor, stored["state_dict"][f"student.{name}"]), name
    for name, tensor in plain.items():  # averaging changes what is kept, not what is trained
        assert torch.equal(tensor, stored["current_model_state"][name]), name
    assert any(not torch.equal(tensor, plain[f"student.{name}"]) for name, tensor in exported.items())


@pytest.mark.parametrize("recipe", ["finetune_recipe", "distill_recipe"])
def test_a_run_that_diverges_stops_with_one_line_and_sound_weights(
    recipe: str, request: pytest.FixtureRequest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wild = ["--model.optim.lr=1e30", "--model.optim.warmup_steps=0", "--run.checkpoint_every=1"]
    assert main(["fit", str(request.getfixturevalue(recipe)), *wild]) == 2
    said = capsys.readouterr().err
    assert "training diverged at step" in said
    assert "lower model.optim.lr" in said
    assert "Traceback" not in said
    assert f"its batch is in {tmp_path}/run/failed_batch.pt" in said
    failed = torch.load(tmp_path / "run/failed_batch.pt", weights_only=False)
    replayed = replay(tmp_path / "run/failed_batch.pt")
    assert replayed.step == failed["step"]
    assert replayed.images == failed["images"]
    assert replayed.gradients
    if recipe == "distill_recipe":
        assert [list(batch["path"]) for batch in failed["batches"]] == failed["images"]
    checkpoint = torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)
    assert all(tensor.isfinite().all() for tensor in checkpoint["state_dict"].values())
    assert not (tmp_path / "run/student.safetensors").exists()


def test_a_checkpoint_of_other_parts_is_one_line(
    finetune_recipe: Path, distill_recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    quick = ["--trainer.max_steps=1", "--trainer.limit_val_batches=0", "--run.checkpoint_every=1"]
    for recipe in (finetune_recipe, distill_recipe):
        assert main(["fit", str(recipe), *quick, f"--run.dir={tmp_path / recipe.stem}"]) == 0
    run = tmp_path / finetune_recipe.stem
    assert main(["test", str(run), "--model.head.neck_channels=32"]) == 2
    assert "does not fit the recipe's student and head: head.neck." in capsys.readouterr().err
    stem = distill_recipe.stem
    other = [f"--ckpt_path={tmp_path / stem / 'checkpoints/last.ckpt'}", "--trainer.max_steps=2"]
    student = ["--model.student.patch_size=16", "--run.dir", str(tmp_path / "other")]
    assert main(["fit", str(distill_recipe), *other, *student]) == 2
    assert "does not fit the recipe's student: student." in capsys.readouterr().err
    assert not (tmp_path / "other/recipe.yaml").exists()


@pytest.mark.parametrize("precision", ["bf16-true", "64-true", "16-true"])
def test_weights_of_another_precision_are_refused_in_one_line(
    precision: str, finetune_recipe: Path, distill_recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for recipe in (finetune_recipe, distill_recipe):
        assert main(["fit", str(recipe), f"--trainer.precision={precision}"]) == 2
        said = capsys.readouterr().err.strip().splitlines()
        assert len(said) == 1
        assert said[0].startswith(f"distill: error: trainer.precision is '{precision}', which casts all weights")
        assert "bf16-mixed" in said[0]
