"""Hierarchical models of timm: convolutional nets (ResNet, ConvNeXt, EfficientNet), and Swin and its like.

Axes: B batch, C channels, H W pixels, h w grid.
"""

import math
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from distill.errors import UserError, first_line
from distill.timm_sizes import refuses_size
from distill.weights import load_matching, part_of, read_state_dict
from teachers.frozen import FrozenTeacher, check_indices, warn_of_random_weights
from teachers.timm_models import (
    create,
    hub_weights,
    options_of_student,
    published_licence,
    require_name,
    trained_arguments,
    without_prefix,
)

_FIXED_SIZE = ("swin_transformer", "swin_transformer_v2")  # modules whose models take other sizes when asked to


class CNN(FrozenTeacher):
    """Frozen hierarchical timm model with the features "stage_i".

    "stage_i" is timm's feature level i (`features_only`), not normalised: the outputs of the four stages of a ConvNeXt
    or Swin at strides 4, 8, 16 and 32 are stage_0 to stage_3; a ResNet or EfficientNet has a level of stride 2 before
    them, so its last is stage_4.

    Images of any size work: they are padded to a multiple of the deepest stride. Some models with attention, such as
    MaxViT and Hiera, take the size of their weights alone. The mean and std are those of the named weights.

    Args:
        name: timm's name of the model, with the tag of its weights: convnext_base.dinov3_lvd1689m, resnet50.a1_in1k.
        checkpoint: File in timm's layout or, where timm converts it, of the official release, or the
            `student.safetensors` of a run that trained this model as its student. None takes timm's copy from the
            Hugging Face hub.
        stages: Indices i of the stages to return as "stage_i". None returns the last alone.
        options: Further arguments of the timm constructor. None takes those that a file of this project was trained
            with, else timm's.
        pretrained: False leaves the weights random where there is no `checkpoint`: to time a run before downloading.

    Raises:
        UserError: Unknown name, option or stage; a model whose maps are all of one stride; a checkpoint that is missing
            or of another model; no network.
    """

    def __init__(
        self,
        name: str,
        checkpoint: str | None = None,
        stages: list[int] | None = None,
        options: dict[str, Any] | None = None,
        pretrained: bool = True,
    ) -> None:
        trained: dict[str, Any] = {}
        if checkpoint is not None:
            options = options_of_student(name, checkpoint, options)
            trained = trained_arguments(checkpoint)
        encoder = _build(name, options or {}, trained.get("out_indices"))
        if checkpoint is None and not pretrained:
            warn_of_random_weights(name)
        else:
            source = checkpoint or hub_weights(name, encoder)
            names, whole = without_prefix(encoder.state_dict()), None
            if not trained:
                with torch.device("meta"):
                    whole = create(name, options or {})
                names |= whole.state_dict()
            _, state = part_of(read_state_dict(source), names, source)
            state = without_prefix(state)
            if whole is not None:
                state = _in_timms_layout(state, whole)
            _load(encoder, state, whole, source)

        strides, widths = encoder.feature_info.reduction(), encoder.feature_info.channels()
        indices = check_indices("stage", stages, len(strides), name) or [len(strides) - 1]
        super().__init__(
            name,
            encoder,
            math.lcm(*strides),
            encoder.pretrained_cfg["mean"],
            encoder.pretrained_cfg["std"],
            {f"stage_{i}": widths[i] for i in indices},
            {f"stage_{i}": strides[i] for i in indices},
        )
        self.stages = indices

    @classmethod
    def smoke_args(cls) -> dict[str, Any]:
        """timm's test model with random weights, two of its maps."""
        return {"name": "test_convnext", "stages": [1, 3], "pretrained": False}

    @classmethod
    def licence(cls, arguments: Mapping[str, Any]) -> str | None:
        """See `distill.contracts.TeacherBase.licence`."""
        return published_licence(str(arguments["name"]))

    def features(self, images: Tensor) -> dict[str, Tensor]:
        """The selected stages, each (B, C, h, w).

        Raises:
            UserError: The model takes no images of this size.
        """
        from timm.layers.format import Format

        try:
            maps = self.encoder(images)
        except (AssertionError, RuntimeError) as error:
            if not refuses_size(self.encoder, error):
                raise
            height, width = images.shape[-2:]
            own = self.encoder.pretrained_cfg["input_size"][-1]
            raise UserError(
                f"teacher {self.name} does not take images of {width} x {height} px ({first_line(error)}); set "
                f"model.teacher_image_size to {own}, the size of its weights, or choose another model"
            ) from error
        last = getattr(self.encoder, "output_fmt", None) == Format.NHWC  # Swin's extractor; others do not say
        return {f"stage_{i}": maps[i].permute(0, 3, 1, 2) if last else maps[i] for i in self.stages}


def _build(name: str, options: dict[str, Any], out_indices: Iterable[int] | None) -> Any:
    """timm's feature extractor with random weights: all levels, or as many as a student of these taps has."""
    from timm.models import is_model_in_modules

    require_name(name, "*")
    sizes = {"strict_img_size": False} if is_model_in_modules(name.partition(".")[0], _FIXED_SIZE) else {}
    encoder = create(name, options, features_only=True, **sizes)
    strides = encoder.feature_info.reduction()
    if len(set(strides)) < len(strides):
        raise UserError(
            f"timm model {name!r} is no hierarchy, its maps have strides {strides}; set "
            "model.teacher.name to a model with stages, or a plain ViT's class_path to teachers.ViT"
        )
    depth = 1 + max((i % len(strides) for i in out_indices or ()), default=len(strides) - 1)
    if depth < len(strides):  # timm drops what comes after the last tap
        encoder = create(name, options, features_only=True, out_indices=tuple(range(depth)), **sizes)
    return encoder


def _load(encoder: Any, state: dict[str, Tensor], whole: Any, source: str | Path) -> None:
    """Loads a state under the names of the whole model or of its feature extractor.

    Args:
        encoder: The feature extractor.
        state: From the file.
        whole: The whole model, of which the file may hold parts that give no features; None if it holds none.
        source: The file, for errors.
    """
    own = dict(zip(without_prefix(encoder.state_dict()), encoder.state_dict(), strict=True))
    behind = set() if whole is None else whole.state_dict().keys()
    named = {}
    for key, tensor in state.items():
        # timm writes stages_0 for stages.0 in the extractors of some models.
        target = own.get(key) or own.get(key.replace(".", "_", 1))
        if target is not None or key not in behind:
            named[target or key] = tensor
    load_matching(encoder, named, source)


def _in_timms_layout(state: dict[str, Tensor], whole: Any) -> dict[str, Tensor]:
    """The state of a release, converted where timm knows how."""
    # Some of timm's modules have such a function.
    convert = getattr(sys.modules[type(whole).__module__], "checkpoint_filter_fn", None)
    try:
        return convert(state, whole) if convert else state
    except (KeyError, AttributeError, RuntimeError, ValueError, AssertionError):
        return state  # a file of another architecture; comparing it with the model as it is says so in one line
