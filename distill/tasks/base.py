"""What every task is to the rest of the framework: its kind, what selects its best checkpoint, and what it found."""

from typing import Any, ClassVar

from torch import nn

from distill.contracts import DecoderBase, HeadBase, StudentBase, TeacherBase
from distill.training.gradient_check import FiniteGradients


class TaskBase(FiniteGradients):
    """Base of the Lightning modules that recipes name.

    Attributes:
        kind: "distil" or "fine-tune", as cards and dashboards call it.
        stages: What can be done with it, of "fit", "validate" and "test".
        monitor: The metric that selects best.ckpt, and "min" or "max".
        training_only: Constructor arguments that scoring does without.
        student: The backbone.
        teacher: The source of targets, in no checkpoint and in no optimizer; None where there is none.
        head: Head or decoder, once `build` has been called; None in a distillation.
    """

    kind: ClassVar[str]
    stages: ClassVar[tuple[str, ...]] = ("fit", "validate", "test")
    monitor: ClassVar[tuple[str, str]]
    training_only: ClassVar[tuple[str, ...]] = ()
    student: StudentBase
    teacher: TeacherBase | None
    head: HeadBase | DecoderBase | None

    def build(self, class_names: list[str]) -> None:
        """Builds what depends on the data's classes; nothing where there are none."""

    def scores(self) -> dict[str, float]:
        """What the last validation or test found, by metric without the name of the split, in full precision."""
        raise NotImplementedError

    def exported_student(self) -> tuple[nn.Module, dict[str, object]]:
        """The student as it is handed on, and metadata about its last map."""
        return self.student, {}

    def predict_step(self, batch: dict[str, Any], batch_idx: int) -> Any:
        """What the model says of a batch: features, instances or classes of pixels."""
        raise NotImplementedError
