"""Base of training on labels: a student, a head built for the data's classes, one optimizer.

Axes: B batch, H W pixels.
"""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from torch import Tensor, nn

from distill.contracts import DecoderBase, FeatureInfo, HeadBase
from distill.errors import UserError
from distill.tasks.base import TaskBase
from distill.training.optim import OptimSettings
from distill.training.precision import require_precision

HeadFactory = Callable[[FeatureInfo, list[str]], nn.Module]


class SupervisedModule(TaskBase):
    """A head on a student's feature maps; the student is trained, too, unless its own arguments freeze it.

    Args:
        student: A `distill.contracts.StudentBase`, with or without distilled weights, or a plain model.
        head: Builds the task part from the student's `feature_info` and the data's class names.
        optim: Optimizer and schedule.
        teacher: The frozen source of further targets, if any.

    Attributes:
        head_contract: What `head` must build.
        class_names: Classes in label order; empty until `build` is called.
    """

    head_contract: ClassVar[type[HeadBase | DecoderBase]]

    def __init__(
        self, student: nn.Module, head: HeadFactory, optim: OptimSettings, teacher: nn.Module | None = None
    ) -> None:
        super().__init__(student, optim, teacher)
        self.head_factory = head
        self.class_names: list[str] = []

    def configure_model(self) -> None:
        """Builds the head for the data's classes, and checks the precision.

        Raises:
            UserError: See `build`; or `trainer.precision` casts weights that cannot be cast.
        """
        if self.head is None:
            self.build(self.trainer.datamodule.class_names)  # type: ignore[attr-defined]
        require_precision(self.trainer, self.float32_only())  # again, now that the head is known

    def build(self, class_names: list[str]) -> None:
        """Builds the head for these classes.

        Raises:
            UserError: The head refuses its arguments, the student or the classes, or it is one of another task.
        """
        self.class_names = list(class_names)
        try:
            head = self.head_factory(self.student.feature_info, self.class_names).to(self.device)
        except UserError as error:
            where = "" if "model.head" in str(error) else "model.head: "
            raise UserError(f"{where}{error}") from error
        if not isinstance(head, self.head_contract):
            raise UserError(
                f"model.head is {type(head).__name__}, which is no {self.head_contract.__name__}, as "
                f"{type(self).__name__} needs; choose another head, or derive the class from "
                f"distill.contracts.{self.head_contract.__name__}"
            )
        self.head = head

    def __getstate__(self) -> dict[str, Any]:
        """What copies of the module hold, such as that of EMA: a head that is built, not what would build another.

        jsonargparse's factories hold a lock, which cannot be copied.
        """
        state: dict[str, Any] = super().__getstate__()
        return state if self.head is None else state | {"head_factory": None}

    def features(self, images: Tensor) -> list[Tensor]:
        """The student's maps for RGB images (B, 3, H, W) in [0, 1]."""
        maps: list[Tensor] = self.student(self.normalize(images))
        return list(maps)

    def log_scores(self, split: str, main: Sequence[str]) -> None:
        """Logs `scores` under the name of the split, those named `main` on the progress bar, too."""
        found = self.scores()
        # Every process has computed the same; synchronised, so that Lightning does not warn of each metric.
        self.log_dict({f"{split}/{name}": found[name] for name in main}, prog_bar=True, sync_dist=True)
        rest = {f"{split}/{name}": value for name, value in found.items() if name not in main}
        self.log_dict(rest, sync_dist=True)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Stores the class names beside the weights."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["class_names"] = self.class_names

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Checks the classes, the architecture, and the teacher of a run that goes on.

        Raises:
            UserError: The checkpoint was trained for other classes, by another task, with other parts, or with another
                teacher.
        """
        trained = checkpoint.get("class_names")
        if trained is None:
            raise UserError("the checkpoint is not one of a fine-tuning run; pass the run's own checkpoints/last.ckpt")
        if trained != self.class_names:
            raise UserError(
                f"the checkpoint was trained for classes {trained}, but the data has {self.class_names}; "
                "declare data.classes in the order of training"
            )
        self.require_same_parts(checkpoint, "student and head")
        self.require_same_teacher(checkpoint)
