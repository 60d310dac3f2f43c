from types import SimpleNamespace

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies import FSDPStrategy
from torch import Tensor
from torch.utils.data import DataLoader

from distill import EMA
from distill.errors import UserError


class Jump(pl.LightningModule):
    """A weight that is 0 until its second step takes it to 1."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        return -self.weight * (batch_idx == 1)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=1.0)


def averaged(decay: float, steps: int) -> float:
    """The average after a run of `steps` steps."""
    module = Jump()
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=1,
        callbacks=[EMA(decay)],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, DataLoader(torch.zeros(steps, 1)))  # type: ignore[arg-type]
    return module.weight.item()


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


def test_weights_in_parts_are_refused() -> None:
    trainer = SimpleNamespace(strategy=FSDPStrategy())
    with pytest.raises(UserError, match=r"FSDPStrategy, which divides the weights .*--trainer.strategy ddp"):
        EMA().setup(trainer, Jump(), "fit")  # type: ignore[arg-type]
