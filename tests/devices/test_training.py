"""Everything that trains or predicts on a GPU, on a virtual one: a tensor that is left on the CPU fails here."""

import shutil
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import distill
import heads
import students
from distill.cli import main
from distill.data import CocoInstances
from distill.synthetic.scenes import write_scenes
from distill.tasks.distillation import DistillationModule
from tests.data.landcover import INDICES, write
from tests.small_recipes import fine_tuning
from tests.virtual_device import CUDA, VirtualDevice, WrongDevice

pytestmark = pytest.mark.xdist_group("devices")  # one worker: data and imports are shared

EMA = {"class_path": "distill.EMA", "init_args": {"decay": 0.9}}
RS4D = {"class_path": "students.RS4D", "init_args": {"variant": "tiny", "image_size": 64, "patch_size": 8}}
CNN = {"class_path": "students.TimmStudent", "init_args": {"name": "test_convnext"}}
OPTIM = {"lr": 1e-3, "warmup_steps": 1}


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("scenes")
    for split, count in (("train", 8), ("test", 4)):
        write_scenes(root, split, count, 64, seed=0)
    return root


@pytest.fixture(scope="module")
def land_cover(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("landcover"), colours=False)


def trainer(**changes: Any) -> dict[str, Any]:
    common = {
        "max_steps": 1,
        "val_check_interval": 1,
        "limit_val_batches": 1,
        "check_val_every_n_epoch": None,
        "log_every_n_steps": 1,
    }
    return common | {"log_every_n_steps": 1} | {"callbacks": [EMA]} | changes


def of_images(scenes: Path, **changes: Any) -> dict[str, Any]:
    settings = {
        "root": str(scenes / "train" / "images"),
        "val_root": str(scenes / "test" / "images"),
        "image_size": 64,
        "batch_size": 2,
        "num_workers": 0,
    }
    return {"class_path": "distill.data.ImageFolder", "init_args": settings | changes}


def distillation(scenes: Path, run: Path, student: dict[str, Any], data: dict[str, Any], **changes: Any) -> Any:
    teacher = {
        "class_path": "teachers.ViT",
        "init_args": {
            "name": "vit_tiny_patch16_224",
            "options": {"img_size": 64, "patch_size": 8, "embed_dim": 24, "depth": 1, "num_heads": 2},
            "pretrained": False,
        },
    }
    arguments = {"teacher": teacher, "student": student, "target": "embedding", "optim": OPTIM}
    return {
        "model": {
            "class_path": "distill.DistillationModule",
            "init_args": arguments | {"calibration_images": 4} | changes,
        },
        "data": of_images(scenes, **data),
        "trainer": trainer(),
        "run": {"dir": str(run)},
    }


def object_probe(scenes: Path) -> dict[str, Any]:
    settings = {
        "train_images": str(scenes / "train" / "images"),
        "train_annotations": str(scenes / "train" / "annotations.json"),
        "val_images": str(scenes / "test" / "images"),
        "val_annotations": str(scenes / "test" / "annotations.json"),
        "image_size": 64,
        "shots": None,
        "classes": ["ship"],
    }
    return {"class_path": "distill.ObjectProbe", "init_args": settings}


def test_distillation_from_two_teachers(gpu: VirtualDevice, scenes: Path, tmp_path: Path) -> None:
    """With corruption, further targets, probes, pictures, averaged weights, and a validation of the finished run."""
    other = {"class_path": "teachers.CNN", "init_args": {"name": "test_convnext", "stages": [3], "pretrained": False}}
    targets = [
        {"feature": "stage_3", "tap": 1, "teacher": other, "weight": 0.5},
        {"feature": "embedding", "tap": 0, "image_size": 96},
    ]
    run = distill.fit(
        distillation(
            scenes,
            tmp_path / "run",
            RS4D,
            {},
            corruption={"noise": 0.2, "mask": 0.2, "control": "adaptive"},
            loss={"terms": {"l1": 1.0, "cosine": 1.0, "gram": 0.5, "cka": 0.5, "mgd": 0.1}, "standardize": "phi_s"},
            targets=targets,
            probes=[object_probe(scenes)],
        )
    )
    assert distill.validate(run)["val/l1"] > 0


