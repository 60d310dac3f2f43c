"""Adapts any backbone as a student, with the defaults of the contract.

Axes: B batch, C channels, H W pixels.
"""

import logging
from typing import Any

from torch import Tensor, nn

from distill.contracts import StudentBase
from distill.discovery import public_path
from distill.errors import UserError

logger = logging.getLogger(__name__)

_TAKEN = ("mean", "std", "init_args")
_IGNORED = ("forward_corrupted", "forward_visible", "rescale_output", "fold_output")


class PlainStudent(StudentBase):
    """A model that is no `StudentBase`, such as `timm.create_model(name, features_only=True)`.

    Its state dict has the model's own names, so that files fit the model with and without this class around it.

    Its `mean`, `std` and `init_args` are those of the student, where it has them. Its methods are not called: tokens to
    corrupt and the scale of the last map are for students that derive from `StudentBase`.

    Args:
        model: Maps images (B, 3, H, W) to a list of maps, and has a `feature_info` in timm's convention.

    Raises:
        UserError: It has no `feature_info`.
    """

    _PREFIX = "model."

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        # The one place that asks what a model has: it promises nothing.
        known: dict[str, Any] = {name: getattr(model, name) for name in _TAKEN if hasattr(model, name)}
        if not hasattr(model, "feature_info"):  # it comes from elsewhere and knows no contract
            raise UserError(
                f"{type(model).__name__} is no student: it has no feature_info; derive the class from "
                "distill.contracts.StudentBase, or build a timm model with features_only=True"
            )
        if ignored := [name for name in _IGNORED if name in dir(model)]:
            logger.warning(
                "%s has %s, which nothing calls: it is no StudentBase; derive it from distill.contracts.StudentBase",
                type(model).__name__,
                " and ".join(ignored),
            )
        self.model = model
        self.feature_info = model.feature_info  # type: ignore[assignment]
        vars(self).update(known)
        self.register_state_dict_post_hook(_without_prefix)
        self.register_load_state_dict_pre_hook(_with_prefix)

    @property
    def class_path(self) -> str:
        """The class path of the model."""
        return public_path(type(self.model))

    def forward(self, images: Tensor) -> list[Tensor]:
        """Maps normalised images (B, 3, H, W) to the model's maps (B, C_i, H_i, W_i)."""
        return list(self.model(images))


def as_student(model: nn.Module) -> StudentBase:
    """The model itself where it is a `StudentBase`, else a `PlainStudent` around it.

    Raises:
        UserError: It has no `feature_info`.
    """
    student = model if isinstance(model, StudentBase) else PlainStudent(model)
    student.require_attributes()
    return student


def _without_prefix(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    inner = prefix + PlainStudent._PREFIX
    for name in [name for name in state if name.startswith(inner)]:
        state[prefix + name.removeprefix(inner)] = state.pop(name)


def _with_prefix(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    own = {prefix + name for name in module.model.state_dict()}  # type: ignore[union-attr]
    for name in [name for name in state if name in own]:
        state[prefix + PlainStudent._PREFIX + name.removeprefix(prefix)] = state.pop(name)
