"""Parts that define what their contract demands and nothing else, in every task: fit, validate, test, export, resume.

They live in a package of the user's, which recipes name by class path. So does a factory of a plain timm model.
"""

import copy
import json
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import numpy as np
import pytest
import timm
import torch
import yaml
from PIL import Image

from distill.cli import main
from distill.plain_student import PlainStudent, as_student
from distill.weights import load_student, read_metadata, read_state_dict

PARTS = """
import timm
import torch
from timm.models import FeatureInfo
from torch import nn
from torch.nn import functional as F

from distill.contracts import DecoderBase, HeadBase, Prediction, StudentBase, TeacherBase


class Student(StudentBase):
    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 8, 8, 8)
        self.feature_info = FeatureInfo([{"num_chs": 8, "reduction": 8, "module": "patch"}], (0,))

    def forward(self, images):
        return [self.patch(images)]


def plain() -> nn.Module:
    return timm.create_model("test_resnet", features_only=True, out_indices=(2,))


class Teacher(TeacherBase):
    def __init__(self, class_names: list[str] | None = None) -> None:
        super().__init__()
        self.class_names = class_names or []
        self.channels, self.reduction = {"map": 4, "logits": 2}, {"map": 8, "logits": 8}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.patch = nn.Conv2d(3, 6, 8, 8)

    def forward(self, images):
        maps = self.patch(images)
        return {"map": maps[:, :4], "logits": maps[:, 4:]}


class Head(HeadBase):
    def __init__(self, feature_info, class_names: list[str]) -> None:
        super().__init__()
        self.score = nn.Conv2d(feature_info.channels()[-1], 1, 1)

    def loss(self, features, targets):
        scores = F.interpolate(self.score(features[-1]), targets[0].masks.shape[-2:])[:, 0]
        wanted = torch.stack([target.masks[:].any(dim=0).float() for target in targets])
        return {"loss_mask": F.binary_cross_entropy_with_logits(scores, wanted)}

    def predict(self, features, targets):
        found = []
        for target in targets:
            height, width = target.original_size
            box = torch.tensor([[0.0, 0.0, width, height]])
            masks = torch.ones(1, height, width, dtype=torch.bool)
            found.append(Prediction(target.image_id, box, torch.ones(1), torch.zeros(1, dtype=torch.int64), masks))
        return found


class Decoder(DecoderBase):
    def __init__(self, feature_info, class_names: list[str]) -> None:
        super().__init__()
        self.stride = feature_info.reduction()[-1]
        self.classify = nn.Conv2d(feature_info.channels()[-1], len(class_names), 1)

    def forward(self, features):
        return self.classify(features[-1])
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a user's package, with the parts in it."""
    package = tmp_path / "code" / "bare_parts"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(PARTS, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path / "code")
    return package.name


def labels(root: Path) -> Path:
    """Four images of 32 px with masks of two classes."""
    rng = np.random.default_rng(0)
    for kind in ("images", "masks"):
        (root / "train" / kind).mkdir(parents=True)
    for number in range(4):
        mask = rng.integers(0, 2, (4, 4)).astype(np.uint8).repeat(8, 0).repeat(8, 1)
        Image.fromarray(np.stack([200 - 140 * mask] * 3, -1)).save(root / f"train/images/{number}.png")
        Image.fromarray(mask).save(root / f"train/masks/{number}.png")
    return root


