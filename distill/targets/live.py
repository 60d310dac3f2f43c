"""Targets from a teacher that runs on every view.

Axes: B batch, C channels, H W pixels of the view, h w the teacher's grid.
"""

from torch import Tensor

from distill.contracts import TeacherBase
from distill.errors import UserError, unknown_name
from distill.targets.teacher_view import teacher_view, view_size


class LiveTargets:
    """One named feature of a teacher, on a grid that spans the same extent as the student's.

    Args:
        teacher: The source.
        feature: Name of the feature, for example "neck" of SAM or "embedding" of a plain ViT.
        stride: Stride of the student's map, in pixels.

    Attributes:
        name: The target in words.
        channels: C of the maps.

    Raises:
        UserError: The teacher has no such feature, or does not say its stride.
    """

    def __init__(self, teacher: TeacherBase, feature: str, stride: int) -> None:
        if feature not in teacher.channels:
            raise unknown_name("teacher feature in model.target", feature, teacher.channels)
        if feature not in teacher.reduction:
            raise UserError(
                f"model.teacher is {type(teacher).__name__}, whose reduction has no entry for {feature!r}; add the "
                "stride of this feature against the image, in pixels"
            )
        self.name = f"{type(teacher).__name__}'s {feature}"
        self.channels = teacher.channels[feature]
        self._teacher = teacher
        self._feature = feature
        self._stride = stride
        self._patch = teacher.reduction[feature]

    def __call__(self, images: Tensor) -> Tensor:
        """Maps clean RGB views (B, 3, H, W) in [0, 1] to targets (B, C, h, w) of the teacher's own scale."""
        maps: Tensor = self._teacher(teacher_view(images, self._stride, self._patch))[self._feature]
        return maps

    def view_size(self, height: int, width: int) -> tuple[int, int]:
        """The size (H', W') of what the teacher gets for views of H x W pixels."""
        return view_size((height, width), self._stride, self._patch)

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """The grid (h, w) of the targets of views of H x W pixels."""
        rows, columns = self.view_size(height, width)
        return -(-rows // self._patch), -(-columns // self._patch)
