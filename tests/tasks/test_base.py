"""What all tasks have in common: contracts, names in checkpoints, predictions that are those of a validation."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

import heads
from distill.contracts import HeadBase, Prediction, StudentBase, Target, TeacherBase
from distill.data import CocoInstances
from distill.errors import UserError
from distill.evaluation.instances import InstanceEvaluation
from distill.evaluation.segmentation import PixelConfusion
from distill.tasks.base import TaskBase
from distill.tasks.corruption import CorruptionSettings
from distill.tasks.distillation import DistillationModule
from distill.tasks.instances import FineTuningModule
from distill.tasks.losses.features import LossSettings, cosine, l1
from distill.tasks.matching.baseline import TargetStatistics
from distill.tasks.segmentation import SegmentationModule
from students import LALE, RS4D
from teachers import ViT

NAMES = ["land", "water", "road"]


def student() -> RS4D:
    torch.manual_seed(0)
    return RS4D("tiny", image_size=64, patch_size=8)


@pytest.fixture
def teacher(vit_weights: Path) -> ViT:
    return ViT("vit_tiny_patch16_224", checkpoint=str(vit_weights))


def trainer() -> pl.Trainer:
    return pl.Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        inference_mode=False,
    )


class Batches(pl.LightningDataModule):
    """The same few batches in every stage."""

    def __init__(self, batches: list[Any], class_names: list[str]) -> None:
        super().__init__()
        self.batches, self.class_names = batches, class_names

    def val_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.batches, batch_size=None)  # type: ignore[arg-type]


STUDENT_NAMES = [
    "student.pos_embed",
    "student.patch_embed.weight",
    "student.pre_norm.bias",
    "student.norm.weight",
    "student.layers.0.A_log",
    "student.layers.0.in_proj.weight",
    "student.layers.5.out_proj.weight",
]


def test_checkpoints_have_the_names_of_the_first_release(teacher: ViT) -> None:
    distillation = DistillationModule(teacher, student(), "embedding")
    other = CorruptionSettings(level="image")
    adapted = DistillationModule(teacher, LALE(), "embedding", other)
    instances = FineTuningModule(student(), heads.DenseMasks)
    instances.build(["ship"])
    pixels = SegmentationModule(LALE(), heads.LALEDecoder)
    pixels.build(NAMES)
    for task, count, names in (
        (distillation, 62, [*STUDENT_NAMES, "corruption.mask_token", "corruption.progress"]),
        (adapted, None, ["adapter.projection.weight", "adapter.projection.bias"]),
        (instances, 64, [*STUDENT_NAMES, "head.mix.weight", "head.mix.bias", "head.decode.weight", "head.decode.bias"]),
        (pixels, None, []),
    ):
        found = task.state_dict()
        assert found.keys() >= set(names)
        assert count in (None, len(found))
        assert {name.split(".")[0] for name in found} <= {"student", "head", "corruption", "adapter"}


class Plain(nn.Module):
    """A backbone without a base class, as timm builds them."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 4, 8, 8)

    class feature_info:
        @staticmethod
        def channels() -> list[int]:
            return [4]

        @staticmethod
        def reduction() -> list[int]:
            return [8]

    def forward(self, images: Tensor) -> list[Tensor]:
        return [self.patch(images)]


class Open(TeacherBase):
    """A teacher that nobody has frozen yet."""

    channels = {"map": 4, "logits": 3}  # noqa: RUF012
    reduction = {"map": 8, "logits": 8}  # noqa: RUF012
    class_names = NAMES

    def __init__(self) -> None:
        super().__init__()
        self.map, self.logits = nn.Conv2d(3, 4, 8, 8), nn.Conv2d(3, 3, 8, 8)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return {"map": self.map(images), "logits": self.logits(images)}


def test_a_task_freezes_its_teacher_and_holds_it_outside_of_its_modules() -> None:
    distil = partial(DistillationModule, target="map", corruption=CorruptionSettings(level="image"))
    segment = partial(SegmentationModule, head=heads.SegHead)
    for build in (distil, segment):
        source = Open().train()
        task: TaskBase = build(student=Plain(), teacher=source)
        assert task.train().teacher is source
        assert not source.training
        assert not any(parameter.requires_grad for parameter in source.parameters())
        assert not {id(parameter) for parameter in source.parameters()} & {id(p) for p in task.parameters()}
        with pytest.raises(UserError, match=r"model\.teacher is Linear, which is no TeacherBase"):
            build(student=Plain(), teacher=nn.Linear(2, 2))
    assert FineTuningModule(Plain(), heads.DenseMasks).teacher is None


def test_a_head_of_the_other_task_is_refused() -> None:
    with pytest.raises(UserError, match=r"model\.head is SegHead, which is no HeadBase, as FineTuningModule needs"):
        FineTuningModule(Plain(), heads.SegHead).build(["ship"])
    with pytest.raises(UserError, match=r"model\.head is DenseMasks, which is no DecoderBase, as SegmentationModule"):
        SegmentationModule(Plain(), heads.DenseMasks).build(NAMES)


