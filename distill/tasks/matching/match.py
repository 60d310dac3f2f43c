"""One feature of a teacher, matched by one of the student's maps.

Axes: B batch, C channels, H W the teacher's grid, h w the student's.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from distill.targets.live import LiveTargets
from distill.tasks.losses.features import LossSettings, combine, cosine, evaluate, l1
from distill.tasks.losses.schedule import Schedule, Weight, weight_at
from distill.tasks.matching.adapter import Adapter
from distill.tasks.matching.baseline import TargetStatistics


class Match(nn.Module):
    """Compares one of the student's maps with one target.

    Args:
        targets: Where the target comes from.
        channels: Channels of each of the student's maps.
        loss: Terms and their weights.
        adapter: Name of the projection; see `distill.tasks.matching.adapter`.
        tap: Which of the student's maps.
        weight: Of this loss beside others.
        name: What losses and metrics are called by; empty for the main one.

    Attributes:
        targets: Where the target comes from.
        adapter: Brings the student's map to the target's channels and grid.
        generators: What the terms train beside the student.
        statistics: What is known of the target's raw maps; None before `calibrate`.
    """

    def __init__(
        self,
        targets: LiveTargets,
        channels: Sequence[int],
        loss: LossSettings,
        adapter: str = "auto",
        tap: int = -1,
        weight: Weight = 1.0,
        name: str = "",
    ) -> None:
        super().__init__()
        self.targets = targets
        self.loss = loss
        self.tap, self.weight, self.name = tap, weight, name
        self.adapter = Adapter(channels[tap], targets.channels, adapter)
        self.generators = loss.generators(targets.channels)
        self.statistics: TargetStatistics | None = None

    @property
    def known(self) -> TargetStatistics:
        """The statistics; an error before `calibrate`."""
        assert self.statistics is not None
        return self.statistics

    @property
    def projects(self) -> bool:
        """Whether the adapter has weights, so that the student's own map is not the target."""
        return not isinstance(self.adapter.projection, nn.Identity)

    @property
    def standardizes(self) -> bool:
        """Whether maps are compared in another scale than the teacher's."""
        return self.loss.standardize != "none"

    def key(self, name: str) -> str:
        """The name of a loss or a metric of this match: `l1`, or `<target>/l1` of a further one."""
        return f"{self.name}/{name}" if self.name else name

    def calibrate(self, maps: Iterable[Tensor], images: int) -> None:
        """Takes the statistics of raw maps (k, C, H, W) of the first `images` images."""
        self.statistics = TargetStatistics.of(maps, images, rotated=self.loss.standardize == "phi_s")

    def place(self, device: torch.device) -> None:
        """Moves the statistics to a device; they are no buffers, because checkpoints store them separately."""
        if self.statistics is not None:
            self.statistics = self.statistics.to(device)

    def target(self, raw: Tensor) -> Tensor:
        """Raw maps (B, C, H, W) as the loss takes them: standardised if the recipe says so."""
        return self.known.z_scores(raw) if self.standardizes else raw

    def raw(self, estimate: Tensor) -> Tensor:
        """The inverse of `target`."""
        return self.known.raw(estimate) if self.standardizes else estimate

    def estimate(self, maps: list[Tensor], grid: tuple[int, int]) -> Tensor:
        """The student's maps (B, C_i, h_i, w_i) as an estimate (B, C, *grid) of `target`."""
        estimate: Tensor = self.adapter(maps[self.tap], grid)
        return estimate

    def losses(
        self, maps: list[Tensor], target: Tensor, corrupted: Tensor | None, step: int = 0
    ) -> tuple[dict[str, Tensor], Tensor]:
        """The loss of a training step.

        Args:
            maps: The student's (B, C_i, h_i, w_i).
            target: From `target`, (B, C, H, W).
            corrupted: Fraction of each position that was corrupted (B, H, W), or None.
            step: The optimizer step, for weights that change.

        Returns:
            Scalars: every term by name, and their weighted sum as "loss". And the L1 over the image-independent
            baseline's, without a gradient.
        """
        estimate = self.estimate(maps, (target.shape[-2], target.shape[-1]))
        scale = self._scale()
        parts = evaluate(self.loss, estimate, target, scale.mean, self.generators)
        l1_ratio = parts["l1"].detach().mean() / scale.baseline_l1(target)
        return combine(self.loss, parts, corrupted, step), l1_ratio

    def scheduled(self, step: int) -> dict[str, float]:
        """The weights that follow a schedule, by name."""
        weights = {self.key(name): weight for name, weight in (*self.loss.terms.items(), ("loss", self.weight))}
        return {name: weight_at(weight, step) for name, weight in weights.items() if isinstance(weight, Schedule)}

    def scores(self, maps: list[Tensor], target: Tensor) -> dict[str, Tensor]:
        """The validation scores of the student's maps: `l1`, `cosine`, and the baseline's L1, `trivial_l1`."""
        target = target.float()
        estimate = self.estimate(maps, (target.shape[-2], target.shape[-1])).float()
        return {
            "l1": l1(estimate, target).mean(),
            "cosine": 1 - cosine(estimate, target).mean(),
            "trivial_l1": self.baseline_l1(target),
        }

    def baseline_l1(self, target: Tensor) -> Tensor:
        """L1 (scalar) of the image-independent baseline on targets (B, C, H, W) as the loss sees them."""
        return self._scale().baseline_l1(target)

    def _scale(self) -> TargetStatistics:
        """The statistics of targets as the loss sees them."""
        return self.known.standardized() if self.standardizes else self.known
