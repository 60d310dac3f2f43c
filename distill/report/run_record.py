"""Reads a run folder for comparisons and dashboards, without PyTorch."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from distill.errors import UserError
from distill.evaluation.metrics import COSTS
from distill.runs.folder import RunFolder, RunState
from distill.runs.teacher_weights import RANDOM

# What people read of each task.
TASKS = {
    "distillation": "Distillation",
    "instances": "Instance segmentation",
    "segmentation": "Semantic segmentation",
}
# Of runs that earlier versions made, whose summary does not say the task.
_TASKS = {
    "DistillationModule": "distillation",
    "FineTuningModule": "instances",
    "SegmentationModule": "segmentation",
}


@dataclass(frozen=True)
class RunRecord:
    """The content of a run folder, read once.

    Attributes:
        folder: The run folder.
        recipe: The resolved recipe.
        facts: Facts of summary.json: components, costs, steps. Empty for a run that has not finished.
        validation: Metrics of the last validation during the fit, `val/...`.
        environment: Versions and hardware.
    """

    folder: RunFolder
    recipe: dict[str, Any]
    facts: dict[str, Any]
    validation: dict[str, float | None]
    environment: dict[str, Any]

    @classmethod
    def read(cls, folder: RunFolder) -> "RunRecord":
        """Reads a run folder.

        Raises:
            UserError: It is none, or one of its files cannot be read.
        """
        recipe = folder.read_recipe()
        lacking = [f"{key} with a class_path" for key in ("model", "data") if not _class_name(recipe.get(key))]
        lacking += ["seed_everything"] if "seed_everything" not in recipe else []
        if lacking:
            raise UserError(f"{folder.recipe} has no {', '.join(lacking)}; give folders that `distill fit` wrote")
        finished = folder.state is RunState.FINISHED
        facts, metrics = folder.read_summary() if finished else ({}, {})
        validation = {key: value for key, value in metrics.items() if key.startswith("val/")}
        return cls(folder, recipe, facts, validation, folder.read_environment())

    @property
    def finished(self) -> bool:
        """Whether the fit came to its end."""
        return bool(self.facts)

    @property
    def seed(self) -> int:
        """Seed of the run."""
        return int(self.recipe["seed_everything"])

    @cached_property
    def task(self) -> str:
        """One of `TASKS`; for a task of the user's own, the name of its class."""
        name = str(self.recipe["model"]["class_path"]).rpartition(".")[2]
        return str(self.facts.get("task") or _TASKS.get(name, name))

    @property
    def student(self) -> str:
        """Label of the student, such as "RS4D small"."""
        return str(self.facts.get("student") or _class_name(self.component("student")))

    @property
    def teacher(self) -> str | None:
        """Label of the teacher: the run's own, or the one that its student was distilled from; None where unknown.

        It says where the teacher's weights were random, from which nothing is learnt.
        """
        for key in ("teacher", "init_teacher"):
            if self.facts.get(key):
                untrained = self.facts.get(f"{key}_weights") == RANDOM
                return f"{self.facts[key]}{' with random weights' if untrained else ''}"
        return None

    @property
    def teachers(self) -> str | None:
        """Labels of all teachers of a distillation that has several, or that shows one several views."""
        return self.facts.get("teachers")

    @property
    def head(self) -> str | None:
        """Label of the head or decoder; None for a distillation."""
        part = self.component("head")
        return self.facts.get("head") or (_class_name(part) if part else None)

    @property
    def data(self) -> str:
        """Label of the data set."""
        return str(self.facts.get("data") or _class_name(self.recipe["data"]))

    @property
    def reference(self) -> str | None:
        """The name of a run that is a bound (`run.reference`); None for other runs."""
        return (self.recipe.get("run") or {}).get("reference")

    @property
    def init(self) -> str:
        """Where the student's weights came from: "scratch", "pretrained" or "distilled"."""
        if "init" in self.facts:
            return str(self.facts["init"])
        arguments = self.component("student").get("init_args") or {}
        if arguments.get("checkpoint"):
            return "distilled" if str(arguments["checkpoint"]).endswith(self.folder.student.name) else "pretrained"
        return "pretrained" if arguments.get("pretrained") else "scratch"

    @property
    def costs(self) -> dict[str, float]:
        """Costs by their names in `COSTS`, those that are known."""
        found = {key: float(self.facts[key]) for key in COSTS if self.facts.get(key) is not None}
        if self.folder.student.is_file():
            found["size_mb"] = self.folder.student.stat().st_size / 1e6
        return found

    @property
    def machine(self) -> dict[str, Any]:
        """The machine that the run's times depend on: processor, threads and GPUs."""
        return {key: self.environment[key] for key in ("cpu", "threads", "gpus") if key in self.environment}

    @property
    def stage(self) -> str:
        """How a run of its task is scored: "test", or "validate" for a distillation."""
        return "validate" if self.task == "distillation" else "test"

    def scores(self, stage: str) -> dict[str, float | None]:
        """Scores of a stage without the name of the split; empty for a run that has not been scored.

        A distillation that has not been validated by itself has the scores of its last validation.
        """
        if self.folder.scores(stage).is_file():
            found = self.folder.read_scores(stage)
        else:
            found = self.validation if stage == "validate" else {}
        return {key.partition("/")[2]: value for key, value in found.items()}

    def component(self, key: str) -> dict[str, Any]:
        """A component of `model` in the recipe; empty where there is none."""
        found = (self.recipe["model"].get("init_args") or {}).get(key)
        return dict(found) if isinstance(found, Mapping) else {}

    def weights_file(self, key: str) -> Path | None:
        """The file of weights that the recipe names for a component of `model`, as the run was started with it."""
        given = (self.component(key).get("init_args") or {}).get("checkpoint")
        if not given:
            return None
        return Path(self.environment.get("started_in", "")) / str(given)


def _class_name(component: object) -> str:
    return str(component.get("class_path", "")).rpartition(".")[2] if isinstance(component, Mapping) else ""
