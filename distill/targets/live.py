"""Targets from a teacher that runs on every view.

Axes: B batch, C channels, H W pixels of the view, h w the teacher's grid.
"""

from typing import Any

from torch import Tensor

from distill.contracts import TeacherBase
from distill.errors import UserError, unknown_name
from distill.targets.teacher_view import extents, teacher_view, view_size

Passes = dict[Any, dict[str, Tensor]]  # features of teachers on views, within one step


class LiveTargets:
    """One named feature of a teacher, on a grid that spans the same extent as the student's.

    Args:
        teacher: The source.
        feature: Name of the feature, for example "neck" of SAM or "embedding" of a plain ViT.
        stride: Stride of the student's map, in pixels.
        image_size: Longer side of the teacher's view, in pixels; None for the student's.
        key: The recipe's key of the feature, for errors.

    Attributes:
        name: The target in words.
        channels: C of the maps.

    Raises:
        UserError: The teacher has no such feature, or does not say its stride; or a view of less than a pixel.
    """

    def __init__(
        self,
        teacher: TeacherBase,
        feature: str,
        stride: int,
        image_size: int | None = None,
        key: str = "model.target",
    ) -> None:
        if feature not in teacher.channels:
            raise unknown_name(f"teacher feature in {key}", feature, teacher.channels)
        if feature not in teacher.reduction:
            raise UserError(
                f"model.teacher is {type(teacher).__name__}, whose reduction has no entry for {feature!r}; add the "
                "stride of this feature against the image, in pixels"
            )
        if image_size is not None and image_size < 1:
            raise UserError(f"the image_size of {key} is {image_size}; it must be at least 1 pixel")
        self.name = f"{type(teacher).__name__}'s {feature}"
        self.channels = teacher.channels[feature]
        self._teacher = teacher
        self._feature = feature
        self._stride = stride
        self._image_size = image_size
        self._patch = teacher.reduction[feature]

    def __call__(self, images: Tensor, passes: Passes | None = None) -> Tensor:
        """Maps clean RGB views (B, 3, H, W) in [0, 1] to targets (B, C, h, w) of the teacher's own scale.

        Args:
            images: The views.
            passes: What teachers made of these images before, which is looked up and added to.
        """
        view = teacher_view(images, self._stride, self._patch, self._image_size)
        sides = (images.shape[-2], images.shape[-1])
        shown = sides if view is images else extents(sides, self._stride)
        key = (id(self._teacher), tuple(view.shape), shown)
        passes = {} if passes is None else passes
        if key not in passes:
            passes[key] = self._teacher(view)
        return passes[key][self._feature]

    def view_size(self, height: int, width: int) -> tuple[int, int]:
        """The size (H', W') of what the teacher gets for views of H x W pixels."""
        return view_size((height, width), self._stride, self._patch, self._image_size)

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """The grid (h, w) of the targets of views of H x W pixels."""
        rows, columns = self.view_size(height, width)
        return -(-rows // self._patch), -(-columns // self._patch)
