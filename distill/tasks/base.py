"""The interface of every task, and what all tasks share: student, teacher, optimizer, checks.

Axes: B batch, H W pixels.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import nn

from distill.contracts import DecoderBase, HeadBase, StudentBase, TeacherBase
from distill.errors import UserError
from distill.evaluation.instances import InstanceEvaluation
from distill.evaluation.segmentation import PixelConfusion
from distill.layers import Normalize
from distill.plain_student import as_student
from distill.seeding import seed_step
from distill.training.gradient_check import FiniteGradients
from distill.training.optim import OptimSettings, build_optimizer, total_steps
from distill.training.precision import require_precision
from distill.weights import state_dict_mismatch


class TaskBase(FiniteGradients):
    """Base of the Lightning modules that recipes name.

    Args:
        student: The trained backbone: a `distill.contracts.StudentBase`, or a plain model with a `feature_info`.
        optim: Optimizer and schedule.
        teacher: The frozen source of targets, if any.
        further_teachers: Sources of further targets.

    Attributes:
        name: "distillation", "instances" or "segmentation", by which comparisons group runs; a task class of your own
            may have any other.
        stages: What can be done with it, of "fit", "validate" and "test".
        monitor: The metric that selects best.ckpt, and "min" or "max".
        training_only: Constructor arguments that scoring does without.
        student: The backbone.
        head: Head or decoder, once `build` has been called; None in a distillation.
        evaluation: What reports need of the last validation or test beside `scores`: predictions and precision over
            recall of instances, the confusion matrix of pixels, None for a distillation and before the first one.

    Raises:
        UserError: The teacher is no `distill.contracts.TeacherBase`, or it or the student lacks an attribute that has
            no default.
    """

    name: ClassVar[str]
    stages: ClassVar[tuple[str, ...]] = ("fit", "validate", "test")
    monitor: ClassVar[tuple[str, str]]
    training_only: ClassVar[tuple[str, ...]] = ()
    student: StudentBase
    head: HeadBase | DecoderBase | None
    evaluation: InstanceEvaluation | PixelConfusion | None

    def __init__(
        self,
        student: nn.Module,
        optim: OptimSettings,
        teacher: nn.Module | None = None,
        further_teachers: Sequence[nn.Module] = (),
    ) -> None:
        super().__init__()
        self.student = as_student(student)
        self.normalize = Normalize.of(self.student)
        self.optim_settings = optim
        self.head = None
        self.evaluation = None
        # In a tuple, of which nn.Module registers nothing: no checkpoint and no optimizer holds the teacher.
        self._main_teacher = () if teacher is None else (_frozen(teacher, "model.teacher"),)
        self._further_teachers = tuple(_frozen(further, "a teacher in model.targets") for further in further_teachers)

    @property
    def teacher(self) -> TeacherBase | None:
        """The teacher. It is no submodule, so `state_dict`, checkpoints and the optimizer exclude it."""
        return next(iter(self._main_teacher), None)

    @property
    def teachers(self) -> tuple[TeacherBase, ...]:
        """All teachers, the main one first."""
        return (*self._main_teacher, *self._further_teachers)

    def build(self, class_names: list[str]) -> None:
        """Builds the parts that depend on the data's classes; a distillation has none.

        Raises:
            UserError: The head refuses its arguments, the student or the classes.
        """

    def scores(self) -> dict[str, float]:
        """The scores of the last validation or test, by metric without the split, in full precision.

        Empty before the first one. `distill.evaluation.metrics` describes the metrics.
        """
        return {} if self.evaluation is None else self.evaluation.summary()

    def exported_student(self) -> tuple[nn.Module, dict[str, object]]:
        """The student as it is exported, and metadata about its last map."""
        return self.student, {}

    def predict_step(self, batch: Any, batch_idx: int) -> Any:
        """The prediction for a batch: features, instances or classes of pixels."""
        raise NotImplementedError

    def setup(self, stage: str) -> None:
        """Checks the precision.

        Raises:
            UserError: `trainer.precision` casts weights that cannot be cast.
        """
        require_precision(self.trainer, self.float32_only())

    def float32_only(self) -> str | None:
        """The part that needs weights in float32, or None. Teachers do: their weights are not cast."""
        if self.teachers:
            return f"the teacher, {type(self.teachers[0]).__name__},"
        parts = (type(part).__name__ for part in self.modules() if isinstance(part, HeadBase) and part.float32_only)
        return next(parts, None)

    def configure_optimizers(self) -> Any:
        """AdamW with warm-up and cosine annealing."""
        return build_optimizer(self, total_steps(self.trainer), self.optim_settings)

    def place_teacher(self) -> None:
        """Moves the teachers to the device; Lightning moves submodules only."""
        for teacher in self.teachers:
            teacher.to(self.device)

    def on_fit_start(self) -> None:
        """Moves the teachers to the device."""
        self.place_teacher()

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Seeds the step: corruption, proposal sampling, dropout, stochastic depth."""
        seed_step(self, batch_idx)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Stores the digests of the teachers."""
        super().on_save_checkpoint(checkpoint)
        if self.teacher is not None:
            checkpoint["teacher_digest"] = self.teacher.digest
        if self._further_teachers:
            checkpoint["further_digests"] = [teacher.digest for teacher in self._further_teachers]

    def require_same_teacher(self, checkpoint: Mapping[str, Any]) -> None:
        """Checks that a checkpoint was trained with this task's teachers, if there are any.

        Raises:
            UserError: It was another one.
        """
        for index, teacher in enumerate(self._further_teachers):
            stored = [*checkpoint.get("further_digests", []), *[None] * (index + 1)][index]
            if stored != teacher.digest:
                raise UserError(
                    f"the checkpoint was trained with teacher {stored}, but teacher {index + 1} of model.targets, "
                    f"{teacher.label}, is {teacher.digest}; resume with the same teacher weights"
                )
        if self.teacher is not None and checkpoint.get("teacher_digest") != self.teacher.digest:
            raise UserError(
                f"the checkpoint was trained with teacher {checkpoint.get('teacher_digest')}, but model.teacher is "
                f"{self.teacher.digest}; resume with the same teacher weights"
            )

    def require_same_parts(self, checkpoint: Mapping[str, Any], parts: str) -> None:
        """Checks that the weights of a checkpoint are those of this task's `parts`, in words.

        Raises:
            UserError: Names or shapes differ.
        """
        if problems := state_dict_mismatch(self, checkpoint["state_dict"]):
            raise UserError(
                f"the checkpoint does not fit the recipe's {parts}: {problems}; use the recipe it was trained with"
            )


def _frozen(teacher: nn.Module, key: str) -> TeacherBase:
    """A teacher, checked and out of training.

    Raises:
        UserError: It is no `TeacherBase`, or lacks an attribute.
    """
    if not isinstance(teacher, TeacherBase):
        raise UserError(
            f"{key} is {type(teacher).__name__}, which is no TeacherBase; derive the class from "
            "distill.contracts.TeacherBase, or from teachers.frozen.FrozenTeacher"
        )
    teacher.require_attributes()
    return teacher.freeze()
