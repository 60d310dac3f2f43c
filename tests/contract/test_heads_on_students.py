"""Heads on students: a training step and what comes out, on real aerial images, or on drawn ones."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from distill.contracts import DecoderBase, Target
from distill.data import NWPU, CocoInstances
from distill.data.coco import collate
from tests.contract.cases import HEADS, STUDENTS, Case, assert_reached, build_head, build_student

NWPU_ROOT = Path(__file__).parents[2] / "../shared/data/nwpu"
SIDE = 128
# One head of each way to read maps is tried on every student: through MMDetection's neck, the last map alone, the last
# three, all of them. The others read in one of these ways, and are tried on a student of one, of two and of four maps.
ON_ALL = ["MaskRCNN", "DenseMasks", "SegHead", "LALEDecoder"]
ON_SOME = ["RS4D", "EfficientViT, two maps, half precision", "convolutions of timm"]
# Student, how much of it is frozen, and head. Freezing is tried on a student that offers it and on one that does not.
COMBINATIONS = [(name, "nothing", head) for head in HEADS for name in (STUDENTS if head in ON_ALL else ON_SOME)]
COMBINATIONS += [("RS4D", "half", head) for head in ("CascadeMaskRCNN", "LALEDecoder")]
COMBINATIONS += [("RS4D", "all", head) for head in ("MaskRCNN", "UPerNet")]
COMBINATIONS += [
    ("convolutions of timm", "half", head) for head in ("RSPrompter", "SegHead", "DenseMasks", "FPNDecoder")
]
# As recipes name them: what docs/heads.md says of students is tried on these in training mode.
NAMED = {
    "RS4D": STUDENTS["RS4D"],
    "ResNet-18": Case("TimmStudent", {"name": "resnet18", "out_indices": [1, 2, 3, 4]}),
    "EfficientViT-B0": Case("TimmStudent", {"name": "efficientvit_b0"}),
}
TWO_STAGE = ["MaskRCNN", "CascadeMaskRCNN", "RSPrompter"]
# Every student with every head once, and half of each of them frozen in turn.
IN_TRAINING = [
    (name, ("nothing", "half")[(row + column) % 2], head)
    for row, name in enumerate(NAMED)
    for column, head in enumerate(TWO_STAGE)
]


@pytest.fixture(scope="module")
def batch(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], list[str]]:
    """Two training images with objects of several classes, and the class names."""
    settings: dict[str, Any] = {"image_size": SIDE, "batch_size": 2, "num_workers": 0, "seed": 0}
    if NWPU_ROOT.is_dir():
        data: CocoInstances = NWPU(root=str(NWPU_ROOT), **settings)
    else:
        from distill.synthetic.scenes import write_scenes

        root = tmp_path_factory.mktemp("scenes")
        write_scenes(root, "train", 4, SIDE, seed=0)
        images, annotations = str(root / "train/images"), str(root / "train/annotations.json")
        data = CocoInstances(images, annotations, images, annotations, **settings)
    views = data.dataset("train")
    samples = [views[index] for index in range(min(len(views), 40))]
    samples.sort(key=lambda sample: len(sample[1].labels.unique()), reverse=True)
    return collate(samples[:2]), data.class_names


def frozen(name: str, part: str) -> nn.Module:
    """A student of which a part is frozen."""
    case = (STUDENTS | NAMED)[name]
    if case.name == "RS4D":
        return build_student(case, frozen_layers={"nothing": 0, "half": 3, "all": 6}[part])
    student = build_student(case)
    parameters = list(student.parameters())
    for parameter in parameters[: 0 if part == "nothing" else len(parameters) // 2]:
        parameter.requires_grad_(False)
    return student


def semantic(targets: list[Target]) -> Tensor:
    """The class of every pixel, (B, H, W): that of the last instance that covers it, of none the first class."""
    truth = torch.zeros(len(targets), *targets[0].masks.shape[-2:], dtype=torch.int64)
    for plane, target in zip(truth, targets, strict=True):
        for mask, label in zip(target.masks, target.labels, strict=True):
            plane[mask] = label
    return truth


def loss_of(head: Any, maps: list[Tensor], targets: list[Target]) -> Tensor:
    if isinstance(head, DecoderBase):
        logits = F.interpolate(head(maps), (SIDE, SIDE), mode="bilinear")
        return F.cross_entropy(logits, semantic(targets))
    losses = head.loss(maps, targets)
    assert all(torch.isfinite(loss) and loss > 0 for loss in losses.values())
    return torch.stack(list(losses.values())).sum()


@pytest.mark.parametrize(("name", "part", "head_name"), COMBINATIONS)
def test_trains_and_predicts(name: str, part: str, head_name: str, batch: tuple[dict[str, Any], list[str]]) -> None:
    samples, class_names = batch
    head_case = HEADS[head_name]
    student = frozen(name, part)
    head: Any = build_head(head_case, student.feature_info, class_names=class_names)
    before = {key: tensor.clone() for key, tensor in student.named_parameters()}
    loss_of(head, student(samples["image"]), samples["targets"]).backward()
    unread = _unread(STUDENTS[name], head_case, student)
    assert_reached(head)
    assert_reached(student, but=unread)
    torch.optim.AdamW([*student.parameters(), *head.parameters()], lr=1e-4).step()
    for key, parameter in student.named_parameters():
        assert torch.equal(parameter, before[key]) == (not parameter.requires_grad or key in unread), key
    assert (part != "nothing") == any(not parameter.requires_grad for parameter in student.parameters())

    with torch.no_grad():
        maps = student(samples["image"])
    if isinstance(head, DecoderBase):
        assert head(maps).shape[:2] == (2, len(class_names))
        return
    for found, target in zip(head.predict(maps, samples["targets"]), samples["targets"], strict=True):
        height, width = target.original_size
        assert head_case.name == "DenseMasks" or len(found.scores) > 0
        assert found.masks.shape == (len(found.scores), height, width)
        assert (found.boxes >= 0).all()
        assert (found.boxes <= torch.tensor([width, height, width, height])).all()


@pytest.mark.parametrize(("name", "part", "head_name"), IN_TRAINING)
def test_detectors_train_in_training_mode(
    name: str, part: str, head_name: str, batch: tuple[dict[str, Any], list[str]]
) -> None:
    """Two steps, since timm starts residual branches of ResNets at zero: behind a zero nothing is learned at first."""
    samples, class_names = batch
    student = frozen(name, part).train()
    head: Any = build_head(HEADS[head_name], student.feature_info, class_names=class_names).train()
    model = nn.ModuleList([student, head])
    before = {key: parameter.detach().clone() for key, parameter in model.named_parameters()}
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0)  # moves what has a gradient alone
    for _ in range(2):
        optimizer.zero_grad()
        loss_of(head, student(samples["image"]), samples["targets"]).backward()
        assert_reached(model)
        optimizer.step()
    for key, parameter in model.named_parameters():
        assert torch.equal(parameter, before[key]) != parameter.requires_grad, key
        assert parameter.isfinite().all(), key
    assert (part == "half") == any(not parameter.requires_grad for parameter in student.parameters())

    with torch.no_grad():
        found = head.eval().predict(student.eval()(samples["image"]), samples["targets"])
    for prediction, target in zip(found, samples["targets"], strict=True):
        assert len(prediction.scores) > 0
        assert prediction.boxes.isfinite().all()
        assert prediction.masks.shape[1:] == target.original_size


def _unread(student_case: Case, head_case: Case, student: nn.Module) -> set[str]:
    """Parameters that lie behind maps alone which the head does not read."""
    prefixes = student_case.of_one_map[: -head_case.reads] if head_case.reads else ()
    return {name for name, _ in student.named_parameters() if name.startswith(prefixes)} if prefixes else set()
