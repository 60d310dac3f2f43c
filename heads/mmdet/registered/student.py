"""Students inside plain MMDetection: a backbone and a neck for its registry.

    custom_imports = dict(imports=["heads.mmdet.registered"])
    model = dict(
        type="MaskRCNN",
        backbone=dict(
            type="DistillStudent",
            class_path="students.RS4D",
            init_args=dict(variant="small", checkpoint="student.safetensors")),
        neck=dict(type="DistillNeck", in_channels=[256] * 8, strides=[16] * 8),
        ...)

`in_channels` and `strides` are what the student's `feature_info` says; the heads follow as in any other config, with
anchor strides from a quarter to four times the student's. `distill mmdet-config RECIPE` writes such a config whole.
Any student works, timm's `features_only` models included. Axes: B batch, C channels, H W grid or pixels.
"""

from pkgutil import resolve_name
from typing import Any

from mmdet.registry import MODELS
from mmengine.model import BaseModule
from torch import Tensor

from distill.errors import UserError
from distill.plain_student import as_student
from heads.parts.neck import Neck


@MODELS.register_module(name="DistillStudent")
class DistillStudent(BaseModule):
    """A student as an MMDetection backbone.

    Args:
        class_path: Dotted path of the student's class or factory, for example "students.RS4D".
        init_args: Its keyword arguments; distilled weights are named here, not in MMDetection's `init_cfg`.

    Raises:
        UserError: Nothing to import at `class_path`, or what is there builds no student.
    """

    def __init__(self, class_path: str, init_args: dict[str, Any] | None = None) -> None:
        super().__init__()
        try:
            factory = resolve_name(class_path)
        except (ImportError, AttributeError, ValueError) as error:
            raise UserError(
                f"backbone.class_path {class_path!r} cannot be imported ({error}); give the dotted path of a student "
                "class, such as 'students.RS4D'"
            ) from error
        self.student = as_student(factory(**(init_args or {})))

    def init_weights(self) -> None:
        """Keeps the student's weights.

        MMEngine calls this on every part of a detector when training starts. The student is initialised, or loaded, by
        its constructor; drawing anything again would destroy what was distilled.
        """
        self.is_init = True

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Maps images (B, 3, H, W) to the student's maps (B, C_i, H_i, W_i)."""
        return tuple(self.student(images))


@MODELS.register_module(name="DistillNeck")
class DistillNeck(BaseModule):
    """`heads.parts.neck.Neck` as an MMDetection neck.

    Args:
        in_channels: Channels of each map of the student.
        strides: Stride of each map, in pixels.
        out_channels: Channels of every level.
        norm: As for `Neck`, like all that follow.
        hidden_channels: Width inside the aggregator.
        two_way: Whether the aggregator visits the maps from deep to shallow as well.
        path_aggregation: Whether finer levels flow into coarser ones at the end.
        image_map: Whether a map of the whole image follows the levels.
        skip_finest: Whether the levels start one stride later.
    """

    def __init__(
        self,
        in_channels: list[int],
        strides: list[int],
        out_channels: int = 256,
        norm: str = "layer",
        hidden_channels: int = 32,
        two_way: bool = False,
        path_aggregation: bool = False,
        image_map: bool = False,
        skip_finest: bool = False,
    ) -> None:
        super().__init__()
        maps = _Maps(in_channels, strides)
        self.neck = Neck(maps, out_channels, norm, hidden_channels, two_way, path_aggregation, image_map, skip_finest)

    def forward(self, features: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Maps the student's maps (B, C_i, H_i, W_i) to levels (B, out_channels, H_l, W_l), finest first.

        With `image_map`, the map of the image comes last. All are float32 under autocast too: regions are pooled from
        them at coordinates that take their precision.
        """
        return tuple(level.float() for level in self.neck(list(features)))


class _Maps:
    """`FeatureInfo` from the two lists of a configuration."""

    def __init__(self, channels: list[int], strides: list[int]) -> None:
        self._channels, self._strides = channels, strides

    def channels(self) -> list[int]:
        return self._channels

    def reduction(self) -> list[int]:
        return self._strides
