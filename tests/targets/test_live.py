import pytest
import torch

from distill.errors import UserError
from distill.targets.live import LiveTargets
from tests.targets.test_teacher_view import CASES, Places


@pytest.mark.parametrize(("side", "stride", "patch"), CASES)
def test_the_grid_is_known_without_the_teacher(side: int, stride: int, patch: int) -> None:
    targets = LiveTargets(Places(patch), "embedding", stride)
    for height, width in ((side, side), (side + 8, side - 24)):
        assert targets.grid(height, width) == targets(torch.rand(1, 3, height, width)).shape[-2:]


def test_a_target_has_a_name_and_channels() -> None:
    targets = LiveTargets(Places(16), "embedding", 16)
    assert (targets.name, targets.channels) == ("Places's embedding", 3)
    with pytest.raises(UserError, match=r"model\.target: .*embeding|did you mean embedding"):
        LiveTargets(Places(16), "embeding", 16)
