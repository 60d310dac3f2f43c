"""AdamW with the decay kept off what must not shrink, and a linear warm-up followed by a cosine."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from distill.errors import UserError


@dataclass
class OptimSettings:
    """Optimizer and schedule, counted in optimizer steps.

    Args:
        lr: Peak learning rate.
        weight_decay: Decoupled decay of matrices and kernels; norms, biases, positions, mask tokens and the
            state-space parameters A_log and D are never decayed.
        betas: AdamW's two momenta.
        warmup_steps: Steps of linear warm-up from 0.
        final_lr: Learning rate at the last step.
        student_lr_factor: Learning rate of the student as a fraction of `lr`. Below 1 in fine-tuning, where the head
            starts from nothing and the student from something.
    """

    lr: float = 4e-4
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.95)
    warmup_steps: int = 500
    final_lr: float = 1e-6
    student_lr_factor: float = 1.0

    def __post_init__(self) -> None:
        """Checks the ranges.

        Raises:
            UserError: A learning rate or a number of steps that cannot be.
        """
        if self.lr <= 0:
            raise UserError(f"model.optim.lr is {self.lr}; it must be positive")
        if self.weight_decay < 0 or self.student_lr_factor < 0 or not all(0 <= beta < 1 for beta in self.betas):
            raise UserError(
                f"model.optim has weight_decay {self.weight_decay}, student_lr_factor {self.student_lr_factor} "
                f"and betas {self.betas}; the first two must be 0 or more, betas in [0, 1)"
            )
        if self.warmup_steps < 0:
            raise UserError(f"model.optim.warmup_steps is {self.warmup_steps}; it must be 0 or more")


def _undecayed(module: nn.Module) -> Iterator[nn.Parameter]:
    for owner in module.modules():
        listed: Any = getattr(owner, "no_weight_decay", set)
        names = listed()
        for name, parameter in owner.named_parameters():
            if name in names:
                yield parameter
    for parameter in module.parameters():
        if parameter.ndim <= 1 or getattr(parameter, "_no_weight_decay", False):
            yield parameter


def parameter_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Splits the trainable parameters of `module` into decayed and undecayed ones.

    Undecayed are vectors and scalars (norms, biases), parameters marked `_no_weight_decay`, and those that a submodule
    lists in timm's `no_weight_decay()`.
    """
    undecayed = {id(parameter) for parameter in _undecayed(module)}
    trainable = [parameter for parameter in module.parameters() if parameter.requires_grad]
    return [
        {"params": [p for p in trainable if id(p) not in undecayed], "weight_decay": weight_decay},
        {"params": [p for p in trainable if id(p) in undecayed], "weight_decay": 0.0},
    ]


def lr_factor(step: int, total_steps: int, settings: OptimSettings) -> float:
    """Learning rate at `step` as a fraction of the peak."""
    if step < settings.warmup_steps:
        return (step + 1) / (settings.warmup_steps + 1)
    floor = settings.final_lr / settings.lr
    progress = (step - settings.warmup_steps) / max(1, total_steps - settings.warmup_steps)
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))


def build_optimizer(module: Any, total_steps: int, settings: OptimSettings) -> dict[str, Any]:
    """Optimizer and per-step schedule in the form that `LightningModule.configure_optimizers` returns.

    Args:
        module: A Lightning module with a `student`.
        total_steps: Optimizer steps of the whole run.
        settings: Rates and schedule.
    """
    own = {id(parameter) for parameter in module.student.parameters()}
    groups = []
    for group in parameter_groups(module, settings.weight_decay):
        student = [parameter for parameter in group["params"] if id(parameter) in own]
        others = [parameter for parameter in group["params"] if id(parameter) not in own]
        groups.append({**group, "params": student, "lr": settings.lr * settings.student_lr_factor})
        groups.append({**group, "params": others})
    optimizer = torch.optim.AdamW(groups, lr=settings.lr, betas=settings.betas)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: lr_factor(step, total_steps, settings))
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
