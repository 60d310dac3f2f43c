"""A segmentation run of this project as a teacher.

Axes: B batch, C channels, K classes, H W pixels, h w grid.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from distill.contracts import DecoderBase, FeatureInfo
from distill.errors import UserError
from distill.plain_student import as_student
from distill.weights import load_matching, read_training_checkpoint
from teachers.frozen import FrozenTeacher


class Segmenter(FrozenTeacher):
    """Frozen student and decoder of a run of `distill.SegmentationModule`, with the features "logits" and "map".

    "logits" are the decoder's class scores (B, K, h, w) at its own stride, "map" is the student's last map. A run with
    averaged weights (`distill.EMA`) teaches with the averaged ones, as it is tested.

    Images of any size work: they are padded to a multiple of the student's deepest stride.

    Args:
        backbone: Builds the student as the run's recipe did, without a checkpoint of its own.
        head: Builds the decoder, as the run's recipe did.
        checkpoint: A training checkpoint of that run, `runs/NAME/checkpoints/last.ckpt` or `best.ckpt`.

    Attributes:
        class_names: Classes of the logits, in order.

    Raises:
        UserError: A checkpoint that is missing, of another task, of another student or decoder, or that holds pickled
            code; a head that finds instances instead of a decoder.
    """

    def __init__(
        self,
        backbone: Callable[[], nn.Module],
        head: Callable[[FeatureInfo, list[str]], nn.Module],
        checkpoint: str,
    ) -> None:
        content = read_training_checkpoint(checkpoint)
        if not content.get("class_names"):
            raise UserError(
                f"checkpoint {checkpoint!r} names no classes, it is of a distillation; set "
                "model.teacher.checkpoint to checkpoints/last.ckpt of a run of distill.SegmentationModule"
            )
        names = list(content["class_names"])
        with torch.random.fork_rng(devices=[]):  # the student's initialisation must not depend on the teacher's
            student = as_student(backbone())
            decoder: Any = head(student.feature_info, names)
        title = f"{student.label} under {type(decoder).__name__}"
        if not isinstance(decoder, DecoderBase):
            raise UserError(
                f"teacher {title} gives no logits of pixels; set model.teacher.head to a decoder, such as "
                "heads.LALEDecoder (derive one of your own from distill.contracts.DecoderBase)"
            )
        decoder.require_attributes()
        _load(student, "student", "backbone", content["state_dict"], checkpoint)
        _load(decoder, "head", "head", content["state_dict"], checkpoint)

        strides, widths = list(student.feature_info.reduction()), list(student.feature_info.channels())
        super().__init__(
            title,
            nn.ModuleDict({"student": student, "head": decoder}),
            math.lcm(*strides, decoder.stride),
            student.mean,
            student.std,
            {"logits": len(names), "map": widths[-1]},
            {"logits": decoder.stride, "map": strides[-1]},
        )
        self.class_names = names

    def features(self, images: Tensor) -> dict[str, Tensor]:
        """The logits (B, K, h, w), and the student's last map (B, C, h, w)."""
        maps = list(self.encoder["student"](images))
        return {"logits": self.encoder["head"](maps), "map": maps[-1]}


def _load(module: nn.Module, part: str, key: str, state: Mapping[str, Tensor], checkpoint: str) -> None:
    """Loads one part of a training state.

    Raises:
        UserError: It is another module's.
    """
    prefix = f"{part}."
    own = {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
    try:
        load_matching(module, own, checkpoint)
    except UserError as error:
        raise UserError(
            f"model.teacher.{key}: {error}; model.init_args.{part} in the run's recipe.yaml says which it was"
        ) from error
