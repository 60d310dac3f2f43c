"""Targets of views: from a teacher that runs on every one, or stored beforehand.

Axes: B batch, C channels, H W pixels of the view, h w the teacher's grid.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from distill.contracts import TeacherBase
from distill.errors import UserError, unknown_name
from distill.targets.cache.reader import MISSED
from distill.targets.cache.teacher import CachedTeacher
from distill.targets.rounding import decode, require_dtype, rounded
from distill.targets.teacher_view import shown_size, teacher_view, view_size

Passes = dict[Any, dict[str, Tensor]]  # features of teachers on views, within one step


class LiveTargets:
    """One named feature of a teacher, on a grid that spans the same extent as the student's.

    Args:
        teacher: The source.
        feature: Name of the feature, for example "neck" of SAM or "embedding" of a plain ViT.
        stride: Stride of the student's map, in pixels.
        image_size: Longer side of the teacher's view, in pixels; None for the student's.
        key: The recipe's key of the feature, for errors.
        dtype: To which precision targets are rounded, one of `distill.targets.rounding.DTYPES`.

    Attributes:
        name: The target in words.
        teacher: The source.
        feature: Its name.
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
        dtype: str = "float32",
    ) -> None:
        require_dtype(dtype)
        if feature not in teacher.channels:
            raise unknown_name(f"teacher feature in {key}", feature, teacher.channels)
        if feature not in teacher.reduction:
            raise UserError(
                f"model.teacher is {type(teacher).__name__}, whose reduction has no entry for {feature!r}; add the "
                "stride of this feature against the image, in pixels"
            )
        if image_size is not None and image_size < 1:
            raise UserError(f"the image_size of {key} is {image_size}; it must be at least 1 pixel")
        self.name = f"{teacher.class_path.rpartition('.')[2]}'s {feature}"
        self.channels = teacher.channels[feature]
        self.teacher = teacher
        self.feature = feature
        self._dtype = dtype
        self._stride = stride
        self._image_size = image_size
        self._patch = teacher.reduction[feature]

    def __call__(self, images: Tensor, passes: Passes | None = None) -> Tensor:
        """Maps clean RGB views (B, 3, H, W) in [0, 1] to targets (B, C, h, w) float32 of the teacher's own scale.

        Args:
            images: The views.
            passes: What teachers made of these images before, which is looked up and added to.
        """
        return rounded(self.unrounded(images, passes), self._dtype)

    def unrounded(self, images: Tensor, passes: Passes | None = None) -> Tensor:
        """The target as the teacher computes it, before rounding; a cache encodes it."""
        key = (id(self.teacher), *self.views(images.shape[-2], images.shape[-1]))
        passes = {} if passes is None else passes
        if key not in passes:
            passes[key] = self.teacher(teacher_view(images, self._stride, self._patch, self._image_size))
        return passes[key][self.feature]

    def of(self, batch: Mapping[str, Any], passes: Passes | None = None) -> Tensor:
        """Targets (B, C, h, w) of a batch: those stored in it, or the teacher's for `batch["image"]`.

        Args:
            batch: As a data module makes it, on the teacher's device.
            passes: See `__call__`. What a stand-in adds is of the missed views alone, the same for all its targets.
        """
        if not isinstance(self.teacher, CachedTeacher) or "target" not in batch:
            return self(batch["image"], passes)
        maps = decode(batch["target"][self.stored_name])
        missed = [place for place, name in enumerate(batch.get(MISSED, ())) if name]
        if missed:  # one by one: indices would be copied to the device, and the copy is waited for
            made = self(torch.stack([batch["image"][place] for place in missed]), passes)
            for place, own in zip(missed, made, strict=True):
                maps[place] = own
        return maps

    @property
    def stored_name(self) -> str:
        """The name of the target in a cache."""
        return self.feature if self._image_size is None else f"{self.feature}@{self._image_size}"

    def view_size(self, height: int, width: int) -> tuple[int, int]:
        """The size (H', W') of the teacher's view of images of H x W pixels."""
        return view_size((height, width), self._stride, self._patch, self._image_size)

    def views(self, height: int, width: int) -> tuple[tuple[int, int], tuple[int, int]]:
        """Facts that determine the teacher's view of H x W pixels: its size, and the extent that it shows."""
        return self.view_size(height, width), shown_size((height, width), self._stride, self._patch, self._image_size)

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """The grid (h, w) of the targets of views of H x W pixels."""
        rows, columns = self.view_size(height, width)
        return -(-rows // self._patch), -(-columns // self._patch)
