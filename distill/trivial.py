"""The solution that knows nothing of the image: the yardstick every distillation run is held against.

RS4D's own logs fall to an L1 of about 0.065 within 300 steps and sit there, some for good: it is the L1 of the
per-position median of the teacher's maps, which any network reaches by ignoring its input.

Axes: K images, C channels, H W the teacher's grid.
"""

from collections.abc import Iterable
from dataclasses import dataclass, fields

import torch
from torch import Tensor


@dataclass
class TargetStatistics:
    """What is known of the teacher's maps before training starts, over K images.

    Attributes:
        mean: Per-channel mean (C,).
        std: Per-channel standard deviation (C,).
        median: Per-position median (C, H, W): the best content-free prediction under L1.
    """

    mean: Tensor
    std: Tensor
    median: Tensor

    @classmethod
    def of(cls, maps: Iterable[Tensor], limit: int) -> "TargetStatistics":
        """Statistics of the first `limit` images in an iterable of batches (k, C, H, W)."""
        collected: list[Tensor] = []
        count = 0
        for batch in maps:
            collected.append(batch[: limit - count].float().cpu())
            count += len(collected[-1])
            if count >= limit:
                break
        stack = torch.cat(collected)
        std, mean = torch.std_mean(stack, dim=(0, 2, 3))
        return cls(mean=mean, std=std.clamp_min(1e-6), median=stack.median(dim=0).values)

    def standardized(self) -> "TargetStatistics":
        """The same statistics after z-scoring every channel."""
        median = (self.median - self.mean[:, None, None]) / self.std[:, None, None]
        return TargetStatistics(torch.zeros_like(self.mean), torch.ones_like(self.std), median)

    def rms(self) -> float:
        """Root mean square of the maps: the scale at which a student's output should start."""
        return float((self.mean.square() + self.std.square()).mean().sqrt())

    def to(self, device: torch.device) -> "TargetStatistics":
        """The same statistics on another device."""
        return TargetStatistics(**{f.name: getattr(self, f.name).to(device) for f in fields(self)})
