"""Stops a run whose gradients are not finite, before its weights are lost."""

import math
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.precision import FSDPPrecision, MixedPrecision
from torch import Tensor

from distill.errors import UserError


class Diverged(UserError):
    """The gradients of a step are not finite.

    Args:
        message: For the user.
        step: The step, from 1.
    """

    def __init__(self, message: str, step: int) -> None:
        super().__init__(message)
        self.step = step


class FiniteGradients(pl.LightningModule):
    """Base of the tasks: clips gradients, and stops a run whose gradients are not finite.

    Both need the norm of all gradients, which is taken once. After gradients are averaged over processes, it is the
    same in all of them. On a CPU a gradient that is infinite or NaN stops the run at once. An accelerator would have to
    wait for its value, so there such gradients are set to zero, and the run stops when a step is logged or before a
    checkpoint is written. Half precision with a scaled loss is left alone: its scaler skips such steps and lowers the
    scale.
    """

    _first_bad: Tensor | None = None  # (2,): the first step whose gradients were not finite, or 0, and their norm

    def configure_gradient_clipping(
        self,
        optimizer: Any,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clips by `trainer.gradient_clip_val`, once the gradients are known to be finite.

        Raises:
            Diverged: A gradient is infinite or NaN, as it is wherever the loss is.
        """
        parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        plugin = self.trainer.precision_plugin
        scaled = isinstance(plugin, MixedPrecision | FSDPPrecision) and plugin.scaler is not None
        if scaled or not parameters:
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)
            return
        norm = torch.nn.utils.get_total_norm([p.grad for p in parameters])
        self._require_finite(norm, parameters)
        if gradient_clip_val and gradient_clip_algorithm in (None, "norm"):
            torch.nn.utils.clip_grads_with_norm_(parameters, gradient_clip_val, norm)
        else:
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def on_train_end(self) -> None:
        """Checks the steps since the last logged one."""
        self._stop_if_diverged()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Checks these steps before their weights are stored.

        Raises:
            Diverged: A gradient was infinite or NaN.
        """
        self._stop_if_diverged()

    def _require_finite(self, norm: Tensor, parameters: list[Any]) -> None:
        step = self.trainer.global_step + 1
        if norm.device.type == "cpu":
            if not math.isfinite(norm):
                self._first_bad = torch.stack([norm.new_tensor(step), norm])
            self._stop_if_diverged()
            return
        bad = ~norm.isfinite()
        for parameter in parameters:
            parameter.grad.masked_fill_(bad, 0)
        norm.masked_fill_(bad, 0)
        found = torch.stack([bad.to(norm) * step, norm])
        self._first_bad = found if self._first_bad is None else found.where(self._first_bad[0] == 0, self._first_bad)
        if step % max(1, self.trainer.log_every_n_steps) == 0:  # type: ignore[attr-defined]
            self._stop_if_diverged()

    def _stop_if_diverged(self) -> None:
        if self._first_bad is None:
            return
        step, norm = self._first_bad.tolist()
        self._first_bad = None
        if not step:
            return
        metrics = self.trainer.callback_metrics
        losses = {key: float(value) for key, value in metrics.items() if key.startswith("train/")}
        culprits = [f"{key} {value:g}" for key, value in losses.items() if not math.isfinite(value)]
        culprits.append("gradient not finite" if math.isfinite(norm) else f"gradient {norm:g}")
        raise Diverged(
            f"training diverged at step {int(step)} ({', '.join(culprits)}); lower model.optim.lr or lengthen "
            "model.optim.warmup_steps; what is in checkpoints/ is from before this step",
            int(step),
        )
