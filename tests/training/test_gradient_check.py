from types import SimpleNamespace

import pytest
import torch
from pytorch_lightning.plugins.precision import MixedPrecision
from torch.amp import GradScaler

from distill.errors import UserError
from distill.training.gradient_check import FiniteGradients


class Task(FiniteGradients):
    """One weight whose gradient is infinite."""

    def __init__(self, plugin: MixedPrecision) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.weight.grad = torch.tensor(torch.inf)
        trainer = SimpleNamespace(precision_plugin=plugin, global_step=4, callback_metrics={}, gradient_clip_val=None)
        trainer.gradient_clip_algorithm = None
        object.__setattr__(self, "_trainer", trainer)


def test_a_scaled_loss_is_left_to_its_scaler() -> None:
    scaled = Task(MixedPrecision("16-mixed", "cpu", GradScaler("cpu")))
    scaled.configure_gradient_clipping(torch.optim.SGD(scaled.parameters()))
    plain = Task(MixedPrecision("bf16-mixed", "cpu"))
    with pytest.raises(UserError, match=r"diverged at step 5 \(gradient inf\)"):
        plain.configure_gradient_clipping(torch.optim.SGD(plain.parameters()))
