"""One feature of a teacher, matched by one of the student's maps.

Axes: B batch, C channels, H W the teacher's grid, h w the student's.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from distill.targets.live import LiveTargets
from distill.tasks.losses.features import LossSettings, combine, cosine, l1, position_losses
from distill.tasks.matching.adapter import Adapter
from distill.tasks.matching.baseline import TargetStatistics


class Match(nn.Module):
    """What compares one of the student's maps with one target.

    Args:
        targets: Where the target comes from.
        student_channels: Channels of the student's map.
        loss: Terms and their weights.

    Attributes:
        targets: Where the target comes from.
        adapter: Brings the student's map to the target's channels and grid.
        statistics: What is known of the target's raw maps; None before `calibrate`.
    """

    def __init__(self, targets: LiveTargets, student_channels: int, loss: LossSettings) -> None:
        super().__init__()
        self.targets = targets
        self.loss = loss
        self.adapter = Adapter(student_channels, targets.channels)
        self.statistics: TargetStatistics | None = None

    @property
    def known(self) -> TargetStatistics:
        """The statistics, once they are there."""
        assert self.statistics is not None
        return self.statistics

    @property
    def projects(self) -> bool:
        """Whether the adapter has weights, so that the student's own map is not the target."""
        return not isinstance(self.adapter.projection, nn.Identity)

    def calibrate(self, maps: Iterable[Tensor], images: int) -> None:
        """Takes the statistics of raw maps (k, C, H, W) of the first `images` images."""
        self.statistics = TargetStatistics.of(maps, images)

    def place(self, device: torch.device) -> None:
        """Moves the statistics, which are no buffers: checkpoints store them apart."""
        if self.statistics is not None:
            self.statistics = self.statistics.to(device)

    def target(self, raw: Tensor) -> Tensor:
        """Raw maps (B, C, H, W) as the loss sees them: standardised if the recipe says so."""
        return self.known.z_scores(raw) if self.loss.standardize else raw

    def raw(self, estimate: Tensor) -> Tensor:
        """The inverse of `target`."""
        return self.known.raw(estimate) if self.loss.standardize else estimate

    def estimate(self, maps: list[Tensor], grid: tuple[int, int]) -> Tensor:
        """The student's maps (B, C_i, h_i, w_i) as an estimate (B, C, *grid) of `target`."""
        estimate: Tensor = self.adapter(maps[-1], grid)
        return estimate

    def losses(self, maps: list[Tensor], target: Tensor, corrupted: Tensor | None) -> tuple[dict[str, Tensor], Tensor]:
        """The loss of a training step.

        Args:
            maps: The student's (B, C_i, h_i, w_i).
            target: From `target`, (B, C, H, W).
            corrupted: Fraction of each position that was corrupted (B, H, W), or None.

        Returns:
            Scalars: every term by name, and their weighted sum as "loss". And the L1 over the image-independent
            baseline's, without a gradient.
        """
        positions = position_losses(self.loss, self.estimate(maps, (target.shape[-2], target.shape[-1])), target)
        return combine(self.loss, positions, corrupted), positions["l1"].detach().mean() / self.baseline_l1(target)

    def scores(self, maps: list[Tensor], target: Tensor) -> dict[str, Tensor]:
        """What a validation measures of the student's maps: `l1`, `cosine`, and the baseline's L1, `trivial_l1`."""
        target = target.float()
        estimate = self.estimate(maps, (target.shape[-2], target.shape[-1])).float()
        return {
            "l1": l1(estimate, target).mean(),
            "cosine": 1 - cosine(estimate, target).mean(),
            "trivial_l1": self.baseline_l1(target),
        }

    def baseline_l1(self, target: Tensor) -> Tensor:
        """L1 (scalar) of the image-independent baseline on targets (B, C, H, W) as the loss sees them."""
        statistics = self.known.standardized() if self.loss.standardize else self.known
        return statistics.baseline_l1(target)
