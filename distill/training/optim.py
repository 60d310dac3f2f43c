"""AdamW, layer-wise learning-rate decay, warm-up, cosine annealing."""

import logging
import math
from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl
import torch
from torch import nn

from distill.data.checks import at_least, positive
from distill.data.loader import limited
from distill.errors import UserError
from distill.parameter_groups import layer_depths, parameter_groups

logger = logging.getLogger(__name__)


@dataclass
class OptimSettings:
    """Settings of optimizer and schedule, counted in optimizer steps.

    Args:
        lr: Peak learning rate.
        weight_decay: Decoupled decay of matrices and kernels; norms, biases, positions, mask tokens and the
            state-space parameters A_log and D are never decayed.
        betas: AdamW's two momenta.
        warmup_steps: Steps of linear warm-up from 0.
        final_lr: Learning rate that the cosine reaches one step after the last.
        student_lr_factor: Learning rate of the student as a fraction of `lr`. Below 1 in fine-tuning, where the head
            is random and the student pretrained.
        layer_decay: Factor from each block of the student to the one below it, 1 for none; the last block is one step
            below the head. 0.65 to 0.9 where the student was pretrained.
    """

    lr: float = 4e-4
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.95)
    warmup_steps: int = 500
    final_lr: float = 1e-6
    student_lr_factor: float = 1.0
    layer_decay: float = 1.0

    def __post_init__(self) -> None:
        """Checks the ranges.

        Raises:
            UserError: A learning rate, decay or number of steps out of its range.
        """
        positive("model.optim.lr", self.lr)
        at_least("model.optim.weight_decay", self.weight_decay, 0)
        at_least("model.optim.final_lr", self.final_lr, 0)
        at_least("model.optim.student_lr_factor", self.student_lr_factor, 0)
        at_least("model.optim.warmup_steps", self.warmup_steps, 0)
        if not all(0 <= beta < 1 for beta in self.betas):
            raise UserError(f"model.optim.betas is {list(self.betas)}; both must lie in [0, 1)")
        if not 0 < self.layer_decay <= 1:
            raise UserError(f"model.optim.layer_decay is {self.layer_decay}; it must be above 0 and at most 1")


def lr_factor(step: int, total_steps: int, settings: OptimSettings) -> float:
    """Learning rate at `step` as a fraction of the peak."""
    if step < settings.warmup_steps:
        return (step + 1) / (settings.warmup_steps + 1)
    floor = settings.final_lr / settings.lr
    progress = (step - settings.warmup_steps) / max(1, total_steps - settings.warmup_steps)
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))


def batches_per_epoch(trainer: pl.Trainer, data: Any) -> int:
    """Batches of an epoch that this process trains on; `data` is the data module."""
    return limited(trainer, len(data.train_dataloader()))


def total_steps(trainer: pl.Trainer) -> int:
    """Optimizer steps of the whole run: `max_steps`, or fewer where `max_epochs` ends it.

    Instead of the trainer's `estimated_stepping_batches`, which must not be read before training starts: it sets up
    the training loader before the position stored in the checkpoint arrives, and the position is then never loaded
    (https://github.com/Lightning-AI/pytorch-lightning/issues/20550).
    """
    if trainer.max_epochs in (-1, None):
        return trainer.max_steps
    batches = batches_per_epoch(trainer, trainer.datamodule)  # type: ignore[attr-defined]
    steps = math.ceil(batches / trainer.accumulate_grad_batches) * trainer.max_epochs
    return steps if trainer.max_steps == -1 else min(steps, trainer.max_steps)


def build_optimizer(module: Any, total_steps: int, settings: OptimSettings) -> dict[str, Any]:
    """Optimizer and per-step schedule in the form that `LightningModule.configure_optimizers` returns.

    Args:
        module: A Lightning module with a `student`.
        total_steps: Optimizer steps of the whole run.
        settings: Rates and schedule.

    Raises:
        UserError: A decay by layer for a student without numbered blocks.

    Source: the decay by layer is BEiT's (https://arxiv.org/abs/2106.08254), after ELECTRA's.
    """
    if settings.warmup_steps >= total_steps:
        logger.warning(
            "model.optim.warmup_steps is %d, but the run has %d steps: it ends at %.0f %% of model.optim.lr",
            settings.warmup_steps,
            total_steps,
            100 * lr_factor(total_steps - 1, total_steps, settings),
        )
    factors = _student_factors(module.student, settings)
    groups = []
    for group in parameter_groups(module, settings.weight_decay):
        # Largest first: without a decay by layer there is one group of the student's, even if it is empty.
        for factor in sorted(set(factors.values()), reverse=True) or [settings.student_lr_factor]:
            student = [parameter for parameter in group["params"] if factors.get(id(parameter)) == factor]
            groups.append({**group, "params": student, "lr": settings.lr * factor})
        groups.append({**group, "params": [p for p in group["params"] if id(p) not in factors]})
    optimizer = torch.optim.AdamW(groups, lr=settings.lr, betas=settings.betas)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: lr_factor(step, total_steps, settings))
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def _student_factors(student: nn.Module, settings: OptimSettings) -> dict[int, float]:
    """Learning rate of each of the student's parameters, by its id, as a fraction of the peak."""
    depths = layer_depths(student)
    top = max(depths, default=0) + 1
    if settings.layer_decay < 1 and top == 1:
        raise UserError(
            f"model.optim.layer_decay is {settings.layer_decay}, but the parameters of {type(student).__name__} are in "
            "no numbered layers, blocks or stages; set it to 1, or use model.optim.student_lr_factor"
        )
    return {
        id(parameter): settings.student_lr_factor * settings.layer_decay ** (top - depth)
        for parameter, depth in zip(student.parameters(), depths, strict=True)
    }
