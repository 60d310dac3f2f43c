"""What a model card says of the licences of the weights that a run began with."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from distill.launch.origins import teacher_licences
from distill.runs.folder import RunFolder


def write(folder: Path, init_teacher: str | None = None, **arguments: Any) -> RunFolder:
    folder.mkdir(parents=True)
    model = {"class_path": "distill.DistillationModule", "init_args": arguments}
    (folder / "recipe.yaml").write_text(yaml.safe_dump({"model": model}))
    (folder / "summary.json").write_text(json.dumps({"steps": 1, "init_teacher": init_teacher}))
    return RunFolder(folder)


def teacher(kind: str, **arguments: Any) -> dict[str, Any]:
    return {"class_path": f"teachers.{kind}", "init_args": arguments}


@pytest.mark.parametrize(
    ("given", "label", "licence"),
    [
        (teacher("SAM", name="sam_vit_b", checkpoint=None), "SAM sam_vit_b", "apache-2.0, as timm states it"),
        (teacher("ViT", name="vit_small_patch16_dinov3"), "ViT vit_small_patch16_dinov3", "dinov3-license"),
        (teacher("CNN", name="resnet18.a1_in1k", pretrained=True), "CNN resnet18.a1_in1k", "apache-2.0"),
        (teacher("CNN", name="resnet18", pretrained=False), "CNN resnet18", "none needed; its weights were random"),
        (teacher("SAM", name="sam_vit_b", checkpoint="/home/me/sam.pth"), "SAM sam_vit_b", "a file, sam.pth: ask who"),
        (teacher("Segmenter", checkpoint="a/last.ckpt"), "Segmenter", "a file, last.ckpt: ask who"),
        ({"class_path": "mine.Teacher"}, "Teacher", "unknown; ask who published them"),
    ],
)  # fmt: skip
def test_of_a_distillation(tmp_path: Path, given: dict[str, Any], label: str, licence: str) -> None:
    found = teacher_licences(write(tmp_path / "run", teacher=given))
    assert found.keys() == {label}
    assert licence in found[label]
    assert "/home" not in found[label]


def test_further_teachers_and_those_of_the_run_before(tmp_path: Path) -> None:
    """Found by a path that starts where the run was started; without that folder only the name is known."""
    sam = teacher("SAM", name="sam_vit_b")
    further = [{"teacher": teacher("ViT", name="vit_tiny_patch16_224")}, {"feature": "block_3"}]
    before = write(tmp_path / "project" / "runs" / "distil", teacher=sam, targets=further)
    before.student.write_bytes(b"")
    student = {"class_path": "students.RS4D", "init_args": {"checkpoint": "runs/distil/student.safetensors"}}
    run = write(tmp_path / "project" / "runs" / "tuned", student=student, init_teacher="SAM sam_vit_b")
    run.environment.write_text(json.dumps({"started_in": str(tmp_path / "project")}))
    assert list(teacher_licences(run)) == ["SAM sam_vit_b", "ViT vit_tiny_patch16_224"]
    before.student.unlink()
    assert teacher_licences(run) == {"SAM sam_vit_b": "unknown; ask who published them"}
