"""Teacher, Student, Head: the only three protocols, and the two records that heads exchange with data and evaluation.

Axes: B batch, C channels, H W grid or pixels, N instances. Boxes are (x1, y1, x2, y2) in pixels, exclusive at the far
edge, so that a box that covers the whole image is (0, 0, W, H).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, Self, runtime_checkable

import torch
from torch import Tensor

from distill.errors import UserError
from distill.instance_masks import InstanceMasks


class FeatureInfo(Protocol):
    """What a backbone emits, in timm's convention (`timm.models.FeatureInfo` satisfies it)."""

    def channels(self) -> Sequence[int]:
        """Channels C_i of each map."""

    def reduction(self) -> Sequence[int]:
        """Stride of each map against the input, in pixels."""


@runtime_checkable
class Student(Protocol):
    """The trained backbone. Every timm `features_only` model fits.

    Images are RGB, normalised with the student's own `mean` and `std` by whoever calls it; where a backbone does not
    carry these attributes, the ImageNet statistics hold.
    """

    feature_info: FeatureInfo

    def __call__(self, images: Tensor) -> list[Tensor]:
        """Maps images (B, 3, H, W), any H and W, to feature maps (B, C_i, H_i, W_i); the last is the deepest."""


@runtime_checkable
class ScaledStudent(Student, Protocol):
    """A student that can choose the scale at which its last map starts."""

    def rescale_output(self, rms: float) -> bool:
        """Makes the last map start at a root mean square of `rms`, unless its scale was loaded or trained.

        Returns:
            Whether it did.
        """


@runtime_checkable
class AffineStudent(Student, Protocol):
    """A student that can take a scale and a shift of its last map into its own weights."""

    def fold_output(self, scale: Tensor, shift: Tensor) -> None:
        """Multiplies the last map by `scale` (C,) and adds `shift` (C,)."""


@runtime_checkable
class Teacher(Protocol):
    """The frozen source: eval mode, no gradients, never in a checkpoint and never in an optimizer."""

    channels: dict[str, int]
    reduction: dict[str, int]  # stride of each feature against the image, in pixels

    @property
    def digest(self) -> str:
        """Identifies the weights."""

    def __call__(self, images: Tensor) -> dict[str, Tensor]:
        """Maps RGB images in [0, 1] of shape (B, 3, H, W) to named features (B, C, H', W').

        The teacher applies its own mean and std.
        """


_TEACHER_ATTRIBUTES = {
    "channels": "a dict from each feature's name to its channels",
    "reduction": "a dict from each feature's name to its stride against the image, in pixels",
    "digest": "text that identifies the weights",
    "class_names": "the classes of the logits, in order",
}


def require_teacher(teacher: object, *attributes: str) -> None:
    """Checks that a teacher has what a task reads of it; one of a user's own may lack something.

    Args:
        teacher: A `Teacher`, or what is meant to be one.
        attributes: Names of attributes.

    Raises:
        UserError: Attributes are missing.
    """
    found = dir(teacher)  # looks without evaluating: the digest of large weights takes seconds
    if missing := [f"{name} ({_TEACHER_ATTRIBUTES[name]})" for name in attributes if name not in found]:
        raise UserError(
            f"model.teacher is {type(teacher).__name__}, which lacks {' and '.join(missing)}; add what is missing, or "
            "derive the class from teachers.frozen.FrozenTeacher (docs/design.md, Contracts)"
        )


@dataclass
class Target:
    """Ground truth of one image, in the pixel frame of the network's input."""

    image_id: int
    boxes: Tensor  # (N, 4) float32
    labels: Tensor  # (N,) int64, index into the class names
    masks: Tensor | InstanceMasks  # (N, H, W) bool
    crowd: Tensor  # (N,) bool: regions to ignore
    size: tuple[int, int]  # (h, w) of the real image inside the padded input
    original_size: tuple[int, int]  # (h, w) of the image file

    def to(self, device: torch.device | str) -> Self:
        """Boxes and labels on a device.

        Masks and `crowd` stay in host memory: MMDetection crops masks there, and to index by flags of the host, nothing
        waits for the device.
        """
        moved = {name: getattr(self, name).to(device, non_blocking=True) for name in ("boxes", "labels")}
        return replace(self, **moved)

    def pin_memory(self) -> Self:
        """Tensors in page-locked memory, from which copies to a GPU need not be waited for; the loader calls it."""
        names = ("boxes", "labels", "masks", "crowd")
        return replace(self, **{name: getattr(self, name).pin_memory() for name in names})


@dataclass
class Prediction:
    """Instances found in one image, in the pixel frame of the image file."""

    image_id: int
    boxes: Tensor  # (N, 4) float32
    scores: Tensor  # (N,) float32, descending
    labels: Tensor  # (N,) int64, index into the class names
    masks: Tensor  # (N, H, W) bool


class Float32Only:
    """Marks modules that compute parts of themselves in float32 and take no weights of another precision."""


@runtime_checkable
class Head(Protocol):
    """The task part (neck included), built from a student's `feature_info` and the data's class names."""

    def loss(self, features: list[Tensor], targets: list[Target]) -> dict[str, Tensor]:
        """Named scalar losses; their sum is minimised."""

    def predict(self, features: list[Tensor], targets: list[Target]) -> list[Any]:
        """One result per image. Of `targets` only `image_id`, `size` and `original_size` are read."""
