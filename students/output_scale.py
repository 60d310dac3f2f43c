"""The scale of a student's last map: its initial value, and the affine map folded into it at the end.

Axes: C channels.
"""

from abc import ABC
from typing import Any

import torch
from torch import Tensor

from distill.contracts import StudentBase


class OutputScale(StudentBase, ABC):
    """Base of students whose last map is the output of a norm with a gain for each channel.

    Such a student records whether its scale was loaded. This depends on the norm's gain: a file that holds it keeps
    its scale, whatever else it lacks, and a file without it leaves the student free to start at any scale.
    """

    _scale_loaded = False

    def output_norm(self) -> Any:
        """The norm after the last map, with a `weight` (C,)."""
        raise NotImplementedError

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any) -> None:
        """Called by `load_state_dict`, on whichever module."""
        norm = self.output_norm()
        name = next(name for name, module in self.named_modules() if module is norm)
        self._scale_loaded |= f"{prefix}{name}.weight" in state_dict
        super()._load_from_state_dict(state_dict, prefix, *rest)

    @torch.no_grad()
    def rescale_output(self, rms: float) -> bool:
        """Makes the last map start at a root mean square of `rms`, unless its scale was loaded or trained.

        Distillation calls it with the teacher's: otherwise the first hundred steps only shrink the scale.

        Returns:
            Whether it did.
        """
        norm = self.output_norm()
        fresh = not self._scale_loaded and torch.equal(norm.weight, torch.ones_like(norm.weight))
        if fresh:
            norm.weight.fill_(rms)
        return fresh


class AffineOutputScale(OutputScale, ABC):
    """Base of students whose last norm also has a bias (C,)."""

    @torch.no_grad()
    def fold_output(self, scale: Tensor, shift: Tensor) -> bool:
        """Multiplies the last map by `scale` (C,) and adds `shift` (C,), by the norm's own weights."""
        norm = self.output_norm()
        norm.weight.mul_(scale.to(norm.weight))
        norm.bias.mul_(scale.to(norm.bias)).add_(shift.to(norm.bias))
        return True
