"""Exponential moving average of the weights, for validation, export and checkpoints."""

from collections.abc import Sequence

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import WeightAveraging
from pytorch_lightning.strategies import FSDPStrategy, ModelParallelStrategy
from torch import Tensor

from distill.errors import UserError


class EMA(WeightAveraging):
    """Exponential moving average of the weights, over about the last 1 / (1 - decay) steps.

    The decay at step n is min(decay, (1 + n) / (10 + n)), as in timm's `ModelEmaV3`: with a constant 0.999, the average
    of a run of a few hundred steps would still be mostly the initial weights. Buffers are not averaged.

    Args:
        decay: Highest decay, in [0, 1).

    Raises:
        UserError: A decay outside [0, 1).
    """

    def __init__(self, decay: float = 0.999) -> None:
        if not 0 <= decay < 1:
            raise UserError(f"the decay of trainer.callbacks EMA is {decay}; it must lie in [0, 1)")

        @torch.no_grad()
        def average(averaged: Sequence[Tensor], current: Sequence[Tensor], count: Tensor | int) -> None:
            # Not `count`, a copy on the device of the model's own counter, to read which would wait for the device.
            seen = int(count if self._average_model is None else self._average_model.n_averaged)
            weight = 1 - min(decay, (1 + seen) / (10 + seen))
            for mean, value in zip(averaged, current, strict=True):
                mean.lerp_(value.to(mean.device), weight)

        super().__init__(use_buffers=False, multi_avg_fn=average)

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Creates the average.

        Raises:
            UserError: The weights are in parts over processes.
        """
        if isinstance(trainer.strategy, FSDPStrategy | ModelParallelStrategy):
            raise UserError(
                f"trainer.strategy is {type(trainer.strategy).__name__}, which divides the weights over processes, and "
                "distill.EMA averages whole ones; use --trainer.strategy ddp, which students of this size need no more "
                "than, or leave EMA out of trainer.callbacks"
            )
        super().setup(trainer, pl_module, stage)

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Moves the average to the device of the model; Lightning makes it before the model is moved."""
        assert self._average_model is not None
        self._average_model.module.to(pl_module.device)  # not the counter, which is read in every step
