"""Soft targets: the loss against PyTorch's and against loops, and what a teacher may and may not touch."""

import copy
import math
from functools import partial
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from distill.contracts import DecoderBase, TeacherBase
from distill.data.class_table import IGNORE
from distill.errors import UserError
from distill.tasks.losses.segmentation import SegmentationLossSettings
from distill.tasks.losses.soft_targets import SoftTargetSettings, divergence
from distill.tasks.segmentation import SegmentationModule
from distill.training.averaging import EMA

NAMES = ["a", "b", "c"]


def example(size: tuple[int, int] = (5, 7), seed: int = 0) -> tuple[Tensor, Tensor]:
    """Logits of student and teacher (2, 4, H, W)."""
    generator = torch.Generator().manual_seed(seed)
    own, teacher = (3 * torch.randn(2, 4, *size, generator=generator, dtype=torch.float64) for _ in range(2))
    return own.requires_grad_(), teacher


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_equals_pytorch_and_a_loop_over_pixels(temperature: float) -> None:
    own, teacher = example()
    loss = divergence(own, teacher, temperature)
    (gradient,) = torch.autograd.grad(loss, own)
    pixels = own.movedim(1, -1).flatten(0, 2)
    targets = teacher.movedim(1, -1).flatten(0, 2)
    oracle = temperature**2 * F.kl_div(
        F.log_softmax(pixels / temperature, -1), F.softmax(targets / temperature, -1), reduction="batchmean"
    )
    torch.testing.assert_close(loss, oracle)
    torch.testing.assert_close(gradient, torch.autograd.grad(oracle, own)[0])
    total = 0.0
    for scores, given in zip(pixels.tolist(), targets.tolist(), strict=True):
        p, q = ([math.exp(x / temperature) for x in row] for row in (given, scores))
        total += sum(a / sum(p) * math.log(a / sum(p) / (b / sum(q))) for a, b in zip(p, q, strict=True))
    assert loss.item() == pytest.approx(temperature**2 * total / len(pixels), rel=1e-9)


def test_gradients_are_those_of_differences_and_of_the_paper() -> None:
    own, teacher = example((2, 3))
    assert torch.autograd.gradcheck(lambda x: divergence(x, teacher, 2.0), own)
    # At high temperature the gradient tends to the difference of the centred logits over K (Hinton et al., equation 4).
    (gradient,) = torch.autograd.grad(divergence(own, teacher, 1e4), own)
    centred = (own - own.mean(1, keepdim=True)) - (teacher - teacher.mean(1, keepdim=True))
    torch.testing.assert_close(gradient, centred.detach() / 4 / 12, rtol=1e-2, atol=1e-5)


def test_the_right_answer_costs_nothing() -> None:
    own, teacher = example()
    assert divergence(teacher + 3.0, teacher, 2.0).item() == pytest.approx(
        0, abs=1e-12
    )  # a shift changes no probability
    assert divergence(own, teacher, 2.0) > 0.1


@pytest.mark.parametrize("scale", [1e4, -1e4])
def test_sure_predictions_stay_finite(scale: float) -> None:
    own, teacher = (scale * x.detach().float() for x in example())
    own.requires_grad_()
    loss = divergence(own, teacher, 1.0)
    loss.backward()
    assert loss.isfinite()
    assert own.grad is not None
    assert own.grad.isfinite().all()


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

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Conv2d(3, 3, 1)

    def forward(self, images: Tensor) -> list[Tensor]:
        return [self.mix(images)]


class Decoder(DecoderBase):
    """Classes by colour, at half the resolution."""

    def __init__(self, feature_info: Any, class_names: list[str]) -> None:
        super().__init__()
        self.score = nn.Conv2d(3, len(class_names), 2, stride=2)

    def forward(self, features: list[Tensor]) -> Tensor:
        return self.score(features[0])


class Teacher(TeacherBase):
    """Logits at a quarter of the resolution; it counts what it saw, and would learn if the task did not freeze it."""

    digest = "abc"  # type: ignore[assignment]

    def __init__(self, class_names: list[str] | None = None) -> None:
        super().__init__()
        self.class_names = class_names or NAMES
        self.channels: dict[str, int] = {"logits": len(self.class_names)}
        self.score = nn.Conv2d(3, len(self.class_names), 4, stride=4)
        self.seen: list[Tensor] = []

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        self.seen.append(images)
        return {"logits": self.score(images)}


def module(**settings: Any) -> SegmentationModule:
    torch.manual_seed(0)
    built = SegmentationModule(Student(), Decoder, **settings)
    built.build(NAMES)
    built.log_dict = built.log = lambda *_, **__: None  # type: ignore[method-assign, assignment]
    return built


