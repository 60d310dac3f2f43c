"""What a run is made of and what its student costs, in the words that dashboards and cards compare by."""

from typing import Any

import pytorch_lightning as pl

from distill.evaluation.cost import cost


def label(component: object) -> str:
    """Short name of a student, teacher or data module: its class, and the variant or name it was built with."""
    arguments = getattr(component, "init_args", {})
    detail = arguments.get("variant") or arguments.get("name") or getattr(component, "name", None)
    return f"{type(component).__name__} {detail}" if isinstance(detail, str) else type(component).__name__


def run_kind(module: Any, stage: str) -> str:
    """Type of a run, by its module or the module's class: "distil" (no labels), "fine-tune", or "test"."""
    if stage != "fit":
        return "test"
    return str(module.kind)


def components(module: Any, data: pl.LightningDataModule, image_size: int) -> dict[str, Any]:
    """What a run is made of: student, teacher, head, data (labels) and the recipe's image size."""
    facts: dict[str, Any] = {"student": label(module.student), "data": label(data), "image_size": image_size}
    if getattr(module, "teacher", None) is not None:
        facts |= {"teacher": label(module.teacher), "teacher_digest": module.teacher.digest}
    if getattr(module, "head", None) is not None:
        facts["head"] = label(module.head)
    return facts


def run_facts(module: Any, data: pl.LightningDataModule, image_size: int) -> dict[str, Any]:
    """The `components`, and the student's cost at the recipe's image size.

    Returns:
        The components, and params, executed macs and cpu_latency_ms of the student for one image.
    """
    spent = cost(module.student, image_size)
    costs = {"params": spent.params, "macs": spent.macs, "cpu_latency_ms": round(spent.latency_ms, 1)}
    return components(module, data, image_size) | costs
