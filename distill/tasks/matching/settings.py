"""Settings of the targets beside the main one."""

import re
from dataclasses import dataclass, field

from torch import nn

from distill.errors import UserError
from distill.tasks.losses.features import LossSettings
from distill.tasks.losses.schedule import Weight, require_weight
from distill.tasks.matching.adapter import require_projection

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


@dataclass
class TargetSettings:
    """A further target: a feature of a teacher, matched by one of the student's maps.

    Args:
        feature: Name of the teacher's feature, for example "block_3" of SAM.
        teacher: Another teacher; by default that of the recipe, `model.teacher`, which runs once for all its features.
        name: What its losses and metrics are called by; by default the feature.
        tap: Which of the student's maps, from 0; -1 is the last.
        weight: Weight of its loss beside the main one: a number, or a schedule {start, end, steps, shape}.
        loss: Terms and their weights.
        adapter: Projection of the student's map, dropped at the end: linear, mlp, conv3x3, or auto, which is linear
            only where the channels differ.
        image_size: Longer side of the teacher's view, in pixels; by default that of the student.
    """

    feature: str
    teacher: nn.Module | None = None
    name: str | None = None
    tap: int = -1
    weight: Weight = 1.0
    loss: LossSettings = field(default_factory=LossSettings)
    adapter: str = "linear"
    image_size: int | None = None

    def __post_init__(self) -> None:
        """Checks names and ranges.

        Raises:
            UserError: An unknown projection, or a weight, size or name that cannot be.
        """
        require_weight("weight of a target in model.targets", self.weight)
        require_projection("adapter in model.targets", self.adapter)
        if not _NAME.fullmatch(self.label):
            raise UserError(
                f"a target in model.targets is called {self.label!r}; set its name to letters, digits, _, . and -"
            )

    @property
    def label(self) -> str:
        """The name."""
        return self.name or self.feature
