"""Arrows point one way: recipes -> distill -> contracts <- students, teachers, heads."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
COMPONENTS = ("students", "teachers", "heads")
LEAVES = ("contracts", "discovery", "errors", "layers", "parameter_groups", "plain_student", "weights")
SHARED = tuple(f"distill.{leaf}" for leaf in LEAVES)
ALLOWED_OF_DISTILL = {
    "students": SHARED,
    "teachers": SHARED,
    "heads": (*SHARED, "distill.instance_masks", "distill.data.images"),  # what MMDetection is fed with
}
HOMES = {
    "heads": ("mmdet", "mmcv", "mmengine", "segmentation_models_pytorch"),
    "distill/report": ("wandb",),
    "distill/data": ("rasterio",),
    "distill/scene": ("shapely", "pyproj"),
    "students/scan": ("triton", "mamba_ssm", "causal_conv1d"),
}


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def wrong_arrows(path: str, imported: list[str]) -> list[str]:
    """Imports of the file at `path` (relative to the repository) that the design forbids."""
    package = path.split("/")[0]
    wrong = []
    for module in imported:
        top = module.split(".")[0]
        if package in COMPONENTS and top in COMPONENTS and top != package:
            wrong.append(f"{path} imports {module}: components never import each other")
        if package in COMPONENTS and top == "distill" and not module.startswith(ALLOWED_OF_DISTILL[package]):
            known = ", ".join(ALLOWED_OF_DISTILL[package])
            wrong.append(f"{path} imports {module}: of distill, {package} know {known}")
        if package == "distill" and top in COMPONENTS:
            wrong.append(f"{path} imports {module}: distill knows contracts, not components")
        for home, guests in HOMES.items():
            if top in guests and not path.startswith(home):
                wrong.append(f"{path} imports {module}: only {home}/ may")
    return wrong


@pytest.mark.parametrize("package", ["distill", *COMPONENTS])
def test_no_wrong_arrow(package: str) -> None:
    wrong = [
        message
        for path in sorted((ROOT / package).rglob("*.py"))
        for message in wrong_arrows(path.relative_to(ROOT).as_posix(), list(imports(path)))
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("path", "module"),
    [
        ("students/a.py", "teachers.sam"),
        ("heads/a.py", "distill.training.optim"),
        ("students/a.py", "distill.data.images"),
        ("distill/a.py", "students"),
        ("distill/a.py", "mmdet.registry"),
        ("distill/cli/a.py", "wandb"),
        ("students/rs4d.py", "triton"),
        ("students/timm_student.py", "segmentation_models_pytorch"),
    ],
)
def test_a_wrong_arrow_is_seen(path: str, module: str) -> None:
    assert wrong_arrows(path, [module])


def test_import_distill_is_cheap() -> None:
    code = (
        "import sys, distill, distill.cli; print([m for m in ('torch', 'timm', 'mmdet', 'wandb') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"