def recipe(task: str, own: str, student: str, folder: Path, scenes: Path) -> dict[str, Any]:
    small = {"batch_size": 2, "num_workers": 0, "image_size": 32}
    images, annotations = str(scenes / "train/images"), str(scenes / "train/annotations.json")
    model: dict[str, Any] = {"student": {"class_path": f"{own}.{student}"}, "optim": {"warmup_steps": 1}}
    if task == "distil":
        class_path = "distill.DistillationModule"
        model |= {"teacher": {"class_path": f"{own}.Teacher"}, "target": "map", "corruption": {"level": "image"}}
        data = ("distill.data.ImageFolder", {"root": images, "val_root": images})
    elif task == "instances":
        class_path = "distill.FineTuningModule"
        model |= {"head": {"class_path": f"{own}.Head"}}
        files = {"train_images": images, "train_annotations": annotations}
        data = ("distill.data.CocoInstances", files | {"val_images": images, "val_annotations": annotations})
    else:
        class_path = "distill.SegmentationModule"
        names = {"light": 0, "dark": 1}
        teacher = {"class_path": f"{own}.Teacher", "init_args": {"class_names": list(names)}}
        model |= {"head": {"class_path": f"{own}.Decoder"}, "teacher": teacher}
        root = labels(folder / "labels")
        data = ("distill.data.SemanticFolder", {"root": str(root), "val": "train", "classes": names})
    trainer = {"max_steps": 2, "val_check_interval": 1, "limit_val_batches": 1, "accelerator": "cpu"}
    return {
        "model": {"class_path": class_path, "init_args": model},
        "data": {"class_path": data[0], "init_args": data[1] | small},
        "trainer": trainer | {"callbacks": [{"class_path": "distill.EMA"}]},
        "run": {"dir": str(folder / "run")},
    }


@pytest.mark.parametrize("task", ["distil", "instances", "segmentation"])
@pytest.mark.parametrize("student", ["Student", "plain"])
def test_runs(task: str, student: str, own: str, tmp_path: Path, scenes: Path) -> None:
    path, run = tmp_path / "bare.yaml", tmp_path / "run"
    path.write_text(yaml.safe_dump(recipe(task, own, student, tmp_path, scenes), sort_keys=False))
    assert main(["fit", str(path)]) == 0
    if task != "distil":
        assert main(["test", str(run)]) == 0
    assert main(["validate", str(run)]) == 0
    made = resolve_name(f"{own}.{student}")
    exported = load_student(run / "student.safetensors", made)
    assert type(exported) is type(made())
    assert json.loads(read_metadata(run / "student.safetensors")["init_args"]) == {}
    assert main(["fit", str(path), "--trainer.max_steps=3", f"--ckpt_path={run}/checkpoints/last.ckpt"]) == 0
    resumed = read_state_dict(run / "student.safetensors")
    assert resumed.keys() == exported.state_dict().keys()
    assert any(not torch.equal(resumed[name], tensor) for name, tensor in exported.state_dict().items())


@pytest.mark.parametrize("name", ["test_resnet", "test_vit"])  # the second has names that begin with `model.` itself
def test_a_plain_timm_model_keeps_its_names(name: str) -> None:
    torch.manual_seed(0)
    model, other = (timm.create_model(name, features_only=True).eval() for _ in range(2))
    student = as_student(model)
    assert isinstance(student, PlainStudent)
    copied = copy.deepcopy(student)  # as weight averaging does
    assert list(student.state_dict()) == list(copied.state_dict()) == list(other.state_dict())
    images = torch.randn(1, 3, 160, 160)
    copied.load_state_dict(other.state_dict(), strict=True)  # from the bare model
    other.load_state_dict(student.state_dict(), strict=True)  # and to it
    assert torch.equal(other(images)[-1], student(images)[-1])
    assert not torch.equal(copied(images)[-1], student(images)[-1])
    nested = torch.nn.ModuleDict({"student": student})
    assert {f"student.{key}" for key in model.state_dict()} == nested.state_dict().keys()
    nested.load_state_dict(torch.nn.ModuleDict({"student": copied}).state_dict(), strict=True)
    assert torch.equal(copied(images)[-1], student(images)[-1])
    assert (student.label, student.is_project_student) == (type(model).__name__, False)
    listed = {key.removeprefix("model.") for key in student.no_weight_decay()}
    assert bool(listed) == (name == "test_vit")
    assert listed <= {key for key, _ in model.named_parameters()}