def test_distillation_from_stored_targets(gpu: VirtualDevice, scenes: Path, tmp_path: Path) -> None:
    """Of a student with batch norms, whose statistics are estimated again, and with corrupted pixels."""
    student = {"class_path": "students.LALE", "init_args": {}}
    corruption = {"level": "image", "noise": 0.1, "mask": 0.3, "mask_shape": "block", "guide": "high"}
    data = {"views": 1}
    images = shutil.copytree(scenes, tmp_path / "scenes")
    recipe = distillation(images, tmp_path / "run", student, data, corruption=corruption, target_dtype="int8")
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe))
    assert main(["cache", str(path), "--out", str(tmp_path / "cache"), "--verify"]) == 0
    changed = next((images / "train" / "images").iterdir())
    size = changed.stat().st_size
    Image.new("RGB", (64, 64)).save(changed)
    changed.write_bytes(changed.read_bytes().ljust(size, b"\0"))  # no longer what was stored
    cache = {"model.cache.root": str(tmp_path / "cache"), "model.cache.on_mismatch": "live"}
    distill.fit(str(path), **cache)


def test_masked_pretraining(gpu: VirtualDevice, scenes: Path, tmp_path: Path) -> None:
    options = {"img_size": 64, "patch_size": 8, "embed_dim": 24, "depth": 1, "num_heads": 2, "dynamic_img_size": True}
    student = {"name": "vit_tiny_patch16_224", "out_indices": [0], "options": options}
    model = {
        "class_path": "distill.MaskedAutoencodingModule",
        "init_args": {
            "student": {"class_path": "students.TimmStudent", "init_args": student},
            "decoder": {"channels": 16, "depth": 1, "heads": 2},
            "optim": OPTIM,
        },
    }
    run = distill.fit(
        {"model": model, "data": of_images(scenes), "trainer": trainer(), "run": {"dir": str(tmp_path / "run")}}
    )
    assert run.student.is_file()


def instances(scenes: Path, run: Path, name: str) -> dict[str, Any]:
    recipe = fine_tuning(scenes, run)
    lowest = {"threshold": 0.3} if name == "DenseMasks" else {"score_threshold": 0.0, "max_detections": 5}
    arguments = getattr(heads, name).smoke_args() | lowest
    head = {"class_path": f"heads.{name}", "init_args": arguments}
    recipe["model"]["init_args"] |= {"student": CNN, "optim": OPTIM, "head": head}
    recipe["data"]["init_args"] |= {
        part: str(scenes / "test" / path)
        for part, path in (("test_images", "images"), ("test_annotations", "annotations.json"))
    }
    return recipe | {"trainer": trainer()}


@pytest.mark.parametrize("name", ["MaskRCNN", "DenseMasks"])
def test_instances(gpu: VirtualDevice, scenes: Path, tmp_path: Path, name: str) -> None:
    """A fine-tuning with a validation and pictures, a test, and predictions."""
    run = distill.fit(instances(scenes, tmp_path / "run", name))
    if name == "MaskRCNN":
        distill.test(run)
    predict_all(run, scenes, tmp_path)


