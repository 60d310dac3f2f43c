"""The examples of docs/extending.md run as printed, are short, and keep the contracts once they lie in the packages."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from torchvision.models import resnet18

from distill import load_student
from distill.cli import main
from distill.weights import read_metadata

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## (.+?)\n(.+?)(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL))
PACKAGES = {"A student": "students", "A teacher": "teachers", "A head": "heads"}
NAMES = ("ConvStudent", "TorchvisionResNet", "PyramidProbe")


def block(section: str, language: str) -> str:
    (found,) = re.findall(rf"^```{language}\n(.+?)^```", SECTIONS[section], re.MULTILINE | re.DOTALL)
    return str(found)


def file_of(section: str) -> str:
    (name,) = set(re.findall(r"`(my_\w+\.py)`:", SECTIONS[section]))
    return str(name)


def merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`over` on top of `base`; a component replaces the one before it."""
    result = dict(base)
    for key, value in over.items():
        whole = not isinstance(value, dict) or "class_path" in value or not isinstance(base.get(key), dict)
        result[key] = value if whole else merged(base[key], value)
    return result


@pytest.fixture
def folder(tmp_path: Path, scenes: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the user works: labelled scenes and weights of the teacher lie there."""
    (tmp_path / "scenes").symlink_to(scenes)
    torch.save(resnet18().state_dict(), tmp_path / "resnet18.pth")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def segment_recipe(folder: Path) -> dict[str, Any]:
    for kind in ("images", "masks"):
        (folder / "labels" / "train" / kind).mkdir(parents=True)
    for number in range(4):
        mask = np.kron(np.eye(2, dtype=np.uint8), np.ones((32, 32), np.uint8))
        Image.fromarray(np.stack([200 - 140 * mask] * 3, -1)).save(folder / f"labels/train/images/{number}.png")
        Image.fromarray(mask).save(folder / f"labels/train/masks/{number}.png")
    student = {"class_path": "students.LALE", "init_args": {"variant": "S1"}}
    data = {"root": str(folder / "labels"), "val": "train", "classes": {"light": 0, "dark": 1}, "image_size": 64}
    return {
        "model": {"class_path": "distill.SegmentationModule", "init_args": {"student": student}},
        "data": {"class_path": "distill.data.SemanticFolder", "init_args": data | {"batch_size": 2, "num_workers": 0}},
        "trainer": {"accelerator": "cpu"},
        "run": {"dir": str(folder / "run")},
    }


@pytest.mark.parametrize("section", ["A student", "A teacher", "A head", "A data set"])
def test_an_example_runs(section: str, folder: Path, distill_recipe: Path, finetune_recipe: Path) -> None:
    code = block(section, "python")
    assert code.count("\n") < 60
    (folder / file_of(section)).write_text(code, encoding="utf-8")
    over = yaml.safe_load(block(section, "yaml"))
    path, *command = [word for word in shlex.split(block(section, "bash")) if not word.startswith("fit")]
    assert (path, command[0]) == ("PYTHONPATH=.", "distill")
    bases = {
        "distil.yaml": lambda: yaml.safe_load(distill_recipe.read_text()),
        "finetune.yaml": lambda: yaml.safe_load(finetune_recipe.read_text()),
        "segment.yaml": lambda: segment_recipe(folder),
    }
    recipe = merged(bases[command[1]](), over)
    recipe["model"]["init_args"].pop("corruption", None)  # as by default: a student may have no tokens to corrupt
    recipe["trainer"] |= {"max_steps": 2, "val_check_interval": 2, "limit_val_batches": 1}
    Path(command[1]).write_text(yaml.safe_dump(recipe, sort_keys=False), encoding="utf-8")
    assert main(["fit", *command[1:]]) == 0
    exported = folder / "run" / "student.safetensors"
    if section == "A student":
        from my_student import ConvStudent  # type: ignore[import-not-found]

        assert type(load_student(exported, ConvStudent)) is ConvStudent
        assert read_metadata(exported)["init_args"] == '{"width": 16}'
    else:
        load_student(exported)


@pytest.mark.slow
def test_a_file_moved_into_the_packages_is_found_and_keeps_the_contract(tmp_path: Path) -> None:
    """In a copy of the project, without any list to edit."""
    for package in ("distill", "students", "teachers", "heads", "recipes", "tests"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for section, package in PACKAGES.items():
        (tmp_path / package / file_of(section)).write_text(block(section, "python"), encoding="utf-8")
    files = [f"tests/contract/test_{name}.py" for name in ("registry", "students", "teachers", "heads")]
    chosen = " or ".join(NAMES)  # without compiling, which is slow
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-n", "0", "-vv", *files, "-k", f"({chosen}) and not compiles"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert all(f"[{name}" in done.stdout for name in NAMES), done.stdout
