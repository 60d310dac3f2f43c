import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from distill import EMA
from distill.errors import UserError


def averaged(decay: float, steps: int) -> float:
    """The average after `steps` steps of a weight that jumps from 0 to 1 after its first."""
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    average = AveragedModel(model, use_buffers=False, **EMA(decay)._kwargs)
    for _ in range(steps):
        average.update_parameters(model)
        nn.init.ones_(model.weight)
    return float(average.module.weight)


def test_a_short_run_has_left_its_initial_weights() -> None:
    assert averaged(0.999, 100) > 0.9
    assert 1 - averaged(0.999, 100) > 0, "no average at all"


def test_a_long_run_reaches_the_decay() -> None:
    torch.testing.assert_close(
        averaged(0.5, 12),
        1 - (2 / 11) * (3 / 12) * (4 / 13) * (5 / 14) * (6 / 15) * (7 / 16) * (8 / 17) * (9 / 18) * 0.5**3,
    )


def test_a_decay_of_one_is_refused() -> None:
    with pytest.raises(UserError, match="decay"):
        EMA(1.0)
