"""A training step reads nothing back from the device.

The device is PyTorch's "meta": its tensors have no values, so that whatever reads one, or makes a shape of values,
fails.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from torch.overrides import TorchFunctionMode

import heads
from distill import EMA
from distill.contracts import Target
from distill.targets.cache.folder import CacheFolder, StoredTarget
from distill.targets.cache.reader import MISSED
from distill.targets.cache.teacher import CachedTeacher
from distill.tasks.corruption import CorruptionSettings
from distill.tasks.distillation import DistillationModule
from distill.tasks.instances import FineTuningModule
from distill.tasks.losses.features import TERMS as distillation_terms
from distill.tasks.losses.features import LossSettings
from distill.tasks.losses.schedule import Schedule
from distill.tasks.losses.segmentation import TERMS, SegmentationLossSettings
from distill.tasks.masked_autoencoding import DecoderSettings, MaskedAutoencodingModule
from distill.tasks.matching.baseline import TargetStatistics
from distill.tasks.matching.settings import TargetSettings
from distill.tasks.segmentation import SegmentationModule
from heads.mmdet.mmcv_ops import ensure_mmcv_ops
from heads.mmdet.records import proposal_record, region_record
from students import LALE, RS4D, EfficientViT, TimmStudent
from teachers import ViT
from tests.targets.cache.caching import info

NAMES = ["ship", "plane", "tank"]
GUIDED: dict[str, Any] = {"mask_shape": "block", "guide": "high", "noise_scale": "signal", "sigma": (0.5, 1.5)}
SIDE = 64


@pytest.fixture
def batch() -> dict[str, Any]:
    """As it comes to the device: targets with one object of each kind, and a region to ignore."""
    masks = torch.zeros(3, SIDE, SIDE, dtype=torch.bool)
    masks[:, 8:40, 16:56] = True
    boxes = torch.tensor([[16.0, 8.0, 56.0, 40.0]]).repeat(3, 1)
    crowd = torch.tensor([False, True, False])
    target = Target(1, boxes, torch.tensor([0, 0, 2]), masks, crowd, (SIDE, SIDE), (SIDE, SIDE))
    images = torch.rand(2, 3, SIDE, SIDE, device="meta")
    return {
        "image": images,
        "targets": [target.to("meta")] * 2,
        "label": torch.zeros(2, SIDE, SIDE, device="meta").long(),
    }


class NoCopies(TorchFunctionMode):
    """Refuses tensors that are made of numbers of the host: the copy to the device is waited for."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert func not in (torch.tensor, torch.as_tensor, torch.from_numpy, Tensor.new_tensor), func
        return func(*args, **(kwargs or {}))


def step(task: Any, batch: dict[str, Any]) -> None:
    """A training step on the device; what it logs must be there, too."""

    def log(values: dict[str, Tensor], **_: object) -> None:
        assert all(value.device.type == "meta" for value in values.values())

    task.log_dict, task.log = log, lambda name, value, **rest: log({name: value}, **rest)
    task.train().to("meta")
    with NoCopies():
        task.training_step(batch, 0).backward()


@pytest.mark.parametrize("control", ["fixed", "adaptive", "plateau"])
@pytest.mark.parametrize("standardize", [False, True])
@pytest.mark.parametrize(
    ("student", "level"),
    [(partial(RS4D, "tiny", SIDE, 8), "token"), (partial(LALE), "token"), (partial(EfficientViT), "image")],
)
def test_distillation(
    student: Callable[[], nn.Module],
    level: str,
    standardize: bool,
    control: str,
    vit_weights: Any,
    batch: dict[str, Any],
) -> None:
    teacher = ViT("vit_tiny_patch16_224", checkpoint=str(vit_weights))
    guided = GUIDED if control == "plateau" else {}
    corruption = CorruptionSettings(noise=0.2, mask=0.2, level=level, control=control, steps=9, **guided)
    losses = LossSettings({"l1": 1.0, "l2": 1.0, "cosine": 1.0}, corrupted_weight=2.0, standardize=standardize)
    task = DistillationModule(teacher, student(), "embedding", corruption, losses)
    teacher.to("meta")
    maps = torch.rand(4, 192, 8, 8)
    task.match.statistics = TargetStatistics.of([maps], 4).to(torch.device("meta"))
    step(task, batch)
    assert all(p.grad is not None for p in task.parameters() if p.requires_grad)


