"""A model that is no `StudentBase` gets the defaults of the contract, or what it says itself."""

import pytest
import torch
from timm.data.constants import IMAGENET_DEFAULT_MEAN
from timm.models import FeatureInfo
from torch import Tensor, nn

from distill.errors import UserError
from distill.plain_student import as_student


class Own(nn.Module):
    """A backbone of a user's."""

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, width, 8, 8)
        self.feature_info = FeatureInfo([{"num_chs": width, "reduction": 8, "module": "patch"}], (0,))

    def forward(self, images: Tensor) -> list[Tensor]:
        return [self.patch(images)]


class Telling(Own):
    """One that says how it was built and what it was trained on."""

    mean, std = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)

    def __init__(self, width: int = 4) -> None:
        super().__init__(width)
        self.init_args = {"width": width, "variant": "narrow"}


def test_what_a_model_leaves_unsaid_has_defaults() -> None:
    student = as_student(Own())
    assert (student.mean, student.init_args, student.token_channels) == (IMAGENET_DEFAULT_MEAN, {}, None)
    assert (student.label, student.class_path) == ("Own", f"{__name__}.Own")
    assert as_student(student) is student


def test_what_a_model_says_holds() -> None:
    student = as_student(Telling(6))
    assert (student.mean, student.std) == (Telling.mean, Telling.std)
    assert student.init_args == {"width": 6, "variant": "narrow"}
    assert student.label == "Telling narrow"
    assert student(torch.zeros(1, 3, 16, 16))[0].shape == (1, 6, 2, 2)


def test_methods_of_the_contract_are_named_that_nothing_calls(caplog: pytest.LogCaptureFixture) -> None:
    class Scaled(Own):
        def rescale_output(self, rms: float) -> bool:
            raise AssertionError

    as_student(Own())
    assert not caplog.messages
    assert not as_student(Scaled()).rescale_output(1.0)
    assert caplog.messages == [
        "Scaled has rescale_output, which nothing calls: it is no StudentBase; derive it from "
        "distill.contracts.StudentBase"
    ]


def test_a_model_without_feature_info_is_no_student() -> None:
    with pytest.raises(UserError, match="Linear is no student: it has no feature_info"):
        as_student(nn.Linear(1, 1))
