"""What a run is made of and what its student costs, as dashboards and cards compare it."""

import logging
import platform
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from distill.evaluation.cost import cost, count_macs_of_frozen
from distill.runs.initial_weights import initial_weights
from distill.targets.cache.teacher import CachedTeacher
from distill.tasks.distillation import DistillationModule

logger = logging.getLogger(__name__)

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


_GIT_SECONDS = 5  # after which a slow repository is done without


def environment() -> dict[str, Any]:
    """When and where a run is started: time (UTC), commit, and the versions and hardware that its numbers depend on."""
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        **git_commit(Path.cwd()),
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


def git_commit(folder: Path) -> dict[str, str]:
    """The fact `git`: the commit of a folder, with "-dirty" where tracked files differ from it.

    Nothing where the folder is in no repository, git is not installed, or the repository takes long to answer.
    """
    command = ["git", "--no-optional-locks", "describe", "--always", "--dirty", "--exclude=*"]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=_GIT_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):
        return {}
    return {"git": done.stdout.strip()}


def components(task: Any, data: pl.LightningDataModule, image_size: int) -> dict[str, Any]:
    """What a run is made of: task, student, teacher, head, data (labels) and the recipe's image size."""
    facts: dict[str, Any] = {"task": task.name, "student": task.student.label}
    if variant := task.student.init_args.get("variant"):
        facts["variant"] = variant
    facts |= {"data": type(data).__name__, "image_size": image_size}
    if task.teacher is not None:
        facts |= {"teacher": task.teacher.label, "teacher_digest": task.teacher.digest}
    if task.head is not None:
        facts["head"] = task.head.label
    return facts


def run_facts(task: Any, data: pl.LightningDataModule, image_size: int, student: Mapping[str, Any]) -> dict[str, Any]:
    """What a fit knows before its first step: `components`, `initial_weights`, and costs at the recipe's image size.

    Args:
        task: The built task, on the CPU.
        data: The data module.
        image_size: Side of the views, in pixels.
        student: The student's component in the recipe.

    Returns:
        The facts, among them the student's costs for one image by their names in `distill.evaluation.metrics.COSTS`,
        and in a distillation `teacher_params` and `teacher_macs`.
    """
    spent = cost(task.student, image_size)
    costs = {
        "params": spent.params,
        "macs": spent.macs,
        "cpu_ms": round(spent.cpu_ms, 2),
        "memory_mb": round(spent.memory_mb, 3),
    }
    if spent.gpu_ms is not None:
        costs["gpu_ms"] = round(spent.gpu_ms, 3)
    if isinstance(task, DistillationModule):
        costs |= teacher_costs(task, image_size)
    return components(task, data, image_size) | initial_weights(student) | costs


def teacher_costs(task: DistillationModule, image_size: int) -> dict[str, int]:
    """The teacher's parameters, and its multiply-adds for the view that it gets of one image."""
    teacher = task.teacher
    assert teacher is not None
    if isinstance(teacher, CachedTeacher):
        return teacher.info.costs
    costs = {"teacher_params": sum(p.numel() for p in teacher.parameters())}
    try:
        costs["teacher_macs"] = count_macs_of_frozen(teacher, task.match.targets.view_size(image_size, image_size))
    except Exception as error:  # of a class of the user's own, which may do anything with the values of its tensors
        logger.warning("multiply-adds of the teacher are not counted: %s", " ".join(str(error).split()))
    return costs


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
