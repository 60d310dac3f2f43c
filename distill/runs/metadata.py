"""What a run is made of and what its student costs, as dashboards and cards compare it."""

import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from distill.evaluation.cost import cost

PACKAGES = (
    "distill-rs",
    "torch",
    "torchvision",
    "timm",
    "pytorch-lightning",
    "mmdet",
    "mmengine",
    "mmcv-lite",
    "numpy",
)


def environment() -> dict[str, Any]:
    """Versions and hardware that a run's numbers depend on."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": cpu_name(),
        "threads": torch.get_num_threads(),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "versions": {package: _version(package) for package in PACKAGES},
    }


def cpu_name() -> str:
    """The processor's marketing name where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def components(task: Any, data: pl.LightningDataModule, image_size: int) -> dict[str, Any]:
    """What a run is made of: student, teacher, head, data (labels) and the recipe's image size."""
    facts: dict[str, Any] = {"student": task.student.label, "data": type(data).__name__, "image_size": image_size}
    if task.teacher is not None:
        facts |= {"teacher": task.teacher.label, "teacher_digest": task.teacher.digest}
    if task.head is not None:
        facts["head"] = task.head.label
    return facts


def run_facts(task: Any, data: pl.LightningDataModule, image_size: int) -> dict[str, Any]:
    """The `components`, and the student's cost at the recipe's image size.

    Returns:
        The components, and params, executed macs and cpu_ms of the student for one image.
    """
    spent = cost(task.student, image_size)
    costs = {"params": spent.params, "macs": spent.macs, "cpu_ms": round(spent.latency_ms, 1)}
    return components(task, data, image_size) | costs


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
