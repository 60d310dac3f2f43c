"""Training on labels, whatever the task: a student, a head built for the data's classes, one optimizer.

Axes: B batch, H W pixels.
"""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from distill.contracts import FeatureInfo, HeadBase
from distill.errors import UserError
from distill.layers import Normalize
from distill.plain_student import as_student
from distill.seeding import seed_step
from distill.training.gradient_check import FiniteGradients
from distill.training.optim import OptimSettings, build_optimizer, total_steps
from distill.training.precision import require_precision
from distill.weights import misfit

HeadFactory = Callable[[FeatureInfo, list[str]], nn.Module]


class SupervisedModule(FiniteGradients):
    """A head on a student's feature maps; the student trains along unless it is frozen by its own arguments.

    Args:
        student: A `distill.contracts.Student`, with or without distilled weights.
        head: Builds the task part from the student's `feature_info` and the data's class names.
        optim: Optimizer and schedule.
    """

    # Contracts, not nn.Modules, to the type checker: it takes every attribute of an nn.Module for a Tensor.
    student: Any
    head: Any

    def __init__(self, student: nn.Module, head: HeadFactory, optim: OptimSettings) -> None:
        super().__init__()
        self.student = as_student(student)
        self.normalize = Normalize.of(self.student)
        self.head = None
        self.head_factory = head
        self.optim_settings = optim
        self.class_names: list[str] = []

    def configure_model(self) -> None:
        """Builds the head once the data has said which classes there are.

        Raises:
            UserError: The head refuses its arguments, the student or the classes, or `trainer.precision` casts weights
                that cannot be cast.
        """
        if self.head is None:
            self.build_head(self.trainer.datamodule.class_names)  # type: ignore[attr-defined]
        require_precision(self.trainer, self.float32_only())

    def float32_only(self) -> str | None:
        """The part that needs weights in float32, if any."""
        parts = (type(part).__name__ for part in self.modules() if isinstance(part, HeadBase) and part.float32_only)
        return next(parts, None)

    def build_head(self, class_names: list[str]) -> None:
        """Builds the head for these classes.

        Raises:
            UserError: The head refuses its arguments, the student or the classes.
        """
        self.class_names = list(class_names)
        try:
            self.head = self.head_factory(self.student.feature_info, self.class_names).to(self.device)
        except UserError as error:
            where = "" if "model.head" in str(error) else "model.head: "
            raise UserError(f"{where}{error}") from error

    def __getstate__(self) -> dict[str, Any]:
        """What copies of the module hold, such as that of EMA: a head that is built, not what would build another.

        jsonargparse's factories hold a lock, which cannot be copied.
        """
        state: dict[str, Any] = super().__getstate__()
        return state if self.head is None else state | {"head_factory": None}

    def features(self, images: Tensor) -> list[Tensor]:
        """The student's maps for RGB images (B, 3, H, W) in [0, 1]."""
        return list(self.student(self.normalize(images)))

    def exported_student(self) -> tuple[nn.Module, dict[str, object]]:
        """The student as it is handed on, and metadata about it, of which there is none."""
        return self.student, {}

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Makes the step's randomness (proposal sampling, dropout, stochastic depth) repeatable."""
        seed_step(self, batch_idx)

    def configure_optimizers(self) -> Any:
        """AdamW with warm-up and cosine over student and head."""
        return build_optimizer(self, total_steps(self.trainer), self.optim_settings)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Stores the class names beside the weights."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["class_names"] = self.class_names

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Checks the classes and the architecture.

        Raises:
            UserError: The checkpoint was trained for other classes, by another task, or with other parts.
        """
        trained = checkpoint.get("class_names")
        if trained is None:
            raise UserError("the checkpoint is not one of a fine-tuning run; pass the run's own checkpoints/last.ckpt")
        if trained != self.class_names:
            raise UserError(
                f"the checkpoint was trained for classes {trained}, but the data has {self.class_names}; "
                "declare data.init_args.classes in the order of training"
            )
        if problems := misfit(self, checkpoint["state_dict"]):
            raise UserError(
                f"the checkpoint does not fit the recipe's student and head: {problems}; "
                "use the recipe it was trained with"
            )
