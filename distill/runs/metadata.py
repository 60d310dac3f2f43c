"""Parts of a run and costs of its student, for dashboards and cards."""

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

from distill.contracts import TeacherBase
from distill.evaluation.cost import cost, count_macs_of_frozen
from distill.runs.initial_weights import initial_weights
from distill.runs.teacher_weights import weights_of_teacher
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
    """The parts of a run: task, student, teacher, head, data (labels) and the recipe's image size."""
    facts: dict[str, Any] = {"task": task.name, "student": task.student.label}
    if variant := task.student.init_args.get("variant"):
        facts["variant"] = variant
    facts |= {"data": type(data).__name__, "image_size": image_size}
    if task.teacher is not None:
        facts |= {"teacher": task.teacher.label, "teacher_digest": task.teacher.digest}
    if task.head is not None:
        facts["head"] = task.head.label
    return facts


def run_facts(task: Any, data: pl.LightningDataModule, image_size: int, model: Mapping[str, Any]) -> dict[str, Any]:
    """The facts before the first step: `components`, `initial_weights`, and costs at the recipe's image size.

    Args:
        task: The built task, on the CPU.
        data: The data module.
        image_size: Side of the views, in pixels.
        model: The arguments of the task in the recipe, which name student and teacher.

    Returns:
        The facts, among them the student's costs for one image by their names in `distill.evaluation.metrics.COSTS`,
        and in a distillation those of `teacher_costs`, with `teachers` in words where there are several.
    """
    spent = cost(task.student, image_size)
    costs: dict[str, Any] = {
        "params": spent.params,
        "macs": spent.macs,
        "cpu_ms": round(spent.cpu_ms, 2),
        "memory_mb": round(spent.memory_mb, 3),
    }
    if spent.gpu_ms is not None:
        costs["gpu_ms"] = round(spent.gpu_ms, 3)
    if isinstance(task, DistillationModule):
        if (teachers := all_teachers(task, image_size)) is not None:
            costs["teachers"] = teachers
        costs |= teacher_costs(task, image_size)
    facts = components(task, data, image_size) | initial_weights(model["student"])
    if task.teacher is not None:
        file = (model["teacher"].get("init_args") or {}).get("checkpoint")  # its name: the student's file is shared
        facts["teacher_weights"] = Path(file).name if file else weights_of_teacher(model["teacher"])
    return facts | costs


def teacher_costs(task: DistillationModule, image_size: int) -> dict[str, int]:
    """Parameters and multiply-adds of what makes the targets of one image.

    Returns:
        `teacher_params` and `teacher_macs`, of the main teacher and the view that it gets for the main target; and
        where there are further teachers or views, `teachers_params` and `teachers_macs`, of all teachers and of every
        pass that they make. Multiply-adds that cannot be counted are left out.
    """
    each: list[dict[str, int]] = []
    for teacher, views in _passes(task, image_size).items():
        if isinstance(teacher, CachedTeacher):
            each.append(teacher.info.costs)
            continue
        params = sum(p.numel() for p in teacher.parameters())
        own = {"teacher_params": params, "teachers_params": params}
        try:
            macs = [count_macs_of_frozen(teacher, size) for size, _ in views]
            own |= {"teacher_macs": macs[0], "teachers_macs": sum(macs)}
        except Exception as error:  # of a class of the user's own, which may do anything with the values of its tensors
            logger.warning("multiply-adds of the teacher are not counted: %s", " ".join(str(error).split()))
        each.append(own)
    main: dict[str, int] = {key: each[0][key] for key in ("teacher_params", "teacher_macs") if key in each[0]}
    if all_teachers(task, image_size) is None:
        return main
    kinds = [kind for kind in ("params", "macs") if all(f"teacher_{kind}" in own for own in each)]
    return main | {
        f"teachers_{kind}": sum(own.get(f"teachers_{kind}", own[f"teacher_{kind}"]) for own in each) for kind in kinds
    }


def all_teachers(task: DistillationModule, image_size: int) -> str | None:
    """The teachers that make the targets of one image, in words; None where it is one pass of one."""
    passes = _passes(task, image_size)
    if sum(map(len, passes.values())) == 1:
        return None
    return " + ".join(
        f"{teacher.label} ({len(views)} views)" if len(views) > 1 else teacher.label
        for teacher, views in passes.items()
    )


def _passes(task: DistillationModule, image_size: int) -> dict[TeacherBase, list[tuple[tuple[int, int], ...]]]:
    """The views (see `LiveTargets.views`) that each teacher sees of an image, once each; the main teacher's first."""
    found: dict[TeacherBase, list[tuple[tuple[int, int], ...]]] = {}
    for match in task.matches:
        views, view = found.setdefault(match.targets.teacher, []), match.targets.views(image_size, image_size)
        if view not in views:
            views.append(view)
    return found


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
