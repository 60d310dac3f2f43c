"""A run as it is compared: its scores, how they were taken, and what it is folded by."""

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from distill.report.run_record import RunRecord
from distill.runs.differences import settled
from distill.runs.folder import RunFolder, RunState
from distill.runs.moved import is_path

_WEIGHTS = ("student", "teacher")  # components of `model` with a file of weights
_ORIGINS = ("checkpoint", "pretrained")  # their arguments that say where the weights come from
_NO_SETTINGS = ("step", "images", "image_set", "spread", "split")  # facts of a scoring that are not its settings


@dataclass(frozen=True)
class ComparedRun:
    """A run with the scores of one stage.

    Attributes:
        record: The run.
        stage: "test" or "validate".
        scores: Metrics without the name of the split; empty for a run that has not been scored.
        facts: What exactly was scored.
    """

    record: RunRecord
    stage: str
    scores: dict[str, float | None]
    facts: dict[str, Any]

    @classmethod
    def of(cls, record: RunRecord, stage: str | None) -> "ComparedRun":
        """Reads the scores of a run.

        Args:
            record: The run.
            stage: "test" or "validate"; None for what the run's task is scored by. A distillation is always validated.
        """
        stage = record.stage if stage is None or record.task == "distillation" else stage
        facts = record.folder.read_facts(stage)
        if stage == "validate" and not record.folder.scores(stage).is_file():  # the validation at the end of the fit
            images = record.facts.get("val_image_set")
            facts = {"checkpoint": record.folder.LAST} | ({} if images is None else {"image_set": images})
        return cls(record, stage, record.scores(stage), facts)

    @property
    def path(self) -> str:
        """The run folder as it was given."""
        return str(self.record.folder)

    @property
    def seed(self) -> int:
        """Seed of the run."""
        return self.record.seed

    @property
    def image_size(self) -> int | None:
        """Side of its images, in pixels."""
        given = self.record.facts.get("image_size") or self._data.get("image_size")
        return given if isinstance(given, int) else None

    @property
    def settings(self) -> dict[str, Any]:
        """Settings that its scores depend on beside the recipe and the images, as far as they are known."""
        return {key: value for key, value in self.facts.items() if key not in _NO_SETTINGS}

    def spread(self, key: str) -> float | None:
        """The standard deviation of a score over draws of the labels within the run, where there is one."""
        found = self.facts.get("spread", {}).get(key)
        return None if found is None else float(found)

    @cached_property
    def recipe(self) -> dict[str, Any]:
        """Values of the recipe by dotted keys, without seed, the run's own settings and files of weights."""
        return settled_but_weights(self.record.recipe)

    @property
    def kind(self) -> str:
        """The key that is equal for runs that differ only in their seed."""
        record = self.record
        own = [record.task, record.reference, record.init, self.recipe, self._origins]
        return json.dumps(own, sort_keys=True, default=str)

    @property
    def architecture(self) -> str:
        """The key that the costs of its student depend on."""
        student = self.record.component("student")
        given = {key: value for key, value in (student.get("init_args") or {}).items() if key not in _ORIGINS}
        return json.dumps([student.get("class_path"), given, self.image_size], sort_keys=True, default=str)

    @property
    def scored_place(self) -> str:
        """Where its recipe finds the images that are scored; stands for them where they are not recorded."""
        split = "test_" if self.stage == "test" else "val_"
        paths = {key: value for key, value in self._data.items() if is_path(key) and value}
        paths = {key: value for key, value in paths.items() if key.startswith(split)} or paths
        return json.dumps([self.record.recipe["data"].get("class_path"), paths], sort_keys=True, default=str)

    @property
    def way_to_scores(self) -> str:
        """Why there are no scores, and the command that makes them."""
        if self.record.finished:
            return f"not scored yet; run `distill {self.stage} {shlex.quote(self.path)}`"
        return self.way_to_finish

    @property
    def way_to_finish(self) -> str:
        """How to finish a run that has not come to its end."""
        folder = self.record.folder
        resume = " --ckpt_path last" if folder.state is RunState.INTERRUPTED else ""
        return f"the run has not finished; continue it with `distill fit {shlex.quote(str(folder.recipe))}{resume}`"

    @property
    def _data(self) -> dict[str, Any]:
        return dict(self.record.recipe["data"].get("init_args") or {})

    @property
    def _origins(self) -> list[Any]:
        """What is known of where its initial weights came from, apart from seeds and places."""
        return [_origin(path) for key in _WEIGHTS if (path := self.record.weights_file(key)) is not None]


def settled_but_weights(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Values of a recipe by dotted keys, without seed, the run's own settings and files of weights."""
    weights = [f"model.init_args.{part}.init_args.{key}" for part in _WEIGHTS for key in _ORIGINS]
    return {key: value for key, value in settled(recipe).items() if key not in weights}


def _origin(weights: Path) -> str | None:
    """The recipe of the run that made a file of weights; else the file's name, if that says anything."""
    run = RunFolder(weights.parent)
    if run.student.name == weights.name and run.recipe.is_file():
        return json.dumps(settled_but_weights(run.read_recipe()), sort_keys=True, default=str)
    return None if weights.name == run.student.name else weights.name
