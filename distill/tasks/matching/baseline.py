"""Image-independent baseline: the error that a student reaches by ignoring its input.

RS4D's own logs fall to an L1 of about 0.065 within 300 steps and stay there, some to the end: it is the L1 of the
per-position median of the teacher's maps, which any network reaches by ignoring its input.

Axes: K images, C channels, H W the teacher's grid.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from distill.tasks.matching.standardize import phi_s, rotate

# A channel that (almost) never changes has no scale of its own; below this share of the median standard deviation, its
# noise would weigh as much as another channel's signal.
_STD_FLOOR = 0.1
_CHUNK = 32  # channels sorted at a time


@dataclass
class TargetStatistics:
    """Statistics of the teacher's maps over K images, taken before training.

    Attributes:
        mean: Per-channel mean (C,).
        std: Per-channel standard deviation (C,), at least a tenth of the median channel's.
        median: Per-position median (C, H, W), of an odd number of images: the best image-independent prediction under
            L1.
        unbias: Per-channel factor (C,) from the L1 of `median` on other images to that of the median of infinitely many
            images, which is lower. 1 in checkpoints that do not have it.
        rotation: Of PHI-S (C, C): all others are then those of the rotated maps, and all of `std` are equal. Without
            elements where maps are not rotated.
    """

    mean: Tensor
    std: Tensor
    median: Tensor
    unbias: Tensor = field(default_factory=lambda: torch.ones(()))
    rotation: Tensor = field(default_factory=lambda: torch.empty(0))

    @classmethod
    def of(cls, maps: Iterable[Tensor], limit: int, rotated: bool = False) -> "TargetStatistics":
        """Statistics of the first `limit` images in an iterable of batches (k, C, H, W).

        Args:
            maps: The batches.
            limit: Images.
            rotated: Whether to rotate the channels by PHI-S.

        Raises:
            UserError: There is no such rotation for so many channels.
        """
        collected: list[Tensor] = []
        count = 0
        for batch in maps:
            collected.append(batch[: limit - count].float().cpu())
            count += len(collected[-1])
            if count >= limit:
                break
        stack = torch.cat(collected)
        rotation = phi_s(stack) if rotated else torch.empty(0)
        if rotated:
            stack = rotate(rotation, stack)
        std, mean = torch.std_mean(stack, dim=(0, 2, 3), correction=1 if stack[:, 0].numel() > 1 else 0)
        if rotated:
            std = std.square().mean().sqrt().expand_as(std).clone()
        std = std.clamp_min(max(_STD_FLOOR * float(std.median()), 1e-6))
        parts = [_median(chunk) for chunk in stack.split(_CHUNK, dim=1)]
        median, unbias = (torch.cat(part) for part in zip(*parts, strict=True))
        return cls(mean, std, median, unbias, rotation)

    def z_scores(self, maps: Tensor) -> Tensor:
        """Maps (..., C, H, W), standardised by channel, after their rotation if there is one."""
        if self.rotation.numel():
            maps = rotate(self.rotation, maps)
        return (maps - self.mean[:, None, None]) / self.std[:, None, None]

    def raw(self, scores: Tensor) -> Tensor:
        """The inverse of `z_scores`."""
        maps = scores * self.std[:, None, None] + self.mean[:, None, None]
        return rotate(self.rotation.T, maps) if self.rotation.numel() else maps

    def standardized(self) -> "TargetStatistics":
        """The same statistics after z-scoring every channel."""
        median = (self.median - self.mean[:, None, None]) / self.std[:, None, None]
        return TargetStatistics(torch.zeros_like(self.mean), torch.ones_like(self.std), median, self.unbias)

    def rms(self) -> float:
        """Root mean square of the maps: the scale at which a student's output should start."""
        return float((self.mean.square() + self.std.square()).mean().sqrt())

    def baseline_l1(self, target: Tensor) -> Tensor:
        """L1 (scalar) of the image-independent baseline on maps (B, C, H', W'), free of the bias of few images."""
        median = torch.nn.functional.interpolate(self.median[None], target.shape[-2:], mode="bilinear")
        by_channel = (median - target.float()).abs().mean(dim=(0, 2, 3))
        return (self.unbias * by_channel).mean()

    def to(self, device: torch.device) -> "TargetStatistics":
        """The same statistics on another device."""
        return TargetStatistics(**{name: value.to(device) for name, value in vars(self).items()})


def _median(stack: Tensor) -> tuple[Tensor, Tensor]:
    """The median (C, H, W) of images (K, C, H, W), an odd number of them, and its `unbias` (C,).

    The median of n images differs from that of all images, which adds about a / n to its L1 on other images and takes
    as much off its own. With an even number e of images, L1 on its own images is L - a / e, and leave-one-out, with
    medians of e - 1 images, L + a / (e - 1): both together tell L and a.
    """
    count = len(stack)
    even, odd = count - count % 2, count - (count + 1) % 2
    median = stack[:odd].median(dim=0).values
    if even == 0:
        return median, torch.ones(stack.shape[1])
    ranked = stack[:even].sort(dim=0).values
    low, high = ranked[even // 2 - 1], ranked[even // 2]
    own = (ranked[even // 2 :].sum(dim=0) - ranked[: even // 2].sum(dim=0)) / even
    left_out = own + (high - low) / 2  # without an image of the lower half the median is `high`, else `low`
    own, left_out = own.mean(dim=(1, 2)), left_out.mean(dim=(1, 2))
    ideal = (even * own + (even - 1) * left_out) / (2 * even - 1)
    expected = ideal + (left_out - ideal) * (even - 1) / odd
    return median, torch.where(expected > 0, ideal / expected.clamp_min(torch.finfo(torch.float32).tiny), 1.0)