def test_what_a_component_must_say_is_asked_for_on_one_line() -> None:
    class Silent(StudentBase):
        pass

    class Mute(TeacherBase):
        reduction = {"map": 8}  # noqa: RUF012

    with pytest.raises(UserError, match=r"Silent has no feature_info, which distill\.contracts\.StudentBase declares;"):
        FineTuningModule(Silent(), heads.DenseMasks)
    with pytest.raises(
        UserError, match=r"Mute has no channels, which distill\.contracts\.TeacherBase declares; set it"
    ):
        SegmentationModule(Plain(), heads.SegHead, teacher=Mute())


@pytest.mark.parametrize("standardize", [False, True])
def test_distillation_predicts_what_it_validates(teacher: ViT, standardize: bool) -> None:
    task = DistillationModule(teacher, student(), "embedding", loss=LossSettings(standardize=standardize))
    batches = [{"image": torch.rand(2, 3, 64, 96)} for _ in range(2)]
    task.match.statistics = TargetStatistics.of([teacher(batches[0]["image"])["embedding"]], 2)
    assert task.scores() == {}
    runner = trainer()
    runner.validate(task, datamodule=Batches(batches, []), verbose=False)
    scores = task.scores()
    assert scores == {key.removeprefix("val/"): float(value) for key, value in runner.callback_metrics.items()}
    maps: Any = runner.predict(task, DataLoader(batches, batch_size=None))  # type: ignore[arg-type]
    with torch.no_grad():
        targets = [task.match.target(task.raw_target(batch)) for batch in batches]
    assert torch.stack([l1(*pair).mean() for pair in zip(maps, targets, strict=True)]).mean() == scores["l1"]
    apart = torch.stack([cosine(*pair).mean() for pair in zip(maps, targets, strict=True)]).mean()
    assert 1 - float(apart) == pytest.approx(scores["cosine"], abs=1e-6)
    assert task.evaluation is None


class Halves(HeadBase):
    """Finds an object in the left half of every image file, as sure as the features are large."""

    def __init__(self, feature_info: Any, class_names: list[str]) -> None:
        super().__init__()

    def predict(self, features: list[Tensor], targets: list[Target]) -> list[Prediction]:
        found = []
        for maps, target in zip(features[-1], targets, strict=True):
            height, width = target.original_size
            mask = torch.zeros(1, height, width, dtype=torch.bool)
            mask[..., : width // 2] = True
            box = torch.tensor([[0.0, 0.0, width // 2, height]])
            score = maps.abs().mean().sigmoid()[None]
            found.append(Prediction(target.image_id, box, score, torch.zeros(1, dtype=torch.int64), mask))
        return found


def test_instances_predict_what_they_validate(scenes: Path) -> None:
    files = [str(scenes / split / name) for split in ("train", "test") for name in ("images", "annotations.json")]
    data = CocoInstances(*files, image_size=64, batch_size=2, num_workers=0, seed=0)
    task = FineTuningModule(student(), Halves, max_detections=10)
    assert task.scores() == {}
    runner = trainer()
    runner.validate(task, datamodule=data, verbose=False)
    found, scores = task.evaluation, task.scores()
    assert isinstance(found, InstanceEvaluation)
    assert len(found.evaluator.results()) == 4
    predictions: Any = runner.predict(task, data.val_dataloader())
    again = type(found.evaluator)(data.ground_truth("val"), data.class_names, 10, ("box", "mask"))
    for batch in predictions:
        again.update(batch)
    assert again.results() == found.evaluator.results()
    assert scores.keys() == again.compute().keys()
    assert scores["mask/AP"] == again.compute()["mask/AP"] == found.scores["mask"].summary()["AP"]


def test_segmentation_predicts_what_it_validates() -> None:
    torch.manual_seed(0)
    batches = [
        [
            {"image": torch.rand(count, 3, 32, 40), "label": torch.randint(3, (count, *size)).to(torch.uint8)}
            for count, size in ((2, (64, 80)), (1, (50, 70)))
        ]
        for _ in range(2)
    ]
    task = SegmentationModule(LALE(), heads.LALEDecoder)
    runner = trainer()
    runner.validate(task, datamodule=Batches(batches, NAMES), verbose=False)
    again = PixelConfusion(NAMES)
    maps: Any = runner.predict(task, DataLoader(batches, batch_size=None))  # type: ignore[arg-type]
    for batch, found in zip(batches, maps, strict=True):
        for part, classes in zip(batch, found, strict=True):
            again.update(classes, part["label"])
    assert isinstance(task.evaluation, PixelConfusion)
    assert torch.equal(again.counts, task.evaluation.counts)
    assert task.scores()["mIoU"] == again.summary()["mIoU"]
    unlabelled = task.eval().predict_step({"image": batches[0][0]["image"]}, 0)
    assert unlabelled.shape == (2, 32, 40)
