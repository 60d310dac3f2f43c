"""A run that has diverged stops before its weights are lost."""

import math

import pytorch_lightning as pl
import torch

from distill.errors import UserError


def require_finite_gradients(module: pl.LightningModule) -> None:
    """Stops a run whose gradients are not finite. Call it from `on_before_optimizer_step`.

    There, because weights and checkpoints still hold the step before, and because gradients, once averaged over
    processes, are the same in all of them. Half precision with a scaled loss is left alone: its scaler skips such steps
    and lowers the scale.

    Raises:
        UserError: A gradient is infinite or NaN, as it is wherever the loss is.
    """
    if getattr(module.trainer.precision_plugin, "scaler", None) is not None:
        return
    norm = float(torch.nn.utils.get_total_norm([p.grad for p in module.parameters() if p.grad is not None]))
    if math.isfinite(norm):
        return
    losses = {key: float(value) for key, value in module.trainer.callback_metrics.items() if key.startswith("train/")}
    culprits = [f"{key} {value:g}" for key, value in losses.items() if not math.isfinite(value)]
    raise UserError(
        f"training diverged at step {module.trainer.global_step + 1} ({', '.join([*culprits, f'gradient {norm:g}'])}); "
        "lower model.optim.lr or lengthen model.optim.warmup_steps; what is in checkpoints/ is from before this step"
    )