def test_land_cover(gpu: VirtualDevice, land_cover: Path, tmp_path: Path) -> None:
    """The same of pixels, and then of a student that learns the probabilities, too, and is scored by windows."""
    head = {"class_path": "heads.LALEDecoder", "init_args": heads.LALEDecoder.smoke_args()}
    loss = {"terms": {"cross_entropy": 1.0, "dice": 1.0, "ohem": 1.0}, "class_weights": [1.0, 2.0, 0.5]}
    model = {"student": CNN, "head": head, "optim": OPTIM, "loss": loss}
    data = {"root": str(land_cover), "classes": INDICES, "ignore": [255], "zoom": 4.0}
    data |= {"image_size": 64, "batch_size": 2, "num_workers": 0}
    recipe = {
        "model": {"class_path": "distill.SegmentationModule", "init_args": model},
        "data": {"class_path": "distill.data.SemanticFolder", "init_args": data},
        "trainer": trainer(),
        "run": {"dir": str(tmp_path / "run")},
    }
    run = distill.fit(recipe)
    predict_all(run, land_cover, tmp_path)
    teacher = {"backbone": CNN, "head": head, "checkpoint": str(run.checkpoints / "last.ckpt")}
    model |= {"teacher": {"class_path": "teachers.Segmenter", "init_args": teacher}, "window": 64, "stride": 32}
    distill.fit(recipe | {"run": {"dir": str(tmp_path / "student")}})


@pytest.mark.parametrize("name", ["CascadeMaskRCNN", "RSPrompter"])
def test_steps_of_other_heads(gpu: VirtualDevice, scenes: Path, name: str) -> None:
    head = partial(getattr(heads, name), **getattr(heads, name).smoke_args())
    task = distill.FineTuningModule(students.TimmStudent("test_convnext"), head)
    settings = instances(scenes, scenes, name)["data"]["init_args"]
    data = CocoInstances(**settings)
    data.setup("fit")
    task.build(data.class_names)
    task.to("cuda")
    batch = next(iter(data.train_dataloader()))
    batch = {"image": batch["image"].to("cuda"), "targets": [target.to("cuda") for target in batch["targets"]]}
    step(task, batch)
    assert len(task.eval().predict_step(batch, 0)) == len(batch["targets"])


@pytest.mark.parametrize("name", ["SegHead", "UPerNet", "FPNDecoder"])
def test_steps_of_other_decoders(gpu: VirtualDevice, name: str) -> None:
    decoder = partial(getattr(heads, name), **getattr(heads, name).smoke_args())
    task = distill.SegmentationModule(students.TimmStudent("test_convnext"), decoder)
    task.build(list(INDICES))
    task.to("cuda")
    images = torch.rand(2, 3, 64, 64, device="cuda")
    step(task, {"image": images, "label": torch.zeros(2, 64, 64, device="cuda").long()})
    assert task(images).device == CUDA


def step(task: Any, batch: dict[str, Any]) -> None:
    task.log_dict = task.log = lambda *args, **rest: None
    task.training_step(batch, 0).backward()
    assert {parameter.grad.device for parameter in task.parameters() if parameter.grad is not None} == {CUDA}


def predict_all(run: Any, images: Path, folder: Path) -> None:
    """A scene by tiles, and one image as an array."""
    image = next(images.glob("*/images/*.png"))
    distill.predict(run, [image], out=folder / "predicted", tile=48, overlap=8)
    distill.load(run).predict(np.asarray(Image.open(image)))


def test_a_teacher_that_is_left_on_the_cpu_is_seen(
    gpu: VirtualDevice, scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DistillationModule, "place_teacher", lambda self: None)
    with pytest.raises(WrongDevice, match="on cpu"):
        distill.fit(distillation(scenes, tmp_path / "run", CNN, {}))


def test_labels_and_buffers_that_are_left_on_the_cpu_are_seen(gpu: VirtualDevice) -> None:
    task = distill.SegmentationModule(students.TimmStudent("test_convnext"), heads.LALEDecoder)
    task.build(list(INDICES))
    task.to("cuda")
    batch = {"image": torch.rand(2, 3, 64, 64, device="cuda"), "label": torch.zeros(2, 64, 64).long()}
    with pytest.raises(WrongDevice, match="on cpu"):
        step(task, batch)
    task.normalize.mean = task.normalize.mean.cpu()
    with pytest.raises(WrongDevice, match=r"\(3, 1, 1\) on cpu"):
        task.features(batch["image"])