def batch(ignored: bool = False) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 3, (2, 24, 32), generator=generator)
    return {
        "image": torch.rand(2, 3, 12, 16, generator=generator),
        "label": torch.full_like(labels, IGNORE) if ignored else labels,
    }


def test_the_step_adds_the_weighted_divergence_at_the_labels_size() -> None:
    teacher, given = Teacher(), batch()
    plain = module().training_step(given, 0)
    taught = module(teacher=teacher, soft_targets=SoftTargetSettings(0.3, 2.0))
    resized = [
        F.interpolate(x, (24, 32), mode="bilinear") for x in (taught(given["image"]), teacher(given["image"])["logits"])
    ]
    expected = plain + 0.3 * divergence(resized[0], resized[1], 2.0)
    torch.testing.assert_close(taught.training_step(given, 0), expected)
    assert teacher.seen[-1] is given["image"]  # the student's own view


def test_every_pixel_counts_labelled_or_not() -> None:
    teacher = Teacher()
    taught = module(teacher=teacher)
    unlabelled = taught.training_step(batch(ignored=True), 0)
    unlabelled.backward()
    assert unlabelled > 0
    assert all(parameter.grad.abs().sum() > 0 for parameter in taught.parameters())
    alone = module(teacher=teacher, loss=SegmentationLossSettings({}))  # nor do labels matter without a term
    torch.testing.assert_close(alone.training_step(batch(), 0), unlabelled)
    assert module(teacher=teacher).training_step(batch(), 0) > unlabelled


def test_soft_targets_are_in_float32_under_autocast() -> None:
    taught = module(teacher=Teacher())
    with torch.autocast("cpu", torch.bfloat16):
        loss = taught.training_step(batch(), 0)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(taught.training_step(batch(), 0).item(), rel=0.02)


class Pixels(pl.LightningDataModule):
    class_names = NAMES

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader([batch()] * 3, batch_size=None)  # type: ignore[arg-type]


def test_the_teacher_is_in_no_checkpoint_no_optimizer_and_no_average(tmp_path: Any) -> None:
    teacher = Teacher()
    before = copy.deepcopy(dict(teacher.state_dict()))
    before = {key: value.clone() for key, value in before.items()}
    taught = SegmentationModule(Student(), Decoder, teacher=teacher)
    trainer = pl.Trainer(
        max_steps=3,
        accelerator="cpu",
        callbacks=[EMA(0.5)],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
    )
    trainer.fit(taught, datamodule=Pixels())
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    content = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert {name.split(".")[0] for name in content["state_dict"]} == {"student", "head"}
    assert content["teacher_digest"] == "abc"
    held = {id(p) for group in trainer.optimizers[0].param_groups for p in group["params"]}
    assert not held & {id(parameter) for parameter in teacher.parameters()}
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert all(torch.equal(value, before[key]) for key, value in teacher.state_dict().items())
    assert len(teacher.seen) == 3


def test_goes_on_with_the_same_teacher_alone() -> None:
    taught = module(teacher=Teacher())
    written: dict[str, Any] = {"state_dict": taught.state_dict()}
    taught.on_save_checkpoint(written)
    taught.on_load_checkpoint(written)
    module().on_load_checkpoint(written)  # scoring needs no teacher
    with pytest.raises(UserError, match=r"trained with teacher xyz, but model\.teacher is abc"):
        taught.on_load_checkpoint(written | {"teacher_digest": "xyz"})
    with pytest.raises(UserError, match=r"trained with teacher None, but model\.teacher is abc"):
        taught.on_load_checkpoint({"class_names": NAMES, "state_dict": taught.state_dict()})


@pytest.mark.parametrize("names", [["a", "b", "d"], ["b", "a", "c"], ["a", "b"]])
def test_refuses_a_teacher_of_other_classes(names: list[str]) -> None:
    with pytest.raises(
        UserError, match=r"model\.teacher was trained for classes \[.*but the data has \['a', 'b', 'c'\]"
    ):
        module(teacher=Teacher(names))


def test_refuses_a_teacher_without_logits() -> None:
    teacher = Teacher()
    teacher.channels = {"embedding": 3, "block_1": 3}
    with pytest.raises(UserError, match=r"gives embedding, block_1 and no logits; use teachers\.Segmenter"):
        module(teacher=teacher)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (partial(SoftTargetSettings, weight=-1.0), "weight -1"),
        (partial(SoftTargetSettings, temperature=0.0), "temperature 0"),
        (partial(module, loss=SegmentationLossSettings({})), "terms is empty"),
        (partial(module, loss=SegmentationLossSettings({"dice": 0.0})), "terms is empty"),
    ],
)
def test_bad_settings_are_refused(build: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        build()