def test_distillation_of_several_targets(vit_weights: Any, batch: dict[str, Any]) -> None:
    """With every term, weights that change, and a resized view of the teacher."""
    teacher = ViT("vit_tiny_patch16_224", checkpoint=str(vit_weights))
    losses = LossSettings(
        dict.fromkeys(distillation_terms, Schedule(1.0, 0.5, 4)), standardize="phi_s", relation_tokens=16
    )
    further = TargetSettings("embedding", tap=0, loss=losses, weight=Schedule(0.0, 1.0, 4), image_size=96)
    task = DistillationModule(teacher, RS4D("tiny", SIDE, 8), "embedding", loss=losses, targets=[further])
    teacher.to("meta")
    for match in task.matches:
        match.calibrate([torch.rand(4, 192, 8, 8)], 4)
        match.place(torch.device("meta"))
    step(task, batch)
    assert all(p.grad is not None for p in task.parameters() if p.requires_grad)


@pytest.mark.parametrize("missed", [["", ""], ["", "image.png"]])
def test_distillation_on_stored_targets_of_which_some_are_missed(
    vit_weights: Any, tmp_path: Path, batch: dict[str, Any], missed: list[str]
) -> None:
    teacher = ViT("vit_tiny_patch16_224", checkpoint=str(vit_weights))
    known = {"class": "teachers.ViT", "label": "ViT", "digest": teacher.digest, "precision": "float32"}
    CacheFolder(tmp_path).write(info(targets={"embedding": StoredTarget((192, 8, 8), 8)}, teacher=known))
    stand_in = CachedTeacher(str(tmp_path))
    stand_in.build_teacher = lambda: teacher
    task = DistillationModule(stand_in, RS4D("tiny", SIDE, 8), "embedding")
    task.match.calibrate([torch.rand(4, 192, 8, 8)], 4)
    task.match.place(torch.device("meta"))
    stored = {"embedding": {"values": torch.rand(2, 192, 8, 8, device="meta")}}
    teacher.to("meta")
    step(task, batch | {"target": stored, MISSED: missed})


def test_masked_autoencoding(batch: dict[str, Any]) -> None:
    options = {"img_size": SIDE, "patch_size": 8, "depth": 1, "dynamic_img_size": True}
    student = TimmStudent("vit_tiny_patch16_224", out_indices=[0], options=options)
    task = MaskedAutoencodingModule(student, decoder=DecoderSettings(channels=16, depth=1, heads=2))
    step(task, batch)
    assert all(p.grad is not None for p in task.parameters() if p.requires_grad)


def test_dense_masks(batch: dict[str, Any]) -> None:
    task = FineTuningModule(RS4D("tiny", SIDE, 8), heads.DenseMasks)
    task.build(NAMES)
    step(task, batch)


@pytest.mark.parametrize("weights", [None, [1.0, 2.0, 0.5]])
def test_segmentation(weights: list[float] | None, batch: dict[str, Any]) -> None:
    loss = SegmentationLossSettings(dict.fromkeys(TERMS, 1.0), class_weights=weights)
    task = SegmentationModule(LALE(), heads.LALEDecoder, loss=loss)
    task.build(NAMES)
    step(task, batch)


def test_records_of_mmdetection(batch: dict[str, Any]) -> None:
    """Masks stay in host memory, where MMDetection crops them."""
    ensure_mmcv_ops()
    for target in batch["targets"]:
        assert target.masks.device.type == target.crowd.device.type == "cpu"
        record = region_record(target, (SIDE, SIDE))
        assert record.gt_instances.masks.masks.sum() == 2 * 32 * 40
        assert len(record.gt_instances) == len(proposal_record(target, (SIDE, SIDE)).gt_instances) == 2
        assert len(record.ignored_instances) == 1
        assert record.gt_instances.bboxes.device.type == "meta"


def test_gradients_are_read_when_a_step_is_logged() -> None:
    task = FineTuningModule(RS4D("tiny", SIDE, 8), heads.DenseMasks).to("meta")
    trainer = SimpleNamespace(precision_plugin=None, global_step=0, log_every_n_steps=3, gradient_clip_val=1.0)
    object.__setattr__(task, "_trainer", trainer)
    optimizer = torch.optim.AdamW(task.parameters())
    for parameter in task.parameters():
        parameter.grad = torch.ones_like(parameter)
    for done in range(2):
        trainer.global_step = done
        task.configure_gradient_clipping(optimizer, 1.0, "norm")
    trainer.global_step = 2
    with pytest.raises((RuntimeError, NotImplementedError), match=r"meta|item"):
        task.configure_gradient_clipping(optimizer, 1.0, "norm")


def test_the_average_is_updated_without_a_look_at_the_device() -> None:
    model = FineTuningModule(RS4D("tiny", SIDE, 8), heads.DenseMasks)
    callback = EMA(0.99)
    callback._average_model = AveragedModel(model, use_buffers=False, **callback._kwargs)
    callback.on_fit_start(None, model.to("meta"))  # type: ignore[arg-type]
    for _ in range(3):
        callback._average_model.update_parameters(model)
    assert callback._average_model.n_averaged.device.type == "cpu"
    assert int(callback._average_model.n_averaged) == 3
