"""Scores the probes of a distillation at its validations."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from distill.errors import UserError
from distill.tasks.probes.base import ProbeBase


class Probes:
    """Several probes of one student.

    All processes of a run compute alike, each on all images: nothing has to be gathered, under any strategy, and the
    scores that are logged are the mean of equal ones.

    Args:
        probes: Their names differ.

    Raises:
        UserError: Two have the same name.
    """

    def __init__(self, probes: Sequence[ProbeBase]) -> None:
        names = [probe.name for probe in probes]
        if twice := [name for name in names if names.count(name) > 1]:
            raise UserError(f"model.probes has two probes named {twice[0]!r}; give one another `name`")
        self.probes = list(probes)

    def load(self) -> None:
        """Reads their images, once.

        Raises:
            UserError: Those of one cannot be used.
        """
        for probe in self.probes:
            probe.load()

    def score(self, task: Any) -> dict[str, float]:
        """The scores `probe/<name>/...` of a task's student with its present weights.

        The student runs as in a validation, in the precision of the run. No random number is drawn.
        """
        precision = task.trainer.precision_plugin

        def features(images: Tensor) -> list[Tensor]:
            with precision.val_step_context():
                maps: list[Tensor] = task.student(task.normalize(precision.convert_input(images)))
            return maps

        return {
            f"probe/{probe.name}/{name}": score
            for probe in self.probes
            for name, score in probe.score(features, task.device).items()
        }
